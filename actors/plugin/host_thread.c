/* The thread host: the plugin's code runs in the plugin actor's turn, as fast as a call, and its crash is the broker's.
 * What an input brings about is kept here until the actor takes it. */
#include "actors/plugin/host.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/plugin/plugin_limits.h"

#include <stdio.h>
#include <stdlib.h>

#define HOST_MAGIC 0x74687264u
/* Room that the queue keeps when it is empty. */
#define QUEUE_KEPT ((size_t)256 << 10)
#define QUEUE_FIRST ((size_t)4096)
/* What one input may leave here beside what it may emit: log lines, timers. */
#define QUEUE_EXTRA ((size_t)1 << 20)

/* Stands before the bytes of topic, key, value and text in the queue. */
struct queued {
    struct plugin_output output; /* of its views only the sizes count */
    size_t size;                 /* of all, rounded up */
};

#define DONE_SIZE (sizeof(struct queued) + PLUGIN_TEXT_SIZE + 16)

struct plugin_host {
    uint32_t magic;
    struct runner *runner;
    struct runner_bounds bounds;
    char name[64];
    uint32_t time_ms_max;
    uint64_t looked_ns; /* at the clock, after the call before; 0: that was in another turn */
    struct log_limit slow;
    uint8_t *queue;
    size_t first, size, capacity;
    bool has_failed;
    const struct plugin_shortcut *shortcut; /* of the call that runs; NULL: none any more */
    bool is_short;                          /* it has taken an emission, and nothing else has come */
    struct plugin_end end;
};

static bool queue_reserve(struct plugin_host *host, size_t more)
{
    size_t wanted = host->capacity != 0 ? host->capacity : QUEUE_FIRST;
    while (wanted < host->size + more)
        wanted *= 2;
    if (wanted == host->capacity)
        return true;
    uint8_t *queue = realloc(host->queue, wanted);
    if (queue == NULL)
        return false;
    host->queue = queue;
    host->capacity = wanted;
    return true;
}

static void bytes_add(uint8_t **place, struct view bytes)
{
    if (bytes.size > 0)
        memcpy(*place, bytes.data, bytes.size);
    *place += bytes.size;
}

static bool queue_add(struct plugin_host *host, const struct plugin_output *output)
{
    size_t bytes = output->topic.size + output->key.size + output->value.size + output->text.size;
    size_t size = (sizeof(struct queued) + bytes + 15) & ~(size_t)15;
    size_t heads = (size_t)host->bounds.emits_max * (sizeof(struct queued) + 16);
    size_t bound = host->bounds.emit_bytes_max + heads + QUEUE_EXTRA;
    /* A snapshot is bounded by itself; for the end of an input there always is room. */
    bool is_bounded = output->kind != OUTPUT_DONE && output->kind != OUTPUT_SNAPSHOT;
    size_t spare = output->kind != OUTPUT_DONE ? DONE_SIZE : 0;
    if ((is_bounded && host->size + size > bound) || !queue_reserve(host, size + spare))
        return false;
    struct queued *queued = (struct queued *)(void *)(host->queue + host->size);
    uint8_t *place = (uint8_t *)(queued + 1);
    queued->output = *output;
    queued->size = size;
    bytes_add(&place, output->topic);
    bytes_add(&place, output->key);
    bytes_add(&place, output->value);
    bytes_add(&place, output->text);
    host->size += size;
    return true;
}

/* Whatever does not take the shortcut waits in the queue, behind what had taken it. */
static bool output_add(void *context, const struct plugin_output *output)
{
    struct plugin_host *host = context;
    const struct plugin_shortcut *shortcut = host->shortcut;
    if (shortcut == NULL)
        return queue_add(host, output);
    if (!host->is_short && output->kind == OUTPUT_EMIT && shortcut->take(shortcut->context, output)) {
        host->is_short = true;
        return true;
    }
    host->shortcut = NULL;
    if (host->is_short) {
        struct plugin_output first;
        plugin_output_init(&first, OUTPUT_EMIT, output->number);
        shortcut->take_back(shortcut->context, &first);
        host->is_short = false;
        bool is_void = output->kind == OUTPUT_DONE; /* nothing but its end is left to come, so that is a bad one */
        if (!is_void && !queue_add(host, &first))
            return false;
    }
    return queue_add(host, output);
}

static struct view bytes_found(const uint8_t **place, struct view kept)
{
    struct view found = view_of(*place, kept.size);
    *place += kept.size;
    return found;
}

static void host_free(struct plugin_host *host)
{
    runner_close(&host->runner);
    free(host->queue);
    host->magic = 0;
    free(host);
}

/* Tells how init went. */
static void start_tell(struct plugin_host *host, enum weir_error error, const char *why)
{
    char text[PLUGIN_TEXT_SIZE];
    struct plugin_output done = {.kind = OUTPUT_DONE, .result = error ? WEIR_ACTOR_FAILED : WEIR_ACTOR_OK};
    if (error == WEIR_OK) {
        const struct weir_actor_plugin *plugin = runner_plugin(host->runner);
        done.has_snapshot = plugin->snapshot != NULL;
        (void)snprintf(text, sizeof text, "%.100s %.100s", plugin->name, plugin->version);
        done.text = view_text(text);
    } else {
        done.text = view_text(why);
        host->has_failed = true;
        host->end.cause = WEIR_FAILED;
        (void)snprintf(host->end.text, sizeof host->end.text, "%s", why);
    }
    bool is_taken = queue_add(host, &done);
    ENSURE(is_taken);
}

static enum weir_error thread_start(const struct plugin_spec *spec, struct plugin_bell bell, struct plugin_host **out,
                                    char *why, size_t why_size)
{
    (void)bell; /* whoever gives an input finds its outputs at once */
    struct plugin_host *host = calloc(1, sizeof *host);
    if (host == NULL || !queue_reserve(host, QUEUE_FIRST)) {
        free(host);
        (void)snprintf(why, why_size, "no memory");
        return WEIR_NO_MEMORY;
    }
    host->magic = HOST_MAGIC;
    host->bounds = spec->bounds;
    runner_bounds_fill(&host->bounds);
    host->time_ms_max = spec->time_ms_max;
    host->slow.interval_ns = NS_PER_S;
    (void)snprintf(host->name, sizeof host->name, "%s", spec->name);
    enum weir_error error =
        runner_open(spec->file, spec->role, &host->bounds, output_add, host, &host->runner, why, why_size);
    if (error != WEIR_OK) {
        host_free(host);
        return error;
    }
    error = runner_start(host->runner, spec->config, why, why_size);
    start_tell(host, error, why);
    *out = host;
    return WEIR_OK;
}

/* A thread cannot be ended: that it took too long can only be told. */
static void time_check(struct plugin_host *host)
{
    uint64_t now_ns = clock_coarse_ns(), began_ns = host->looked_ns, suppressed;
    host->looked_ns = now_ns;
    if (host->time_ms_max == 0 || now_ns - began_ns <= host->time_ms_max * NS_PER_MS ||
        !log_limit_pass(&host->slow, now_ns, &suppressed))
        return;
    log_warning("plugin.slow", "plugin=%s took_ms=%llu allowed_ms=%u suppressed=%llu", host->name,
                (unsigned long long)((now_ns - began_ns) / NS_PER_MS), (unsigned)host->time_ms_max,
                (unsigned long long)suppressed);
}

static enum weir_error thread_call(struct plugin_host *host, const struct plugin_input *input,
                                   const struct plugin_shortcut *shortcut, bool *is_over)
{
    MAGIC_CHECK(host, HOST_MAGIC);
    if (host->first < host->size)
        return WEIR_FULL;
    if (host->has_failed)
        return WEIR_CLOSED;
    if (!queue_reserve(host, DONE_SIZE))
        return WEIR_FULL;
    if (host->looked_ns == 0)
        host->looked_ns = clock_coarse_ns();
    host->shortcut = shortcut;
    enum weir_actor_result result = runner_call(host->runner, input);
    *is_over = host->is_short && result == WEIR_ACTOR_OK;
    if (!*is_over)
        runner_tell(host->runner, input, result);
    host->shortcut = NULL;
    host->is_short = false;
    time_check(host);
    if (result == WEIR_ACTOR_FAILED) {
        host->has_failed = true;
        host->end = (struct plugin_end){.cause = WEIR_FAILED, .number = input->number};
        (void)snprintf(host->end.text, sizeof host->end.text, "its call failed");
    }
    return WEIR_OK;
}

static enum weir_error thread_give(struct plugin_host *host, const struct plugin_input *input)
{
    bool is_over = false;
    if (input->kind != INPUT_STOP)
        return thread_call(host, input, NULL, &is_over);
    (void)runner_handle(host->runner, input);
    return WEIR_OK;
}

static void thread_flush(struct plugin_host *host)
{
    MAGIC_CHECK(host, HOST_MAGIC);
    host->looked_ns = 0;
}

static enum weir_error thread_take(struct plugin_host *host, struct plugin_output *out, struct plugin_end *end)
{
    MAGIC_CHECK(host, HOST_MAGIC);
    if (host->first == host->size) {
        host->first = host->size = 0;
        if (host->capacity > QUEUE_KEPT) {
            free(host->queue);
            host->queue = NULL;
            host->capacity = 0;
        }
        if (!host->has_failed)
            return WEIR_AGAIN;
        *end = host->end;
        return WEIR_CLOSED;
    }
    const struct queued *queued = (const struct queued *)(const void *)(host->queue + host->first);
    const uint8_t *place = (const uint8_t *)(queued + 1);
    const struct plugin_output *from = &queued->output;
    out->kind = from->kind;
    out->number = from->number;
    out->topic = bytes_found(&place, from->topic);
    out->key = bytes_found(&place, from->key);
    out->has_key = from->has_key;
    if (!out->has_key)
        out->key.data = NULL;
    out->value = bytes_found(&place, from->value);
    out->text = bytes_found(&place, from->text);
    out->timer = from->timer;
    out->delay_ms = from->delay_ms;
    out->period_ms = from->period_ms;
    out->level = from->level;
    out->result = from->result;
    out->has_snapshot = from->has_snapshot;
    out->is_last = false;
    out->same = 0; /* it has all of it */
    out->update_size = from->update_size;
    host->first += queued->size;
    return WEIR_OK;
}

static void thread_stop(struct plugin_host **pointer)
{
    struct plugin_host *host = *pointer;
    if (host == NULL)
        return;
    MAGIC_CHECK(host, HOST_MAGIC);
    host_free(host);
    *pointer = NULL;
}

const struct plugin_host_ops plugin_host_thread = {
    .name = "thread",
    .ahead = 1,
    .start = thread_start,
    .give = thread_give,
    .call = thread_call,
    .flush = thread_flush,
    .take = thread_take,
    .stop = thread_stop,
};
