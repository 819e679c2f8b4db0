/* What can be told about actors and workers while they run. Any thread. Everything read here is atomic and
 * in type-stable memory; a generation read again afterwards tells whether it was one actor all along. */
#include "actors/runtime/status.h"

#include <stdio.h>
#include <string.h>

#include "actors/base/clock.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/state.h"

static void label_copy(const struct runtime *runtime, const struct actor *actor, char out[64])
{
    uint32_t index = atomic_load_explicit(&actor->label, memory_order_relaxed);
    uint64_t words[8] = {0};
    if (index) {
        const struct label *label = slots_at(runtime->labels, index);
        for (int i = 0; i < 8; i++)
            words[i] = atomic_load_explicit(&label->words[i], memory_order_relaxed);
    }
    memcpy(out, words, 64);
    out[63] = '\0';
}

static bool is_running(const struct runtime *runtime, const struct actor *actor)
{
    for (unsigned i = 0; i < runtime->config.workers; i++) {
        if (atomic_load_explicit(&runtime->workers[i].running, memory_order_relaxed) == actor)
            return true;
    }
    return false;
}

static const char *state_name(const struct runtime *runtime, const struct actor *actor, uint64_t word)
{
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
    switch (phase_of(actor)) {
    case PHASE_STARTING: return "starting";
    case PHASE_ENDING:
    case PHASE_FREE: return "stopping";
    case PHASE_FAILED:
        if (orders & ORDER_SUSPENDED)
            return "suspended";
        break;
    case PHASE_READY: break;
    }
    if (orders & ORDER_STOP)
        return "stopping";
    if ((word & MAILBOX_COUNTS) == 0)
        return "idle";
    return is_running(runtime, actor) ? "running" : "ready";
}

enum weir_error actor_status(struct runtime *runtime, weir_actor handle, struct actor_status *out)
{
    const struct actor *actor = actor_find(runtime, handle);
    if (!actor)
        return WEIR_STALE;
    const struct behaviour *behaviour = behaviour_of(actor);
    uint64_t word = atomic_load_explicit(&actor->mailbox, memory_order_relaxed);
    memset(out, 0, sizeof *out);
    out->actor = handle;
    out->behaviour = behaviour->name;
    label_copy(runtime, actor, out->label);
    out->state = state_name(runtime, actor, word);
    out->depth = mailbox_is_closed(word) ? 0 : mailbox_data(word);
    out->depth_max = atomic_load_explicit(&actor->mailbox_max, memory_order_relaxed) & ~MAILBOX_MUTED;
    out->handled = atomic_load_explicit(&actor->handled, memory_order_relaxed);
    out->refused = atomic_load_explicit(&actor->refused, memory_order_relaxed);
    out->failures = atomic_load_explicit(&actor->failures, memory_order_relaxed);
    out->last_cause = (enum weir_error)atomic_load_explicit(&actor->last_cause, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return actor_find(runtime, handle) == actor ? WEIR_OK : WEIR_STALE;
}

size_t status_running_name(struct runtime *runtime, const struct worker *worker, char out[STATUS_NAME_SIZE])
{
    const struct actor *actor = atomic_load_explicit(&worker->running, memory_order_relaxed);
    char label[64];
    out[0] = '\0';
    if (!actor)
        return 0;
    label_copy(runtime, actor, label);
    int size = snprintf(out, STATUS_NAME_SIZE, "%s%s%s", behaviour_of(actor)->name, label[0] ? " " : "", label);
    return size < STATUS_NAME_SIZE ? (size_t)size : STATUS_NAME_SIZE - 1;
}

enum weir_error runtime_worker_status(struct runtime *runtime, unsigned index, struct worker_status *out)
{
    char name[STATUS_NAME_SIZE];
    if (index >= runtime->config.workers)
        return WEIR_NOT_FOUND;
    const struct worker *worker = &runtime->workers[index];
    uint64_t clock = atomic_load_explicit(&worker->clock_ns, memory_order_relaxed);
    uint64_t now = runtime_now_ns(runtime);
    memset(out, 0, sizeof *out);
    out->turns = atomic_load_explicit(&worker->turns, memory_order_relaxed);
    out->messages = atomic_load_explicit(&worker->caller.counters.messages, memory_order_relaxed);
    out->steals = atomic_load_explicit(&worker->steals, memory_order_relaxed);
    out->parks = atomic_load_explicit(&worker->parks, memory_order_relaxed);
    out->busy_ns = atomic_load_explicit(&worker->busy_ns, memory_order_relaxed);
    out->queued = run_queue_count(&worker->queue);
    size_t size = status_running_name(runtime, worker, name);
    if (size > sizeof out->running - 1)
        size = sizeof out->running - 1;
    memcpy(out->running, name, size);
    if (size > 0 && clock != 0 && now > clock)
        out->running_ns = now - clock;
    return WEIR_OK;
}

static void counters_sum(struct runtime_status *out, const struct counters *counters)
{
    out->messages += atomic_load_explicit(&counters->messages, memory_order_relaxed);
    out->refused += atomic_load_explicit(&counters->refused, memory_order_relaxed);
    out->dead_letters += atomic_load_explicit(&counters->dead_letters, memory_order_relaxed);
    out->failures += atomic_load_explicit(&counters->failures, memory_order_relaxed);
    out->restarts += atomic_load_explicit(&counters->restarts, memory_order_relaxed);
}

void runtime_status(struct runtime *runtime, struct runtime_status *out)
{
    memset(out, 0, sizeof *out);
    out->workers = runtime->config.workers;
    out->actors = runtime_actors(runtime);
    pthread_mutex_lock(&runtime->timers.lock);
    out->timers = runtime->timers.live;
    pthread_mutex_unlock(&runtime->timers.lock);
    for (unsigned i = 0; i < runtime->config.workers; i++)
        counters_sum(out, &runtime->workers[i].caller.counters);
    for (int i = 0; i < CALLERS_FOREIGN; i++)
        counters_sum(out, &runtime->foreign[i].counters);
}
