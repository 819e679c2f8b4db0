/* What behaviours and other threads call: spawning, sending, orders. See actor.h. The turn_ functions run on
 * the turn's worker, the others on any thread. */
#include "actors/runtime/actor.h"

#include <string.h>

#include "actors/runtime/orders.h"
#include "actors/runtime/state.h"

#define ATTEMPTS_DEFAULT 3

/* The smallest class whose slots carry that much state, and arguments before the state is there. */
static uint32_t class_of(size_t size)
{
    uint32_t class = 0;
    while (actor_state_sizes[class] < size)
        class ++;
    return class;
}

static enum weir_error label_create(struct runtime *runtime, struct caller *caller, const char *text, uint32_t *out)
{
    uint32_t index;
    uint64_t words[8] = {0};
    size_t size = strnlen(text, sizeof words - 1);
    enum weir_error error = slots_alloc(runtime->labels, &caller->caches.labels, &index);
    if (error)
        return error;
    memcpy(words, text, size);
    struct label *label = slots_at(runtime->labels, index);
    for (int i = 0; i < 8; i++)
        atomic_store_explicit(&label->words[i], words[i], memory_order_relaxed);
    *out = index;
    return WEIR_OK;
}

/* The slot's last user left it ended: no lists, no timers, orders 0, mailbox closed. */
static void actor_fill(struct actor *actor, const struct behaviour *behaviour, const struct actor_options *options)
{
    uint32_t attempts = options->attempts_max ? options->attempts_max : ATTEMPTS_DEFAULT;
    atomic_store_explicit(&actor->mailbox_max, options->mailbox_max, memory_order_relaxed);
    atomic_store_explicit(&actor->refused, 0, memory_order_relaxed);
    atomic_store_explicit(&actor->behaviour, behaviour, memory_order_relaxed);
    actor->supervisor = options->supervisor;
    actor->budget = options->budget;
    atomic_store_explicit(&actor->handled, 0, memory_order_relaxed);
    atomic_store_explicit(&actor->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&actor->last_cause, WEIR_OK, memory_order_relaxed);
    actor->attempts_max = (uint8_t)(attempts < ENVELOPE_ATTEMPTS_MAX ? attempts : ENVELOPE_ATTEMPTS_MAX);
    actor->owed = 0;
    actor->sweep_in = 0;
    actor->has_offered = false;
    actor->is_started = false;
}

static void slot_last_raise(struct runtime *runtime, uint32_t class, uint32_t slot)
{
    _Atomic uint32_t *last = &runtime->classes[class].slot_last;
    uint32_t seen = atomic_load_explicit(last, memory_order_relaxed);
    while (seen < slot &&
           !atomic_compare_exchange_weak_explicit(last, &seen, slot, memory_order_relaxed, memory_order_relaxed))
        continue;
    if (slot == CROWD_FROM)
        atomic_store_explicit(&runtime->is_crowd, true, memory_order_relaxed);
}

/* A slot for the actor, named and open for messages, counted but not scheduled. */
static enum weir_error actor_create(struct runtime *runtime, struct caller *caller, const struct behaviour *behaviour,
                                    const void *args, size_t args_size, const struct actor_options *options,
                                    struct actor **out)
{
    uint32_t class = class_of(behaviour->state_size > args_size ? behaviour->state_size : args_size);
    uint32_t slot;
    uint32_t label = 0;
    enum weir_error error = slots_alloc(runtime->actors[class], &caller->caches.actors[class], &slot);
    if (error)
        return error;
    if (options->label && (error = label_create(runtime, caller, options->label, &label)) != WEIR_OK) {
        slots_free(runtime->actors[class], &caller->caches.actors[class], slot);
        return error;
    }
    struct actor *actor = slots_at(runtime->actors[class], slot);
    actor->index = class << ACTOR_CLASS_SHIFT | slot;
    actor_fill(actor, behaviour, options);
    atomic_store_explicit(&actor->label, label, memory_order_relaxed);
    actor->args_size = (uint16_t)args_size;
    if (args_size)
        memcpy(actor->state, args, args_size);
    uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
    generation = generation ? generation : 1;
    atomic_store_explicit(&actor->orders, orders_of_generation(generation), memory_order_relaxed);
    atomic_store_explicit(&actor->generation, generation, memory_order_relaxed);
    /* Counted as one control message until its first turn is over, so that no sender schedules it. */
    atomic_store_explicit(&actor->mailbox, MAILBOX_CONTROL_ONE, memory_order_release);
    counter_add(&caller->counters.spawned, 1);
    slot_last_raise(runtime, class, slot);
    /* Sequentially consistent with is_stopping: the stopper sees this actor, or we see that it stops. */
    atomic_store_explicit(&actor->phase, PHASE_STARTING, memory_order_seq_cst);
    *out = actor;
    return WEIR_OK;
}

static enum weir_error spawn(struct runtime *runtime, struct caller *caller, const struct behaviour *behaviour,
                             const void *args, size_t args_size, const struct actor_options *options, weir_actor *out)
{
    struct actor_options all = {0};
    struct actor *actor;
    if (options)
        all = *options;
    if (all.mailbox_max == 0)
        all.mailbox_max = runtime->config.mailbox_max;
    if (all.mailbox_max > MAILBOX_MAX || args_size > ACTOR_ARGS_SIZE_MAX)
        return WEIR_TOO_BIG;
    if (atomic_load_explicit(&runtime->is_stopping, memory_order_relaxed))
        return WEIR_CLOSED;
    enum weir_error error = actor_create(runtime, caller, behaviour, args, args_size, &all, &actor);
    if (error)
        return error;
    weir_actor handle = actor_handle(actor);
    if (atomic_load_explicit(&runtime->is_stopping, memory_order_seq_cst)) {
        /* It came in between: let it end before it starts, unknown to everybody. */
        actor->supervisor = WEIR_ACTOR_NONE;
        (void)!orders_stop(runtime, caller, handle, WEIR_CLOSED);
        error = WEIR_CLOSED;
    } else {
        *out = handle;
    }
    caller_schedule(runtime, caller, actor);
    return error;
}

enum weir_error actor_spawn(struct runtime *runtime, const struct behaviour *behaviour, const void *args,
                            size_t args_size, const struct actor_options *options, weir_actor *out)
{
    MAGIC_CHECK(runtime, RUNTIME_MAGIC);
    REQUIRE(behaviour != NULL && behaviour->on_message != NULL && behaviour->state_size <= ACTOR_STATE_SIZE_MAX);
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = spawn(runtime, caller, behaviour, args, args_size, options, out);
    caller_leave(caller);
    return error;
}

struct runtime *turn_runtime(struct turn *turn) { return turn->runtime; }

bool turn_has_more(const struct turn *turn)
{
    const struct actor *actor = turn->actor;
    return actor->control_first || actor->data_first ||
           mailbox_top(atomic_load_explicit(&actor->mailbox, memory_order_relaxed)) != 0;
}

struct arena *turn_arena(struct turn *turn) { return turn->runtime->config.arena; }

weir_actor turn_self(struct turn *turn) { return turn->self; }

struct budget *turn_budget(struct turn *turn) { return turn->actor->budget; }

uint64_t turn_now_ns(struct turn *turn)
{
    if (turn->now_ns == 0)
        turn->now_ns = runtime_now_ns(turn->runtime);
    return turn->now_ns;
}

enum weir_error turn_control(struct turn *turn, weir_actor to, const struct message *message)
{
    return caller_post(turn->runtime, &turn->worker->caller, turn->self, to, message, ENVELOPE_CONTROL,
                       MAILBOX_CONTROL_USERS_MAX);
}

void turn_exit(struct turn *turn, enum weir_error cause)
{
    turn->exits = true;
    turn->cause = cause;
}

void turn_yield(struct turn *turn) { turn->yields = true; }

void turn_mute(struct turn *turn, bool is_muted)
{
    _Atomic uint32_t *mailbox_max = &turn->actor->mailbox_max;
    if (is_muted)
        atomic_fetch_or_explicit(mailbox_max, MAILBOX_MUTED, memory_order_relaxed);
    else
        atomic_fetch_and_explicit(mailbox_max, ~MAILBOX_MUTED, memory_order_relaxed);
}

void turn_shutdown_defer(struct turn *turn) { turn->keeps = true; }

enum weir_error actor_send(struct runtime *runtime, weir_actor from, weir_actor to, const struct message *message)
{
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = caller_post(runtime, caller, from, to, message, 0, 0);
    caller_leave(caller);
    return error;
}

enum weir_error actor_control(struct runtime *runtime, weir_actor from, weir_actor to, const struct message *message)
{
    struct caller *caller = caller_enter(runtime);
    enum weir_error error =
        caller_post(runtime, caller, from, to, message, ENVELOPE_CONTROL, MAILBOX_CONTROL_USERS_MAX);
    caller_leave(caller);
    return error;
}

enum weir_error actor_restart(struct runtime *runtime, weir_actor handle, uint64_t delay_ns)
{
    if (delay_ns > 0) {
        struct actor *actor = actor_find(runtime, handle);
        if (!actor)
            return WEIR_STALE;
        uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
        return timers_restart_later(runtime, handle, orders_incident(orders), delay_ns);
    }
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = orders_restart(runtime, caller, handle, ORDERS_ANY_INCIDENT);
    caller_leave(caller);
    return error;
}

enum weir_error actor_stop(struct runtime *runtime, weir_actor actor, enum weir_error cause)
{
    struct caller *caller = caller_enter(runtime);
    enum weir_error error = orders_stop(runtime, caller, actor, cause);
    caller_leave(caller);
    return error;
}
