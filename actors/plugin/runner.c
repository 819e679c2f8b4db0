/* One plugin instance: calls into it, and what they bring about. Called by the thread host in the plugin actor's turn,
 * by the child of the process host, and by the test kit; one thread at a time. */
#include "actors/plugin/runner.h"

#include "actors/base/assert.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/runner_state.h"
#include "clients/wire/value.h"

#include "actors/base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct view view_from(struct weir_bytes bytes) { return view_of(bytes.data, bytes.size); }

void runner_bounds_fill(struct runner_bounds *bounds)
{
    if (bounds->memory_bytes_max == 0)
        bounds->memory_bytes_max = PLUGIN_MEMORY_BYTES_DEFAULT;
    if (bounds->emits_max == 0)
        bounds->emits_max = PLUGIN_EMITS_DEFAULT;
    if (bounds->emit_bytes_max == 0)
        bounds->emit_bytes_max = PLUGIN_EMIT_BYTES_DEFAULT;
    if (bounds->value_bytes_max == 0)
        bounds->value_bytes_max = PLUGIN_VALUE_BYTES_DEFAULT;
    if (bounds->depth_max == 0)
        bounds->depth_max = MSGPACK_DEPTH_MAX_DEFAULT;
    if (bounds->snapshot_bytes_max == 0)
        bounds->snapshot_bytes_max = PLUGIN_SNAPSHOT_BYTES_DEFAULT;
}

enum weir_error runner_open_copy(int copy, const char *file, enum weir_actor_role role,
                                 const struct runner_bounds *bounds, plugin_sink sink, void *context,
                                 struct runner **out, char *why, size_t why_size)
{
    struct runner *runner = calloc(1, sizeof *runner);
    REQUIRE(why_size >= PLUGIN_TEXT_SIZE);
    if (runner == NULL) {
        (void)snprintf(why, why_size, "no memory");
        (void)close(copy);
        return WEIR_NO_MEMORY;
    }
    runner->magic = RUNNER_MAGIC;
    runner->self.verbs = &runner_verbs;
    runner->self.role = (uint32_t)role;
    runner->bounds = *bounds;
    runner_bounds_fill(&runner->bounds);
    runner->sink = sink;
    runner->context = context;
    plugin_output_init(&runner->emission, OUTPUT_EMIT, 0);
    enum weir_error error = object_open(copy, file, role, &runner->object, why, why_size);
    if (error != WEIR_OK) {
        free(runner);
        return error;
    }
    *out = runner;
    return WEIR_OK;
}

enum weir_error runner_open(const char *file, enum weir_actor_role role, const struct runner_bounds *bounds,
                            plugin_sink sink, void *context, struct runner **out, char *why, size_t why_size)
{
    int copy = -1;
    enum weir_error error = object_copy(file, &copy, why, why_size);
    if (error != WEIR_OK)
        return error;
    return runner_open_copy(copy, file, role, bounds, sink, context, out, why, why_size);
}

const struct weir_actor_plugin *runner_plugin(const struct runner *runner) { return runner->object.plugin; }

/* What a plugin returns is any number. */
static enum weir_actor_result result_check(struct runner *runner, enum weir_actor_result result)
{
    if (result == WEIR_ACTOR_OK && runner->is_overrun)
        return WEIR_ACTOR_FAILED;
    if (result == WEIR_ACTOR_OK || result == WEIR_ACTOR_FAILED)
        return result;
    if (result == WEIR_ACTOR_REFUSED && (runner->phase == PHASE_MESSAGE || runner->phase == PHASE_INIT))
        return result;
    runner_fail_text(runner, "the plugin returned %d, which is no result of %s", (int)result,
                     runner_phase_name(runner->phase));
    return WEIR_ACTOR_FAILED;
}

static void call_begin(struct runner *runner, enum runner_phase phase, uint64_t number)
{
    runner->phase = phase;
    runner->number = number;
    runner->message = NULL;
    runner->emits = 0;
    runner->emit_bytes = 0;
    runner->is_asked = false;
    runner->is_overrun = false;
    runner->text[0] = '\0';
}

static enum weir_actor_result call_end(struct runner *runner, enum weir_actor_result returned)
{
    enum weir_actor_result result = result_check(runner, returned);
    if (result != WEIR_ACTOR_OK && runner->text[0] == '\0')
        runner_fail_text(runner, "%s failed and gave no reason", runner_phase_name(runner->phase));
    if (result == WEIR_ACTOR_FAILED)
        runner->has_failed = true;
    runner->phase = PHASE_NONE;
    return result;
}

enum weir_error runner_start(struct runner *runner, struct view config, char *why, size_t why_size)
{
    MAGIC_CHECK(runner, RUNNER_MAGIC);
    REQUIRE(!runner->is_started && why_size >= PLUGIN_TEXT_SIZE);
    call_begin(runner, PHASE_INIT, 0);
    enum weir_actor_result result = call_end(
        runner, runner->object.plugin->init(&runner->self, weir_bytes_of(config.data, config.size), &runner->state));
    if (result != WEIR_ACTOR_OK) {
        (void)snprintf(why, why_size, "%s", runner->text);
        return WEIR_FAILED;
    }
    runner->is_started = true;
    return WEIR_OK;
}

/* Sends the snapshot, if it is one whole value. */
static enum weir_actor_result snapshot_send(struct runner *runner, struct view value)
{
    size_t size = 0;
    if (value_scan(value, VALUE_DEPTH_LIMIT, &size) != WEIR_OK || size != value.size) {
        runner_fail_text(runner, "what snapshot wrote (%zu bytes) is not exactly one msgpack value", value.size);
        return WEIR_ACTOR_FAILED;
    }
    struct plugin_output output = {.kind = OUTPUT_SNAPSHOT, .number = runner->number, .value = value};
    if (!runner->sink(runner->context, &output)) {
        runner_fail_text(runner, "no room for a snapshot of %zu bytes", value.size);
        return WEIR_ACTOR_FAILED;
    }
    return WEIR_ACTOR_OK;
}

/* Calls snapshot with more and more room. */
static enum weir_actor_result snapshot_take(struct runner *runner)
{
    size_t bound = runner->bounds.snapshot_bytes_max, room = PLUGIN_SNAPSHOT_BYTES_FIRST;
    for (;;) {
        room = room < bound ? room : bound;
        struct weir_writer writer = {.data = malloc(room), .capacity = room};
        if (writer.data == NULL) {
            runner_fail_text(runner, "no memory for a snapshot of %zu bytes", room);
            return WEIR_ACTOR_FAILED;
        }
        void *data = writer.data;
        enum weir_actor_result result = runner->object.plugin->snapshot(&runner->self, runner->state, &writer);
        bool is_full = writer.is_full;
        /* The writer is in the plugin's hands: only what lies in our memory counts. */
        if (result == WEIR_ACTOR_OK && !is_full)
            result = snapshot_send(runner, view_of(data, writer.size <= room ? writer.size : 0));
        free(data);
        if (result != WEIR_ACTOR_OK || !is_full)
            return result;
        if (room == bound) {
            runner_fail_text(runner, "the snapshot is larger than %zu bytes", bound);
            return WEIR_ACTOR_FAILED;
        }
        room *= 4;
    }
}

static enum weir_actor_result input_dispatch(struct runner *runner, const struct plugin_input *input)
{
    const struct weir_actor_plugin *plugin = runner->object.plugin;
    switch (input->kind) {
    case INPUT_MESSAGE:
        if (input->message.kind == WEIR_MESSAGE_RESET && runner->self.role == WEIR_ACTOR_FOLD && plugin->abi_minor < 1)
            return WEIR_ACTOR_OK;
        runner->is_asked = input->message.kind == WEIR_MESSAGE_ASK;
        if (runner->is_asked && plugin->abi_minor < 2) {
            runner_fail_text(runner, "the plugin answers no requests");
            return WEIR_ACTOR_REFUSED;
        }
        runner->message = &input->message;
        return plugin->handle(&runner->self, runner->state, &input->message);
    case INPUT_SNAPSHOT:
        if (plugin->snapshot != NULL)
            return snapshot_take(runner);
        runner_fail_text(runner, "the plugin has no snapshot");
        return WEIR_ACTOR_FAILED;
    case INPUT_RESTORE:
        if (plugin->restore != NULL)
            return plugin->restore(&runner->self, runner->state, weir_bytes_of(input->bytes.data, input->bytes.size));
        runner_fail_text(runner, "the plugin has no restore");
        return WEIR_ACTOR_FAILED;
    case INPUT_STOP: break;
    }
    UNREACHABLE();
}

static void instance_stop(struct runner *runner)
{
    if (!runner->is_started)
        return;
    runner->is_started = false;
    call_begin(runner, PHASE_STOP, 0);
    if (runner->object.plugin->stop != NULL)
        runner->object.plugin->stop(&runner->self, runner->state);
    runner->phase = PHASE_NONE;
}

enum weir_actor_result runner_call(struct runner *runner, const struct plugin_input *input)
{
    static const enum runner_phase phases[] = {
        [INPUT_MESSAGE] = PHASE_MESSAGE,
        [INPUT_SNAPSHOT] = PHASE_SNAPSHOT,
        [INPUT_RESTORE] = PHASE_RESTORE,
    };
    MAGIC_CHECK(runner, RUNNER_MAGIC);
    REQUIRE(runner->is_started && !runner->has_failed && input->kind != INPUT_STOP);
    call_begin(runner, phases[input->kind], input->number);
    return call_end(runner, input_dispatch(runner, input));
}

void runner_tell(struct runner *runner, const struct plugin_input *input, enum weir_actor_result result)
{
    struct plugin_output done;
    plugin_output_init(&done, OUTPUT_DONE, input->number);
    done.result = result;
    if (result != WEIR_ACTOR_OK)
        done.text = view_text(runner->text);
    bool is_taken = runner->sink(runner->context, &done);
    REQUIRE(is_taken);
}

enum weir_actor_result runner_handle(struct runner *runner, const struct plugin_input *input)
{
    MAGIC_CHECK(runner, RUNNER_MAGIC);
    if (input->kind == INPUT_STOP) {
        instance_stop(runner);
        return WEIR_ACTOR_OK;
    }
    enum weir_actor_result result = runner_call(runner, input);
    runner_tell(runner, input, result);
    return result;
}

void runner_close(struct runner **pointer)
{
    struct runner *runner = *pointer;
    if (runner == NULL)
        return;
    MAGIC_CHECK(runner, RUNNER_MAGIC);
    instance_stop(runner);
    runner_memory_free(runner);
    object_close(&runner->object);
    runner->magic = 0;
    free(runner);
    *pointer = NULL;
}

/* ---------------------------------------------------------------------------------------- emissions */

/* False with the reason noted. */
static bool output_send(struct runner *runner, const struct plugin_output *output)
{
    if (!runner->is_overrun && runner->sink(runner->context, output))
        return true;
    runner->is_overrun = true;
    runner_fail_text(runner, "the host has no room for more output of one message");
    return false;
}

/* One more of what a message may bring about. False with the reason noted. */
static bool emit_count(struct runner *runner, uint64_t bytes)
{
    if (runner->emits >= runner->bounds.emits_max || runner->emit_bytes + bytes > runner->bounds.emit_bytes_max) {
        runner_fail_text(runner, "one message may bring about %u records of %u bytes together",
                         (unsigned)runner->bounds.emits_max, (unsigned)runner->bounds.emit_bytes_max);
        return false;
    }
    runner->emits++;
    runner->emit_bytes += bytes;
    return true;
}

static bool is_same_place(struct view view, struct weir_bytes bytes)
{
    return bytes.data != NULL && view.data == bytes.data && view.size == bytes.size;
}

/* What of it is the message's own, which was checked before it was handed over, and nobody may write to it. */
static uint8_t same_of(const struct runner *runner, const struct plugin_output *output)
{
    const struct weir_message *message = runner->message;
    unsigned same = is_same_place(output->topic, message->topic) ? OUTPUT_SAME_TOPIC : 0;
    if (output->has_key && is_same_place(output->key, message->key))
        same |= OUTPUT_SAME_KEY;
    if (output->update_size == 0 && is_same_place(output->value, message->value))
        same |= OUTPUT_SAME_VALUE;
    return (uint8_t)same;
}

/* Checked each, but for what is known to be good of it. */
static bool is_good(struct runner *runner, const struct plugin_output *output)
{
    struct output_known known = output_known(output);
    bool is_known = known.topic && known.value && (known.key || !output->has_key);
    if (is_known && output->value.size <= runner->bounds.value_bytes_max)
        return true;
    return emission_check(output, known, &runner->bounds, runner->text, sizeof runner->text);
}

/* value: of update_size bytes and what is behind, or whole; see plugin_output. */
static enum weir_actor_result emit(struct runner *runner, struct weir_bytes topic, struct weir_bytes key,
                                   struct view value, uint32_t update_size)
{
    struct plugin_output *output = &runner->emission;
    output->number = runner->number;
    output->has_key = key.data != NULL;
    output->topic = view_from(topic);
    output->key = output->has_key ? view_from(key) : view_of(NULL, 0);
    output->value = value;
    output->update_size = update_size;
    if (runner->phase != PHASE_MESSAGE) {
        runner_fail_text(runner, "weir_emit in %s: only handle may emit", runner_phase_name(runner->phase));
        return WEIR_ACTOR_FAILED;
    }
    output->same = same_of(runner, output);
    if (!is_good(runner, output) || !emit_count(runner, output->topic.size + output->key.size + output->value.size))
        return WEIR_ACTOR_FAILED;
    return output_send(runner, output) ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
}

enum weir_actor_result runner_emit(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                   struct weir_bytes value)
{
    return emit(runner_of(self), topic, key, view_from(value), 0);
}

enum weir_actor_result runner_emit_merged(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                          struct weir_bytes update, struct weir_bytes merged)
{
    struct runner *runner = runner_of(self);
    size_t bound = runner->bounds.value_bytes_max;
    if (self->role != WEIR_ACTOR_FOLD) {
        runner_fail_text(runner, "weir_emit_merged of a processor: only a fold's topics keep a merged form");
        return WEIR_ACTOR_FAILED;
    }
    if (update.data == NULL || merged.data == NULL) {
        runner_fail_text(runner, "weir_emit_merged without %s", update.data == NULL ? "an update" : "a merged form");
        return WEIR_ACTOR_FAILED;
    }
    if (update.size == 0 || merged.size == 0 || update.size > bound || merged.size > bound) {
        runner_fail_text(runner, "weir_emit_merged with values of %zu and %zu bytes: each has to have 1 to %zu",
                         update.size, merged.size, bound);
        return WEIR_ACTOR_FAILED;
    }
    uint8_t *both = malloc(update.size + merged.size);
    if (both == NULL) {
        runner_fail_text(runner, "no memory for an update and its merged form of %zu bytes", update.size + merged.size);
        return WEIR_ACTOR_FAILED;
    }
    memcpy(both, update.data, update.size);
    memcpy(both + update.size, merged.data, merged.size);
    enum weir_actor_result result =
        emit(runner, topic, key, view_of(both, update.size + merged.size), (uint32_t)update.size);
    free(both);
    return result;
}

enum weir_actor_result runner_reply(struct weir_self *self, struct weir_bytes value)
{
    struct runner *runner = runner_of(self);
    struct plugin_output output = {.kind = OUTPUT_REPLY, .number = runner->number, .value = view_from(value)};
    if (runner->phase != PHASE_MESSAGE || !runner->is_asked) {
        runner_fail_text(runner, "weir_reply in %s: one reply to each request, and to nothing else",
                         runner_phase_name(runner->phase));
        return WEIR_ACTOR_FAILED;
    }
    if (!output_check(&output, &runner->bounds, runner->text, sizeof runner->text) ||
        !emit_count(runner, output.value.size) || !output_send(runner, &output))
        return WEIR_ACTOR_FAILED;
    runner->is_asked = false;
    return WEIR_ACTOR_OK;
}

static bool may_arm(struct runner *runner)
{
    return runner->phase == PHASE_INIT || runner->phase == PHASE_RESTORE || runner->phase == PHASE_MESSAGE;
}

enum weir_actor_result runner_timer(struct weir_self *self, uint64_t id, uint64_t delay_ms, uint64_t period_ms)
{
    struct runner *runner = runner_of(self);
    struct plugin_output output = {.kind = OUTPUT_TIMER, .number = runner->number};
    output.timer = id;
    output.delay_ms = delay_ms;
    output.period_ms = period_ms;
    if (!may_arm(runner)) {
        runner_fail_text(runner, "weir_timer_set in %s", runner_phase_name(runner->phase));
        return WEIR_ACTOR_FAILED;
    }
    if (!output_check(&output, &runner->bounds, runner->text, sizeof runner->text))
        return WEIR_ACTOR_FAILED;
    return output_send(runner, &output) ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED;
}

void runner_timer_cancel(struct weir_self *self, uint64_t id)
{
    struct runner *runner = runner_of(self);
    struct plugin_output output = {.kind = OUTPUT_TIMER_CANCEL, .number = runner->number, .timer = id};
    if (may_arm(runner))
        (void)output_send(runner, &output);
}

void runner_log(struct weir_self *self, int level, const char *text)
{
    struct runner *runner = runner_of(self);
    struct plugin_output output = {.kind = OUTPUT_LOG, .number = runner->number};
    char line[PLUGIN_TEXT_SIZE];
    output.level = level >= WEIR_LOG_DEBUG && level <= WEIR_LOG_ERROR ? (uint32_t)level : WEIR_LOG_ERROR;
    output.text = text_cut(line, sizeof line, text);
    /* A line that finds no room is no reason to fail what it is about. */
    if (!runner->is_overrun)
        (void)runner->sink(runner->context, &output);
}
