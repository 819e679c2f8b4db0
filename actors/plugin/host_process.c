/* The process host: a plugin instance in a sandboxed child, behind two rings. Called by the plugin actor in its turns;
 * has_ended and the time of a child are the watcher's (processes.c).
 *
 * What comes from the child is copied out of the ring first, then checked, then shown; a child that breaks a rule is
 * killed, and that is its end. Inputs are answered in order, so the input in hand is the oldest one without a DONE. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "actors/plugin/child_check.h"
#include "actors/plugin/child_spec.h"
#include "actors/plugin/host.h"
#include "actors/plugin/parcel.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/processes.h"

#define HOST_MAGIC UINT32_C(0x50524f43)
#define NUMBER_NONE UINT64_MAX

struct plugin_host {
    uint32_t magic;
    struct process process;
    struct channel ring;
    struct parcel_inbox inbox;
    struct child_check check; /* .number: the input in hand; NUMBER_NONE: none, so every output is one too many */
    uint64_t last_given;      /* 0: none yet */
    uint64_t restore_number;  /* of the restore that is under way, which has the start's time; 0: none */
    uint64_t time_ns, start_ns;
    struct parcel parcel;
    uint8_t *large; /* an input that is larger than the ring takes at once, on its way; NULL: none */
    bool is_starting, is_stopping, is_over;
    bool is_input_over; /* the last output taken was the end of its input: nobody looks at those before it any more */
    /* Of the outputs taken since the ring was last found empty. */
    bool has_done;
    uint64_t drained;
    uint64_t room_made; /* taken since it was last looked whether the child waits for room */
    struct plugin_end end;
    char failed[PLUGIN_TEXT_SIZE]; /* why the last input failed */
};

/* ---------------------------------------------------------------------------------------------- time */

static void time_begin(struct plugin_host *host)
{
    bool is_start = host->is_starting || host->restore_number != 0;
    atomic_store_explicit(&host->process.budget_ns, is_start ? host->start_ns : host->time_ns, memory_order_relaxed);
    atomic_store_explicit(&host->process.since_ns, clock_now_ns(), memory_order_release);
}

static uint32_t waiting(const struct plugin_host *host)
{
    return atomic_load_explicit(&host->process.waiting, memory_order_relaxed);
}

/* Pairs with the watcher's acquire: time_begin comes before. */
static void waiting_set(struct plugin_host *host, uint32_t count)
{
    atomic_store_explicit(&host->process.waiting, count, memory_order_release);
}

/* --------------------------------------------------------------------------------------------- start */

static void host_free(struct plugin_host *host)
{
    channel_unmap(&host->ring);
    parcel_inbox_fini(&host->inbox);
    free(host->large);
    host->magic = 0;
    free(host);
}

/* Makes what the child gets; those made so far are in fds, the others -1. */
static enum weir_error fds_make(struct plugin_host *host, const struct plugin_spec *spec, int fds[SPAWNER_FDS])
{
    enum weir_error error = child_spec_write(spec, &fds[SPAWNER_FD_SPEC]);
    if (error == WEIR_OK)
        error = channel_half_create(spec->ring_bytes, &fds[SPAWNER_FD_TO_CHILD]);
    if (error == WEIR_OK)
        error = channel_half_create(spec->ring_bytes, &fds[SPAWNER_FD_FROM_CHILD]);
    if (error == WEIR_OK)
        error = channel_map(&host->ring, fds[SPAWNER_FD_TO_CHILD], fds[SPAWNER_FD_FROM_CHILD], spec->ring_bytes);
    if (error == WEIR_OK)
        error = channel_half_seal(fds[SPAWNER_FD_TO_CHILD]);
    if (error == WEIR_OK) {
        fds[SPAWNER_FD_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        error = fds[SPAWNER_FD_BELL] < 0 ? WEIR_IO : WEIR_OK;
    }
    return error;
}

static enum weir_error process_begin(struct plugin_host *host, const struct plugin_spec *spec, char *why,
                                     size_t why_size)
{
    int fds[SPAWNER_FDS] = {-1, -1, -1, -1};
    enum weir_error error = fds_make(host, spec, fds);
    if (error != WEIR_OK)
        snprintf(why, why_size, "%s: no memory shared with its process: %s", spec->name, weir_error_text(error));
    if (error == WEIR_OK) {
        time_begin(host);
        waiting_set(host, 1);
        error = process_add(&host->process, fds);
        if (error == WEIR_AGAIN)
            snprintf(why, why_size, "%s: the process that starts plugins has ended; another one is being started",
                     spec->name);
        else if (error == WEIR_FULL)
            snprintf(why, why_size, "%s: %d plugin processes are there already", spec->name, SPAWNER_CHILDREN_MAX);
        else if (error != WEIR_OK)
            snprintf(why, why_size, "%s: its process cannot be asked for: %s", spec->name, weir_error_text(error));
    }
    if (error == WEIR_OK)
        fds[SPAWNER_FD_BELL] = -1; /* the process's now */
    for (int i = 0; i < SPAWNER_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return error;
}

static enum weir_error host_start(const struct plugin_spec *asked, struct plugin_bell bell, struct plugin_host **out,
                                  char *why, size_t why_size)
{
    struct plugin_spec spec = *asked;
    struct plugin_host *host = calloc(1, sizeof *host);
    *out = NULL;
    if (host == NULL) {
        snprintf(why, why_size, "%s: no memory", spec.name);
        return WEIR_NO_MEMORY;
    }
    runner_bounds_fill(&spec.bounds);
    if (spec.time_ms_max == 0)
        spec.time_ms_max = PLUGIN_TIME_MS_DEFAULT;
    if (spec.start_ms_max == 0)
        spec.start_ms_max = PLUGIN_START_MS_DEFAULT;
    uint32_t ring_bytes = CHANNEL_BYTES_MIN;
    while (ring_bytes < (spec.ring_bytes == 0 ? PLUGIN_RING_BYTES_DEFAULT : spec.ring_bytes) &&
           ring_bytes < CHANNEL_BYTES_MAX)
        ring_bytes *= 2;
    spec.ring_bytes = ring_bytes;
    host->magic = HOST_MAGIC;
    host->is_starting = true;
    host->check.bounds = spec.bounds;
    host->time_ns = spec.time_ms_max * NS_PER_MS;
    host->start_ns = spec.start_ms_max * NS_PER_MS;
    host->process.bell = bell;
    host->process.ring = &host->ring;
    /* An update may have a merged form behind it. */
    size_t value_size_max = 2 * (size_t)spec.bounds.value_bytes_max;
    if (value_size_max < spec.bounds.snapshot_bytes_max)
        value_size_max = spec.bounds.snapshot_bytes_max;
    host->inbox.size_max =
        sizeof(struct parcel_output) + TOPIC_NAME_SIZE_MAX + KEY_SIZE_MAX + PLUGIN_TEXT_SIZE + value_size_max;
    host->inbox.keeps = true;
    child_check_begin(&host->check, 0);
    enum weir_error error = process_begin(host, &spec, why, why_size);
    if (error != WEIR_OK) {
        host_free(host);
        return error;
    }
    processes_watch_time();
    *out = host;
    return WEIR_OK;
}

static void host_stop(struct plugin_host **pointer)
{
    struct plugin_host *host = *pointer;
    *pointer = NULL;
    if (host == NULL)
        return;
    MAGIC_CHECK(host, HOST_MAGIC);
    process_remove(&host->process);
    host_free(host);
}

/* --------------------------------------------------------------------------------------------- inputs */

/* Sends on what is on its way; true when nothing is left of it. */
static bool large_push(struct plugin_host *host)
{
    if (host->large == NULL)
        return true;
    bool is_through = parcel_push(&host->ring, &host->parcel);
    channel_publish(&host->ring);
    if (channel_must_wake(&host->ring))
        channel_wake(&host->ring);
    if (is_through) {
        free(host->large);
        host->large = NULL;
    }
    return is_through;
}

/* Whether there is room for more of it, as there may be since it was last tried. */
static bool large_goes_on(struct plugin_host *host)
{
    uint64_t before = host->parcel.done;
    return host->large != NULL && (large_push(host) || host->parcel.done > before);
}

/* Copies an input that does not fit at once and sends what fits. */
static enum weir_error large_begin(struct plugin_host *host)
{
    size_t place = 0;
    host->large = malloc(host->parcel.total);
    if (host->large == NULL)
        return WEIR_NO_MEMORY;
    for (size_t i = 0; i < PARCEL_PARTS_MAX; i++) {
        struct view part = host->parcel.parts[i];
        if (part.size > 0)
            memcpy(host->large + place, part.data, part.size);
        place += part.size;
        host->parcel.parts[i] = view_of(NULL, 0);
    }
    host->parcel.parts[0] = view_of(host->large, place);
    (void)large_push(host);
    return WEIR_OK;
}

/* WEIR_FULL, and the child is to say when it has taken something. */
static enum weir_error room_want(struct plugin_host *host, uint64_t wanted)
{
    channel_publish(&host->ring);
    if (channel_must_wake(&host->ring))
        channel_wake(&host->ring);
    channel_want(&host->ring);
    return channel_room(&host->ring, wanted) >= wanted ? WEIR_OK : WEIR_FULL;
}

static enum weir_error input_send(struct plugin_host *host, const struct plugin_input *input)
{
    if (!large_push(host))
        return room_want(host, host->ring.size);
    if (!parcel_of_input(&host->parcel, input))
        return WEIR_TOO_BIG;
    uint64_t bytes = parcel_channel_bytes(&host->ring, host->parcel.total);
    /* Its memory could not hold it. */
    if (host->parcel.total > host->check.bounds.memory_bytes_max + sizeof(struct parcel_input))
        return WEIR_TOO_BIG;
    if (bytes > host->ring.size / 2)
        return large_begin(host);
    if (channel_room(&host->ring, bytes) < bytes && room_want(host, bytes) != WEIR_OK)
        return WEIR_FULL;
    bool is_through = parcel_push(&host->ring, &host->parcel);
    ENSURE(is_through);
    return WEIR_OK;
}

static enum weir_error host_give(struct plugin_host *host, const struct plugin_input *input)
{
    MAGIC_CHECK(host, HOST_MAGIC);
    REQUIRE(host->last_given == 0 || input->number == host->last_given + 1);
    if (host->is_over || host->is_stopping || atomic_load_explicit(&host->process.has_ended, memory_order_acquire))
        return WEIR_CLOSED;
    enum weir_error error = input_send(host, input);
    if (host->ring.fault != NULL)
        return WEIR_CLOSED; /* take says why */
    if (error != WEIR_OK)
        return error;
    host->last_given = input->number;
    host->is_stopping = input->kind == INPUT_STOP;
    if (input->kind == INPUT_RESTORE)
        host->restore_number = input->number;
    if (waiting(host) == 0) {
        child_check_begin(&host->check, host->is_stopping ? NUMBER_NONE : input->number);
        time_begin(host);
    }
    waiting_set(host, waiting(host) + 1);
    return WEIR_OK;
}

static void host_flush(struct plugin_host *host)
{
    MAGIC_CHECK(host, HOST_MAGIC);
    channel_publish(&host->ring);
    if (channel_must_wake(&host->ring))
        channel_wake(&host->ring);
    if (waiting(host) > 0)
        processes_watch_time();
}

/* ----------------------------------------------------------------------------------------------- end */

__attribute__((format(printf, 3, 4))) static enum weir_error end_set(struct plugin_host *host, enum weir_error cause,
                                                                     const char *format, ...)
{
    va_list arguments;
    bool has_input = !host->is_starting && waiting(host) > 0 && host->check.number != NUMBER_NONE;
    host->is_over = true;
    host->end.cause = cause;
    host->end.number = has_input ? host->check.number : 0;
    va_start(arguments, format);
    (void)vsnprintf(host->end.text, sizeof host->end.text, format, arguments);
    va_end(arguments);
    return WEIR_CLOSED;
}

/* The child broke a rule of the ring or of what may be in it. */
static enum weir_error end_hostile(struct plugin_host *host, const char *what)
{
    process_kill(&host->process);
    return end_set(host, WEIR_PROTOCOL, "it broke the rules of its ring (%.180s): killed", what);
}

/* The child says so itself: good enough for people. */
static bool is_out_of_memory(const struct plugin_host *host)
{
    return atomic_load_explicit(&host->ring.other->hint, memory_order_relaxed) == CHANNEL_HINT_NO_MEMORY;
}

static const char *doing(const struct plugin_host *host)
{
    return host->is_starting ? "while starting" : waiting(host) > 0 ? "while handling" : "while idle";
}

static enum weir_error end_by_signal(struct plugin_host *host, const struct process_end *end)
{
    int number = WTERMSIG(end->status);
    const char *name = sigabbrev_np(number);
    if (is_out_of_memory(host))
        return end_set(host, WEIR_NO_MEMORY, "its memory of %llu bytes is used up: killed by SIG%s %s",
                       (unsigned long long)host->check.bounds.memory_bytes_max, name != NULL ? name : "?", doing(host));
    return end_set(host, WEIR_FAILED, "killed by SIG%s %s", name != NULL ? name : "?", doing(host));
}

/* It has ended by itself or by the watcher, and all that it wrote has been taken. */
static enum weir_error end_of_process(struct plugin_host *host)
{
    const struct process_end *end = &host->process.end;
    if (end->is_late)
        return end_set(
            host, WEIR_TIMEOUT, "no end after %llu ms: killed %s",
            (unsigned long long)(atomic_load_explicit(&host->process.budget_ns, memory_order_relaxed) / NS_PER_MS),
            host->is_stopping ? "while stopping" : doing(host));
    if (end->is_loud)
        return end_set(host, WEIR_PROTOCOL, "it rang the broker's bell again and again for nothing: killed %s",
                       doing(host));
    if (end->error == ESRCH)
        return end_set(host, WEIR_CLOSED, "the process that starts plugins is gone, and its children with it");
    if (end->error != 0)
        return end_set(host, WEIR_FAILED, "no process for it: %s", strerror(end->error));
    if (host->failed[0] != '\0')
        return end_set(host, WEIR_FAILED, "%s", host->failed);
    if (WIFSIGNALED(end->status))
        return end_by_signal(host, end);
    if (host->is_stopping && WEXITSTATUS(end->status) == EXIT_SUCCESS)
        return end_set(host, WEIR_OK, "it was asked to stop");
    return end_set(host, WEIR_FAILED, "exited with status %d %s", WEXITSTATUS(end->status), doing(host));
}

/* ------------------------------------------------------------------------------------------- outputs */

/* One input less to wait for. */
static void done_take(struct plugin_host *host, const struct plugin_output *output)
{
    uint32_t left = waiting(host) - 1;
    host->has_done = true;
    if (output->result == WEIR_ACTOR_FAILED)
        snprintf(host->failed, sizeof host->failed, "%.*s", (int)output->text.size, (const char *)output->text.data);
    if (!host->is_starting && output->number == host->restore_number)
        host->restore_number = 0;
    /* The input after the start is the first that was given. */
    uint64_t next = host->is_starting ? host->last_given - left + 1 : output->number + 1;
    host->is_starting = false;
    bool is_stop = left == 1 && host->is_stopping;
    child_check_begin(&host->check, left == 0 || is_stop ? NUMBER_NONE : next);
    waiting_set(host, left);
}

/* Nothing there now. A child that has answered since, or that may have waited for room, has its time from here. */
static enum weir_error drain_end(struct plugin_host *host)
{
    if (host->has_done || host->drained > host->ring.size / 2)
        time_begin(host);
    host->has_done = false;
    host->drained = 0;
    atomic_store_explicit(&host->process.is_draining, false, memory_order_release);
    return WEIR_AGAIN;
}

/* A child that waits for room has some now. */
static void room_tell(struct plugin_host *host)
{
    host->room_made = 0;
    if (channel_must_wake_for_room(&host->ring))
        channel_wake(&host->ring);
}

static enum weir_error output_take(struct plugin_host *host, struct view bytes, struct plugin_output *out)
{
    char why[PLUGIN_TEXT_SIZE] = "a message whose sizes do not add up, or with a flag that there is not";
    host->drained += bytes.size;
    host->room_made += bytes.size;
    /* It sleeps for room where it filled the ring: once that is half empty, it may go on. */
    if (host->room_made > host->ring.size / 2)
        room_tell(host);
    if (!parcel_to_output(bytes, out) || !child_check(&host->check, out, why, sizeof why))
        return end_hostile(host, why);
    host->is_input_over = out->kind == OUTPUT_DONE || out->is_last;
    if (host->is_input_over)
        done_take(host, out);
    return WEIR_OK;
}

static enum weir_error host_take(struct plugin_host *host, struct plugin_output *out, struct plugin_end *end)
{
    struct view bytes;
    MAGIC_CHECK(host, HOST_MAGIC);
    enum weir_error result = host->is_over ? WEIR_CLOSED : WEIR_AGAIN;
    if (host->is_input_over)
        parcel_inbox_clear(&host->inbox);
    host->is_input_over = false;
    while (result == WEIR_AGAIN) {
        /* Before the ring: what a child wrote before its end is there when its end is. */
        bool has_ended = atomic_load_explicit(&host->process.has_ended, memory_order_acquire);
        if (!atomic_load_explicit(&host->process.is_draining, memory_order_relaxed))
            atomic_store_explicit(&host->process.is_draining, true, memory_order_seq_cst);
        (void)large_push(host);
        if (parcel_pull(&host->ring, &host->inbox, false, &bytes)) {
            result = output_take(host, bytes, out);
        } else if (host->ring.fault != NULL) {
            result = end_hostile(host, host->ring.fault);
        } else if (has_ended) {
            result = end_of_process(host);
        } else {
            /* channel.h rule 4. */
            room_tell(host);
            channel_want(&host->ring);
            if (channel_waiting(&host->ring) == 0 && !large_goes_on(host) && host->ring.fault == NULL)
                return drain_end(host);
        }
    }
    if (result == WEIR_CLOSED)
        *end = host->end;
    return result;
}

static int32_t host_pid(const struct plugin_host *host)
{
    return atomic_load_explicit(&host->process.pid, memory_order_relaxed);
}

const struct plugin_host_ops plugin_host_process = {
    .name = "process",
    .ahead = 64, /* to find the ring empty and to say so costs as much as to give an input or two */
    .start = host_start,
    .give = host_give,
    .flush = host_flush,
    .take = host_take,
    .pid = host_pid,
    .stop = host_stop,
};
