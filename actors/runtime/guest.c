/* A thread that is no worker gives an actor its turn itself, in the place of a worker that sleeps: what arrives alone
 * is handled where it arrived, without a switch of threads. Called by threads that have a message for an actor and
 * nothing better to do, as those that wait for sockets are. What keeps an actor single-threaded is untouched: the
 * thread is the worker whose place it has, and there are never more places than workers. */
#include "actors/base/clock.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"

/* Enough for what a message or a few set off (their connection, some topics, some tens of subscribers), unless that
 * takes so long that the next message should not wait for it. What is left goes to the worker's own thread. */
#define GUEST_TURNS_MAX 64
#define GUEST_TIME_MAX_NS NS_PER_MS
/* What sets off fewer turns than this is as good as done before a worker that sleeps would be awake: waking it costs
 * two switches of threads, on a core that the receivers of what is sent want, too. */
#define GUEST_HELP_FROM 32

enum weir_error actor_control_here(struct runtime *runtime, weir_actor from, weir_actor to,
                                   const struct message *message)
{
    bool may_borrow = !runtime->config.simulate && !worker_current(runtime);
    struct worker *worker = may_borrow ? park_borrow(runtime) : NULL;
    if (!worker)
        return actor_control(runtime, from, to, message);
    struct worker *before = worker_enter(worker);
    worker->help_from = GUEST_HELP_FROM;
    watch_ensure(&runtime->watch);
    enum weir_error error =
        caller_post(runtime, &worker->caller, from, to, message, ENVELOPE_CONTROL, MAILBOX_CONTROL_USERS_MAX);
    bool has_more = worker_run_some(worker, GUEST_TURNS_MAX, GUEST_TIME_MAX_NS);
    counter_add(&worker->parks, 1); /* for the watcher: what runs next is another turn */
    worker->help_from = HELP_FROM;
    worker_enter(before);
    park_give_back(worker, has_more);
    (void)arena_thread_rest(runtime->config.arena, clock_now_ns()); /* what comes later, when it is a guest again */
    return error;
}
