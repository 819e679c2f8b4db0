/* A host that a test drives input by input: nothing happens in it but what the test says. Its "plugin" counts records
 * by the one letter that is their key; what it does for a record stands in the key, too:
 *
 *   a to m   emits [key, count] to the record's topic
 *   n to p   emits the same to the other topic of the scene
 *   q to s   emits nothing
 *   t        is refused
 *   u        sets timer 1, to fire after 10 ms, and emits nothing
 *   v        fails
 *   y        emits two records to its topic
 *   z        emits the record as it is, which has a value of nils
 *
 * With is_sparing, z is told as a process tells it: a reference to the record, and with that it is over; and a timer
 * is answered with a reference to a topic, which it does not have.
 *
 * A request does what its letter says, too, and replies with the count; w not at all, x twice.
 * A timer that fires counts as '!'. The state is the counts; a snapshot of it is those bytes. */
#ifndef TESTS_UNIT_ACTORS_PLUGIN_FAKE_HOST_H
#define TESTS_UNIT_ACTORS_PLUGIN_FAKE_HOST_H

#include "actors/plugin/host.h"
#include "actors/plugin/plugin_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FAKE_INPUTS_MAX = 8192, FAKE_OUTPUTS_MAX = 64, FAKE_LETTERS = 128, FAKE_HOSTS_MAX = 64 };

struct fake_counts {
    uint32_t of[FAKE_LETTERS];
};

struct fake_input {
    enum plugin_input_kind kind;
    uint64_t number;
    uint32_t message_kind, attempt;
    char key, topic[16];
};

/* Which of its settings the next instances have. */
struct fake_options {
    bool has_no_snapshot;
    bool is_processor;     /* see follow_scene.h: emits to t/0 where a fold does to the record's topic */
    bool is_refilling;     /* told to forget a topic, it emits a record to it */
    bool is_slow_to_start; /* the test says when it is there: fake_start */
    bool is_called;        /* handles at once what it is called with, as the thread host does */
    bool is_prompt;        /* ... and what it is given */
    bool is_sparing;       /* see above */
    uint64_t emit_bytes_per_s;
    enum weir_error give_error; /* WEIR_CLOSED: it has ended */
    enum plugin_input_kind give_error_of;
    size_t give_error_count; /* so many times */
};

struct plugin_host {
    struct fake_options *options;
    struct plugin_bell bell;
    struct fake_input inputs[FAKE_INPUTS_MAX];
    const struct weir_message *called; /* with that, now */
    size_t given, handled;
    struct plugin_output outputs[FAKE_OUTPUTS_MAX];
    uint8_t keys[FAKE_OUTPUTS_MAX], values[FAKE_OUTPUTS_MAX][8];
    size_t put, taken;
    struct fake_counts counts, told, restored; /* told: the snapshot's bytes */
    bool has_ended;
    struct plugin_end end;
    char text[PLUGIN_TEXT_SIZE];
};

/* All that are there; a test's own. */
static struct {
    struct fake_options options;
    struct plugin_host *hosts[FAKE_HOSTS_MAX]; /* by when they were started; NULL: stopped */
    size_t started;
    const char *other_topic;
} fakes;

static inline struct plugin_output *fake_put(struct plugin_host *host, enum plugin_output_kind kind, uint64_t number)
{
    assert_true(host->put - host->taken < FAKE_OUTPUTS_MAX);
    struct plugin_output *output = &host->outputs[host->put++ % FAKE_OUTPUTS_MAX];
    plugin_output_init(output, kind, number);
    return output;
}

static inline void fake_done(struct plugin_host *host, uint64_t number, enum weir_actor_result result, const char *text)
{
    struct plugin_output *done = fake_put(host, OUTPUT_DONE, number);
    done->result = (uint32_t)result;
    (void)snprintf(host->text, sizeof host->text, "%s", text);
    done->text = view_of(host->text, strlen(host->text));
}

/* It is there. */
static inline void fake_start(struct plugin_host *host)
{
    fake_done(host, 0, WEIR_ACTOR_OK, "fake 1");
    host->outputs[(host->put - 1) % FAKE_OUTPUTS_MAX].has_snapshot = !host->options->has_no_snapshot;
}

static inline enum weir_error fake_host_start(const struct plugin_spec *spec, struct plugin_bell bell,
                                              struct plugin_host **out, char *why, size_t why_size)
{
    (void)spec, (void)why, (void)why_size;
    struct plugin_host *host = calloc(1, sizeof *host);
    assert_non_null(host);
    host->bell = bell;
    host->options = &fakes.options;
    assert_true(fakes.started < FAKE_HOSTS_MAX);
    fakes.hosts[fakes.started++] = host;
    if (!fakes.options.is_slow_to_start)
        fake_start(host);
    *out = host;
    return WEIR_OK;
}

static inline void fake_handle(struct plugin_host *host);

static inline enum weir_error fake_host_give(struct plugin_host *host, const struct plugin_input *input)
{
    const struct weir_message *message = &input->message;
    struct fake_options *options = host->options;
    if (host->has_ended)
        return WEIR_CLOSED;
    if (options->give_error_count > 0 && options->give_error_of == input->kind) {
        options->give_error_count--;
        host->has_ended = options->give_error == WEIR_CLOSED;
        return options->give_error;
    }
    assert_true(host->given < FAKE_INPUTS_MAX);
    assert_int_equal(input->number, host->given + 1);
    struct fake_input *kept = &host->inputs[host->given++];
    *kept = (struct fake_input){.kind = input->kind, .number = input->number};
    if (input->kind == INPUT_RESTORE) {
        assert_int_equal(input->bytes.size, sizeof host->restored);
        memcpy(&host->restored, input->bytes.data, sizeof host->restored);
    }
    if (input->kind != INPUT_MESSAGE) {
        if (options->is_prompt)
            fake_handle(host);
        return WEIR_OK;
    }
    kept->message_kind = message->kind;
    kept->attempt = message->attempt;
    kept->key = message->key.size > 0 ? *(const char *)message->key.data : '!';
    if (message->kind == WEIR_MESSAGE_ASK) /* a str of one letter */
        kept->key = ((const char *)message->value.data)[1];
    (void)snprintf(kept->topic, sizeof kept->topic, "%.*s", (int)message->topic.size,
                   message->topic.size > 0 ? (const char *)message->topic.data : "");
    if (options->is_prompt)
        fake_handle(host);
    return WEIR_OK;
}

static inline void fake_host_flush(struct plugin_host *host) { (void)host; }

static inline enum weir_error fake_host_take(struct plugin_host *host, struct plugin_output *out,
                                             struct plugin_end *end)
{
    if (host->taken < host->put) {
        *out = host->outputs[host->taken++ % FAKE_OUTPUTS_MAX];
        return WEIR_OK;
    }
    if (!host->has_ended)
        return WEIR_AGAIN;
    *end = host->end;
    return WEIR_CLOSED;
}

static inline void fake_host_stop(struct plugin_host **pointer)
{
    for (size_t i = 0; i < fakes.started; i++)
        if (fakes.hosts[i] == *pointer)
            fakes.hosts[i] = NULL;
    free(*pointer);
    *pointer = NULL;
}

/* ------------------------------------------------------------------------------------- what it does */

/* It has ended, behind what it has put. */
static inline void fake_end(struct plugin_host *host, const char *text)
{
    host->has_ended = true;
    host->end.cause = WEIR_FAILED;
    (void)snprintf(host->end.text, sizeof host->end.text, "%s", text);
}

static inline struct plugin_output *fake_put_count(struct plugin_host *host, enum plugin_output_kind kind,
                                                   const struct fake_input *input)
{
    struct plugin_output *output = fake_put(host, kind, input->number);
    size_t at = (host->put - 1) % FAKE_OUTPUTS_MAX;
    uint32_t count = host->counts.of[(unsigned char)input->key];
    host->values[at][0] = 0xcd; /* uint 16 */
    host->values[at][1] = (uint8_t)(count >> 8);
    host->values[at][2] = (uint8_t)count;
    output->value = view_of(host->values[at], 3);
    return output;
}

static inline void fake_emit(struct plugin_host *host, const struct fake_input *input, const char *topic)
{
    struct plugin_output *output = fake_put_count(host, OUTPUT_EMIT, input);
    size_t at = (host->put - 1) % FAKE_OUTPUTS_MAX;
    host->keys[at] = (uint8_t)input->key;
    output->topic = view_text(topic);
    output->has_key = true;
    output->key = view_of(&host->keys[at], 1);
}

static inline void fake_emit_record(struct plugin_host *host, const struct fake_input *input)
{
    fake_emit(host, input, input->topic);
    size_t at = (host->put - 1) % FAKE_OUTPUTS_MAX;
    struct plugin_output *output = &host->outputs[at];
    memset(host->values[at], 0xc0, 3);
    if (host->called != NULL) {
        output->topic = view_of(host->called->topic.data, host->called->topic.size);
        output->key = view_of(host->called->key.data, host->called->key.size);
        output->value = view_of(host->called->value.data, host->called->value.size);
    }
}

/* is_true: of what there is in the record. */
static inline void fake_refer(struct plugin_host *host, const struct fake_input *input, bool is_true)
{
    struct plugin_output *output = fake_put(host, OUTPUT_EMIT, input->number);
    output->same = OUTPUT_SAME_TOPIC | OUTPUT_SAME_KEY | OUTPUT_SAME_VALUE;
    output->has_key = output->is_last = true;
    if (is_true)
        return;
    output->same = OUTPUT_SAME_TOPIC;
    output->has_key = false;
    output->value = view_text("\xc0");
}

static inline void fake_message(struct plugin_host *host, const struct fake_input *input)
{
    if (host->options->is_sparing && (input->key == 'z' || input->message_kind == WEIR_MESSAGE_TIMER)) {
        fake_refer(host, input, input->key == 'z');
        return;
    }
    if (input->key == 't') {
        fake_done(host, input->number, WEIR_ACTOR_REFUSED, "it does not like t");
        return;
    }
    if (input->key == 'v') {
        fake_done(host, input->number, WEIR_ACTOR_FAILED, "it fails of v");
        fake_end(host, "its call failed");
        return;
    }
    host->counts.of[(unsigned char)input->key]++;
    const char *topic = host->options->is_processor ? "t/0" : input->topic;
    bool is_refill = host->options->is_refilling && input->message_kind == WEIR_MESSAGE_RESET;
    if ((input->key >= 'a' && input->key <= 'm') || is_refill)
        fake_emit(host, input, topic);
    if (input->key >= 'n' && input->key <= 'p')
        fake_emit(host, input, fakes.other_topic);
    for (int i = 0; i < 2 && input->key == 'y'; i++)
        fake_emit(host, input, topic);
    if (input->key == 'z')
        fake_emit_record(host, input);
    if (input->key == 'u') {
        struct plugin_output *timer = fake_put(host, OUTPUT_TIMER, input->number);
        timer->timer = 1;
        timer->delay_ms = 10;
    }
    for (int i = input->key == 'w' ? 2 : input->key != 'x'; i < 2 && input->message_kind == WEIR_MESSAGE_ASK; i++)
        fake_put_count(host, OUTPUT_REPLY, input);
    fake_done(host, input->number, WEIR_ACTOR_OK, "");
}

/* Handles the next input that it was given, whole. */
static inline void fake_handle(struct plugin_host *host)
{
    assert_true(host->handled < host->given);
    const struct fake_input *input = &host->inputs[host->handled++];
    if (input->kind == INPUT_MESSAGE) {
        fake_message(host, input);
        return;
    }
    if (input->kind == INPUT_RESTORE)
        host->counts = host->restored;
    if (input->kind == INPUT_SNAPSHOT) {
        host->told = host->counts;
        fake_put(host, OUTPUT_SNAPSHOT, input->number)->value = view_of(&host->told, sizeof host->told);
    }
    fake_done(host, input->number, WEIR_ACTOR_OK, "");
}

static inline enum weir_error fake_host_call(struct plugin_host *host, const struct plugin_input *input,
                                             const struct plugin_shortcut *shortcut, bool *is_over)
{
    size_t first = host->put;
    enum weir_error error = fake_host_give(host, input);
    *is_over = false;
    if (error)
        return error;
    assert_int_equal(host->taken, first);
    host->called = &input->message;
    fake_handle(host);
    host->called = NULL;
    const struct plugin_output *emission = &host->outputs[first % FAKE_OUTPUTS_MAX];
    const struct plugin_output *last = &host->outputs[(host->put - 1) % FAKE_OUTPUTS_MAX];
    if (emission->kind != OUTPUT_EMIT || !shortcut->take(shortcut->context, emission))
        return WEIR_OK;
    *is_over = host->put - first == 2 && last->result == WEIR_ACTOR_OK;
    if (*is_over) {
        host->taken = host->put;
        return WEIR_OK;
    }
    struct plugin_output back;
    plugin_output_init(&back, OUTPUT_EMIT, input->number);
    shortcut->take_back(shortcut->context, &back);
    assert_true(view_is_same(back.key, emission->key) && view_is_same(back.value, emission->value));
    assert_true(view_is_same(back.topic, emission->topic) && back.has_key);
    return WEIR_OK;
}

static const struct plugin_host_ops fake_host_ops = {
    .name = "fake",
    .ahead = 64,
    .start = fake_host_start,
    .give = fake_host_give,
    .flush = fake_host_flush,
    .take = fake_host_take,
    .stop = fake_host_stop,
};

static const struct plugin_host_ops fake_called_ops = {
    .name = "fake",
    .ahead = 1,
    .start = fake_host_start,
    .give = fake_host_give,
    .call = fake_host_call,
    .flush = fake_host_flush,
    .take = fake_host_take,
    .stop = fake_host_stop,
};

#endif
