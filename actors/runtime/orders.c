/* Orders. See orders.h for the protocol. Stop and restart come from any thread, the rest from the actor's
 * worker. All swaps are acquire-release: an order carries what its giver wrote before, and suspending hands
 * the actor's state to whoever runs it next. */
#include "actors/runtime/orders.h"

#include "actors/runtime/state.h"

enum weir_error orders_stop(struct runtime *runtime, struct caller *caller, weir_actor to, enum weir_error cause)
{
    struct actor *actor = actor_find(runtime, to);
    uint32_t generation = (uint32_t)(to.bits >> 32);
    if (!actor)
        return WEIR_STALE;
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
    uint64_t next;
    do {
        if (orders_generation(orders) != generation)
            return WEIR_STALE;
        if (orders & ORDER_STOP)
            return WEIR_OK; /* the first cause stands */
        next = (orders & ~(ORDER_SUSPENDED | ORDER_CAUSE_MASK)) | ORDER_STOP;
        next |= (uint64_t)cause << ORDER_CAUSE_SHIFT;
        /* Sequentially consistent: the flag before the token, for the settle that comes in between. */
    } while (!atomic_compare_exchange_weak_explicit(&actor->orders, &orders, next, memory_order_seq_cst,
                                                    memory_order_relaxed));
    if ((orders & ORDER_SUSPENDED) || mailbox_nudge(&actor->mailbox))
        caller_schedule(runtime, caller, actor);
    return WEIR_OK;
}

enum weir_error orders_restart(struct runtime *runtime, struct caller *caller, weir_actor to, uint32_t incident)
{
    struct actor *actor = actor_find(runtime, to);
    uint32_t generation = (uint32_t)(to.bits >> 32);
    if (!actor)
        return WEIR_STALE;
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
    uint64_t next;
    do {
        if (orders_generation(orders) != generation)
            return WEIR_STALE;
        if (incident != ORDERS_ANY_INCIDENT && incident != orders_incident(orders))
            return WEIR_OK; /* that failure has been dealt with */
        next = (orders & ~ORDER_SUSPENDED) | ORDER_RESTART;
    } while (!atomic_compare_exchange_weak_explicit(&actor->orders, &orders, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (orders & ORDER_SUSPENDED)
        caller_schedule(runtime, caller, actor);
    return WEIR_OK;
}

void orders_begin_incident(struct actor *actor)
{
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
    uint64_t next;
    do {
        next = orders & ~(ORDER_RESTART | ORDER_INCIDENT_MASK);
        next |= (orders + ORDER_INCIDENT_ONE) & ORDER_INCIDENT_MASK;
    } while (!atomic_compare_exchange_weak_explicit(&actor->orders, &orders, next, memory_order_relaxed,
                                                    memory_order_relaxed));
}

bool orders_suspend(struct actor *actor)
{
    uint64_t orders = atomic_load_explicit(&actor->orders, memory_order_relaxed);
    do {
        if (orders & (ORDER_STOP | ORDER_RESTART))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&actor->orders, &orders, orders | ORDER_SUSPENDED,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return true;
}
