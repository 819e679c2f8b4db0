/* Does what the record says, good and bad. A value is an array [verb, argument...]; anything else is emitted to its
 * own topic (processor: to TOPIC/out) as it is. Asked such a value it does the same, and then replies with the attempt.
 * It counts what it handled, which is its state; verbs for the host's
 * sake: segv, abort, exit, kill, loop, hog, ring; for the runner's sake: the rest. config: {"init": "VERB"} does that
 * in init.
 */
#include "weir_actor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct state {
    uint64_t handled;
    char topic[264]; /* where this message's answers go */
    const struct weir_message *held;
    void *memory;
};

static bool is_text(struct weir_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

static struct weir_bytes number_value(struct weir_self *self, uint8_t out[16], uint64_t number)
{
    struct weir_writer writer = {out, 0, 16, false};
    struct weir_item item = {.type = WEIR_VALUE_UINT, .as = {.u = number}};
    weir_write(self, &writer, &item);
    return weir_bytes_of(out, writer.size);
}

/* A fold answers in the topic itself; a processor, whose records have their place in a topic, in TOPIC/out. */
static struct weir_bytes answer_topic(struct state *state, const struct weir_message *message)
{
    size_t size = message->topic.size < 256 ? message->topic.size : 0;
    if (message->seq == 0)
        return message->topic;
    memcpy(state->topic, message->topic.data, size);
    memcpy(state->topic + size, "/out", 4);
    return weir_bytes_of(state->topic, size + 4);
}

/* The broker's bell is the descriptor behind the rings and the specification. */
static void ring(void)
{
    static const uint64_t one = 1;
    while (write(6, &one, sizeof one) == (ssize_t)sizeof one)
        continue;
}

static void hog(void)
{
    for (;;) {
        char *memory = malloc(1 << 20);
        if (memory == NULL)
            abort();
        memset(memory, 1, 1 << 20);
    }
}

/* True when the verb was one of these; most of them do not return. */
static bool crash(struct weir_bytes verb)
{
    static volatile uintptr_t nowhere = 16;
    static volatile bool is_endless = true;
    if (is_text(verb, "segv"))
        *(volatile int *)nowhere = 1;
    else if (is_text(verb, "abort"))
        abort();
    else if (is_text(verb, "exit"))
        _exit(3);
    else if (is_text(verb, "kill"))
        kill(getpid(), SIGKILL);
    else if (is_text(verb, "hog"))
        hog();
    else if (is_text(verb, "ring"))
        ring();
    else if (is_text(verb, "loop"))
        while (is_endless)
            ;
    else
        return false;
    return true;
}

/* So that something else has come meanwhile. */
static bool crash_after(uint64_t milliseconds)
{
    struct timespec time = {.tv_sec = (time_t)(milliseconds / 1000), .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
    return crash(weir_bytes_of("segv", 4));
}

static enum weir_actor_result emit_many(struct weir_self *self, struct weir_bytes topic, uint64_t count)
{
    char key[32];
    uint8_t value[16];
    for (uint64_t index = 0; index < count; index++) {
        int size = snprintf(key, sizeof key, "k%llu", (unsigned long long)index);
        if (weir_emit(self, topic, weir_bytes_of(key, (size_t)size), number_value(self, value, index)) != WEIR_ACTOR_OK)
            return WEIR_ACTOR_FAILED;
    }
    return WEIR_ACTOR_OK;
}

/* [verb, topic, key, value]: emitted as it stands, right or wrong (bin is given to check what is no text). */
static enum weir_actor_result emit_as_told(struct weir_self *self, struct weir_reader *reader)
{
    struct weir_item topic, key;
    struct weir_bytes value;
    if (!weir_read(self, reader, &topic) || !weir_read(self, reader, &key) || !weir_skip(self, reader, &value))
        return WEIR_ACTOR_REFUSED;
    return weir_emit(self, topic.bytes, key.bytes, value);
}

static enum weir_actor_result remember(struct weir_self *self, struct state *state, struct weir_bytes verb,
                                       const struct weir_message *message)
{
    uint8_t value[16];
    if (is_text(verb, "hold")) {
        if (state->held != NULL)
            weir_release(self, state->held);
        state->held = weir_hold(self, message);
        return state->held != NULL ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
    }
    if (is_text(verb, "tell-held") && state->held != NULL)
        return weir_emit(self, state->held->topic, state->held->key, state->held->value);
    if (is_text(verb, "tell-count"))
        return weir_emit(self, answer_topic(state, message), message->key, number_value(self, value, state->handled));
    if (is_text(verb, "tell-attempt"))
        return weir_emit(self, answer_topic(state, message), message->key, number_value(self, value, message->attempt));
    return WEIR_ACTOR_REFUSED;
}

static enum weir_actor_result do_verb(struct weir_self *self, struct state *state, const struct weir_message *message,
                                      struct weir_bytes verb, struct weir_reader *reader)
{
    struct weir_item number = {.type = WEIR_VALUE_NIL};
    if (is_text(verb, "emit"))
        return emit_as_told(self, reader);
    if (crash(verb))
        return WEIR_ACTOR_OK;
    if (is_text(verb, "refuse")) {
        weir_fail(self, "this one I do not like");
        return WEIR_ACTOR_REFUSED;
    }
    if (is_text(verb, "emit-and-refuse")) {
        weir_fail(self, "after all I do not like it");
        return weir_emit(self, message->topic, message->key, message->value) == WEIR_ACTOR_OK ? WEIR_ACTOR_REFUSED
                                                                                              : WEIR_ACTOR_FAILED;
    }
    if (is_text(verb, "fail")) {
        weir_fail(self, "told to fail");
        return WEIR_ACTOR_FAILED;
    }
    if (is_text(verb, "reply") || is_text(verb, "no-reply"))
        return WEIR_ACTOR_OK;
    if (is_text(verb, "reply-twice"))
        return weir_reply(self, message->value) == WEIR_ACTOR_OK ? weir_reply(self, message->value) : WEIR_ACTOR_FAILED;
    if (is_text(verb, "fail-once"))
        return message->attempt > 1 ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
    if (is_text(verb, "crash-once"))
        return message->attempt > 1 || crash(weir_bytes_of("segv", 4)) ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
    if (is_text(verb, "odd"))
        return (enum weir_actor_result)77;
    if (is_text(verb, "log")) {
        weir_log(self, WEIR_LOG_WARNING, "told to log");
        return WEIR_ACTOR_OK;
    }
    (void)weir_read(self, reader, &number);
    if (is_text(verb, "slow-crash-once"))
        return message->attempt > 1 || crash_after(number.as.u) ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
    if (is_text(verb, "emit-many"))
        return emit_many(self, answer_topic(state, message), number.as.u);
    if (is_text(verb, "timer"))
        return weir_timer_set(self, 7, number.as.u, 0);
    if (is_text(verb, "untimer")) {
        weir_timer_cancel(self, 7);
        return WEIR_ACTOR_OK;
    }
    if (is_text(verb, "alloc")) {
        weir_free(self, state->memory);
        state->memory = weir_alloc(self, (size_t)number.as.u);
        return state->memory != NULL ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
    }
    return remember(self, state, verb, message);
}

static enum weir_actor_result misbehave_handle(struct weir_self *self, void *context,
                                               const struct weir_message *message)
{
    struct state *state = context;
    struct weir_reader reader = {message->value, false};
    struct weir_item head, verb = {.type = WEIR_VALUE_NIL};
    enum weir_actor_result result = WEIR_ACTOR_OK;
    uint8_t value[16];
    if (message->kind == WEIR_MESSAGE_TIMER)
        result = weir_emit(self, weir_bytes_of("timed", 5), weir_bytes_of(NULL, 0),
                           number_value(self, value, message->number));
    else if (message->kind == WEIR_MESSAGE_RESET)
        ;
    else if (!weir_read(self, &reader, &head) || head.type != WEIR_VALUE_ARRAY || head.count == 0)
        result = weir_emit(self, answer_topic(state, message), message->key, message->value);
    else if (weir_read(self, &reader, &verb) && verb.type == WEIR_VALUE_STR)
        result = do_verb(self, state, message, verb.bytes, &reader);
    if (result == WEIR_ACTOR_OK && message->kind == WEIR_MESSAGE_ASK && !is_text(verb.bytes, "no-reply"))
        result = weir_reply(self, number_value(self, value, message->attempt));
    if (result == WEIR_ACTOR_OK)
        state->handled++;
    return result;
}

static enum weir_actor_result misbehave_init(struct weir_self *self, struct weir_bytes config, void **out)
{
    struct weir_reader reader = {config, false};
    struct weir_item item;
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return WEIR_ACTOR_FAILED;
    *out = state;
    if (weir_read(self, &reader, &item) && item.type == WEIR_VALUE_MAP && weir_read(self, &reader, &item) &&
        is_text(item.bytes, "init") && weir_read(self, &reader, &item)) {
        (void)crash(item.bytes);
        if (is_text(item.bytes, "fail")) {
            weir_fail(self, "told to fail in init");
            free(state);
            return WEIR_ACTOR_FAILED;
        }
    }
    return WEIR_ACTOR_OK;
}

#ifndef WITHOUT_SNAPSHOT
static enum weir_actor_result misbehave_snapshot(struct weir_self *self, void *context, struct weir_writer *out)
{
    const struct state *state = context;
    struct weir_item item = {.type = WEIR_VALUE_UINT, .as = {.u = state->handled}};
    weir_write(self, out, &item);
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result misbehave_restore(struct weir_self *self, void *context, struct weir_bytes snapshot)
{
    struct state *state = context;
    struct weir_reader reader = {snapshot, false};
    struct weir_item item;
    if (!weir_read(self, &reader, &item) || item.type != WEIR_VALUE_UINT)
        return WEIR_ACTOR_FAILED;
    state->handled = item.as.u;
    return WEIR_ACTOR_OK;
}
#endif

static void misbehave_stop(struct weir_self *self, void *context)
{
    struct state *state = context;
    if (state->held != NULL)
        weir_release(self, state->held);
    weir_free(self, state->memory);
    free(state);
}

const struct weir_actor_plugin weir_actor_plugin = {
    WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD | WEIR_ACTOR_PROCESSOR),
    .name = "misbehave",
    .version = "1.0",
    .about = "does what the record says",
    .init = misbehave_init,
    .handle = misbehave_handle,
#ifndef WITHOUT_SNAPSHOT
    .snapshot = misbehave_snapshot,
    .restore = misbehave_restore,
#endif
    .stop = misbehave_stop,
};
