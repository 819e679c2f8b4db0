/* Rehearsals; see the header. Called by clients/cli and by tests, one thread at a time; allocates as it likes. */
#include "actors/plugin/rehearsal.h"

#include "actors/base/assert.h"
#include "actors/plugin/plugin_limits.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TIMERS_MAX = 4096,
    /* Timers that fire at one moment: more is a plugin that arms one of no delay again and again. */
    FIRED_MAX = 100000,
};

struct armed {
    uint64_t id, due_ms, period_ms;
};

/* What a message brought about, kept until it is known whether it succeeded. */
struct pending {
    struct plugin_output output;
    struct pending *next;
    uint8_t bytes[];
};

struct rehearsal {
    struct rehearsal_spec spec;
    struct runner *runner;
    uint64_t number, now_ms;
    bool has_time; /* else timers are due by how long after the first message */
    bool has_ended;
    struct armed timers[TIMERS_MAX];
    size_t timer_count;
    struct pending *first, **last;
    uint8_t *snapshot;
    size_t snapshot_size;
    char failure[PLUGIN_TEXT_SIZE];
};

static bool timer_arm(struct rehearsal *rehearsal, const struct plugin_output *output)
{
    size_t at = 0;
    while (at < rehearsal->timer_count && rehearsal->timers[at].id != output->timer)
        at++;
    if (at == TIMERS_MAX)
        return false;
    if (at == rehearsal->timer_count)
        rehearsal->timer_count++;
    rehearsal->timers[at] = (struct armed){output->timer, rehearsal->now_ms + output->delay_ms, output->period_ms};
    return true;
}

static void timer_drop(struct rehearsal *rehearsal, uint64_t id)
{
    for (size_t at = 0; at < rehearsal->timer_count; at++) {
        if (rehearsal->timers[at].id == id) {
            rehearsal->timers[at] = rehearsal->timers[--rehearsal->timer_count];
            return;
        }
    }
}

/* The timer that fires next: the one that is due first, among those the one of the lowest id. */
static struct armed *timer_first(const struct rehearsal *rehearsal)
{
    const struct armed *first = NULL;
    for (size_t at = 0; at < rehearsal->timer_count; at++) {
        const struct armed *timer = &rehearsal->timers[at];
        if (first == NULL || timer->due_ms < first->due_ms || (timer->due_ms == first->due_ms && timer->id < first->id))
            first = timer;
    }
    return (struct armed *)first;
}

/* ------------------------------------------------------------------------------------------------ outputs */

static bool output_act(struct rehearsal *rehearsal, const struct plugin_output *output)
{
    switch (output->kind) {
    case OUTPUT_TIMER: return timer_arm(rehearsal, output);
    case OUTPUT_TIMER_CANCEL: timer_drop(rehearsal, output->timer); return true;
    default: return rehearsal->spec.sink(rehearsal->spec.context, output);
    }
}

static struct view view_move(struct view view, uint8_t **at)
{
    struct view moved = view_of(*at, view.size);
    if (view.size > 0)
        memcpy(*at, view.data, view.size);
    *at += view.size;
    return moved;
}

static bool output_keep(struct rehearsal *rehearsal, const struct plugin_output *output)
{
    struct pending *pending =
        malloc(sizeof *pending + output->topic.size + output->key.size + output->value.size + output->text.size);
    if (pending == NULL)
        return false;
    uint8_t *at = pending->bytes;
    *pending = (struct pending){.output = *output};
    pending->output.topic = view_move(output->topic, &at);
    pending->output.key = view_move(output->key, &at);
    pending->output.value = view_move(output->value, &at);
    pending->output.text = view_move(output->text, &at);
    *rehearsal->last = pending;
    rehearsal->last = &pending->next;
    return true;
}

/* Lets out what was kept, or forgets it. */
static bool outputs_end(struct rehearsal *rehearsal, bool has_succeeded)
{
    bool is_taken = true;
    while (rehearsal->first != NULL) {
        struct pending *pending = rehearsal->first;
        rehearsal->first = pending->next;
        if (has_succeeded)
            is_taken = output_act(rehearsal, &pending->output) && is_taken;
        free(pending);
    }
    rehearsal->last = &rehearsal->first;
    return is_taken;
}

static bool snapshot_keep(struct rehearsal *rehearsal, struct view value)
{
    uint8_t *copy = malloc(value.size);
    if (copy == NULL)
        return false;
    memcpy(copy, value.data, value.size);
    free(rehearsal->snapshot);
    rehearsal->snapshot = copy;
    rehearsal->snapshot_size = value.size;
    return true;
}

static bool on_output(void *context, const struct plugin_output *output)
{
    struct rehearsal *rehearsal = context;
    switch (output->kind) {
    case OUTPUT_LOG: (void)rehearsal->spec.sink(rehearsal->spec.context, output); return true;
    case OUTPUT_SNAPSHOT: return snapshot_keep(rehearsal, output->value);
    case OUTPUT_DONE:
        if (!outputs_end(rehearsal, output->result == WEIR_ACTOR_OK))
            rehearsal->has_ended = true;
        (void)snprintf(rehearsal->failure, sizeof rehearsal->failure, "%.*s", (int)output->text.size,
                       output->text.size > 0 ? (const char *)output->text.data : "");
        /* Of snapshots and restores nobody but this file knows. */
        return output->number == 0 || rehearsal->spec.sink(rehearsal->spec.context, output);
    default: return output->number == 0 ? output_act(rehearsal, output) : output_keep(rehearsal, output);
    }
}

/* ------------------------------------------------------------------------------------------------ instance */

static enum weir_error instance_start(struct rehearsal *rehearsal, char *why, size_t why_size)
{
    const struct rehearsal_spec *spec = &rehearsal->spec;
    enum weir_error error =
        runner_open(spec->file, spec->role, &spec->bounds, on_output, rehearsal, &rehearsal->runner, why, why_size);
    if (error == WEIR_OK)
        error = runner_start(rehearsal->runner, spec->config, why, why_size);
    if (error != WEIR_OK)
        runner_close(&rehearsal->runner);
    return error;
}

enum weir_error rehearsal_open(const struct rehearsal_spec *spec, struct rehearsal **out, char *why, size_t why_size)
{
    struct rehearsal *rehearsal = calloc(1, sizeof *rehearsal);
    REQUIRE(why_size >= PLUGIN_TEXT_SIZE);
    if (rehearsal == NULL) {
        (void)snprintf(why, why_size, "no memory");
        return WEIR_NO_MEMORY;
    }
    rehearsal->spec = *spec;
    rehearsal->last = &rehearsal->first;
    enum weir_error error = instance_start(rehearsal, why, why_size);
    if (error != WEIR_OK) {
        rehearsal_close(&rehearsal);
        return error;
    }
    *out = rehearsal;
    return WEIR_OK;
}

const struct weir_actor_plugin *rehearsal_plugin(const struct rehearsal *rehearsal)
{
    return runner_plugin(rehearsal->runner);
}

static enum weir_actor_result message_hand_over(struct rehearsal *rehearsal, const struct weir_message *message)
{
    if (rehearsal->has_ended)
        return WEIR_ACTOR_FAILED;
    struct plugin_input input = {.kind = INPUT_MESSAGE, .number = ++rehearsal->number, .message = *message};
    if (input.message.attempt == 0)
        input.message.attempt = 1;
    enum weir_actor_result result = runner_handle(rehearsal->runner, &input);
    if (result == WEIR_ACTOR_FAILED)
        rehearsal->has_ended = true;
    return rehearsal->has_ended ? WEIR_ACTOR_FAILED : result;
}

/* A failure that is the rehearsal's to find. */
static enum weir_actor_result rehearsal_fail(struct rehearsal *rehearsal, const char *text)
{
    struct plugin_output done = {.kind = OUTPUT_DONE, .number = ++rehearsal->number, .result = WEIR_ACTOR_FAILED};
    done.text = view_text(text);
    rehearsal->has_ended = true;
    (void)rehearsal->spec.sink(rehearsal->spec.context, &done);
    return WEIR_ACTOR_FAILED;
}

enum weir_actor_result rehearsal_advance(struct rehearsal *rehearsal, uint64_t time_ms)
{
    uint32_t fired = 0;
    if (!rehearsal->has_time) {
        for (size_t at = 0; at < rehearsal->timer_count; at++)
            rehearsal->timers[at].due_ms += time_ms;
        rehearsal->has_time = true;
    }
    for (;;) {
        struct armed *timer = timer_first(rehearsal);
        if (rehearsal->has_ended)
            return WEIR_ACTOR_FAILED;
        if (timer == NULL || timer->due_ms > time_ms)
            break;
        fired = timer->due_ms > rehearsal->now_ms ? 1 : fired + 1;
        if (fired > FIRED_MAX)
            return rehearsal_fail(rehearsal, "timers fire at one moment without end");
        if (timer->due_ms > rehearsal->now_ms)
            rehearsal->now_ms = timer->due_ms;
        struct weir_message message = {.kind = WEIR_MESSAGE_TIMER, .number = timer->id, .time_ms = rehearsal->now_ms};
        if (timer->period_ms > 0)
            timer->due_ms += timer->period_ms;
        else
            timer_drop(rehearsal, timer->id);
        if (message_hand_over(rehearsal, &message) == WEIR_ACTOR_FAILED)
            return WEIR_ACTOR_FAILED;
    }
    if (time_ms > rehearsal->now_ms)
        rehearsal->now_ms = time_ms;
    return WEIR_ACTOR_OK;
}

enum weir_actor_result rehearsal_give(struct rehearsal *rehearsal, const struct weir_message *message)
{
    enum weir_actor_result result = rehearsal_advance(rehearsal, message->time_ms);
    return result == WEIR_ACTOR_OK ? message_hand_over(rehearsal, message) : result;
}

uint64_t rehearsal_now(const struct rehearsal *rehearsal) { return rehearsal->now_ms; }

bool rehearsal_next(const struct rehearsal *rehearsal, uint64_t *time_ms)
{
    const struct armed *timer = timer_first(rehearsal);
    if (timer != NULL)
        *time_ms = timer->due_ms;
    return timer != NULL;
}

void rehearsal_configure(struct rehearsal *rehearsal, struct view config) { rehearsal->spec.config = config; }

enum weir_error rehearsal_restart(struct rehearsal *rehearsal, char *why, size_t why_size)
{
    struct plugin_input input = {.kind = INPUT_SNAPSHOT};
    const struct weir_actor_plugin *plugin = runner_plugin(rehearsal->runner);
    if (plugin->snapshot == NULL || rehearsal->has_ended) {
        (void)snprintf(why, why_size, "%s", plugin->snapshot == NULL ? "the plugin has no snapshot" : "it has ended");
        return WEIR_BAD_REQUEST;
    }
    if (runner_handle(rehearsal->runner, &input) != WEIR_ACTOR_OK) {
        (void)snprintf(why, why_size, "snapshot: %s", rehearsal->failure);
        rehearsal->has_ended = true;
        return WEIR_FAILED;
    }
    runner_close(&rehearsal->runner);
    rehearsal->timer_count = 0;
    enum weir_error error = instance_start(rehearsal, why, why_size);
    if (error != WEIR_OK) {
        rehearsal->has_ended = true;
        return error;
    }
    input = (struct plugin_input){.kind = INPUT_RESTORE};
    input.bytes = view_of(rehearsal->snapshot, rehearsal->snapshot_size);
    if (runner_handle(rehearsal->runner, &input) != WEIR_ACTOR_OK) {
        (void)snprintf(why, why_size, "restore: %s", rehearsal->failure);
        rehearsal->has_ended = true;
        return WEIR_FAILED;
    }
    return WEIR_OK;
}

void rehearsal_close(struct rehearsal **pointer)
{
    struct rehearsal *rehearsal = *pointer;
    if (rehearsal == NULL)
        return;
    outputs_end(rehearsal, false);
    runner_close(&rehearsal->runner);
    free(rehearsal->snapshot);
    free(rehearsal);
    *pointer = NULL;
}
