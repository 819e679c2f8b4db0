/* One child's life. Called by its supervisor's turns and by whoever orders something of a child, under the tree's lock.
 * The table in tables.h says which function answers what in which state. */
#include "actors/supervise/tree.h"

#include "actors/base/clock.h"

static const char *const state_names[CHILD_STATE_COUNT] = {
#define STATE_NAME(state, name, ...) [CHILD_##state] = name,
    CHILD_TABLE(STATE_NAME)
#undef STATE_NAME
};

static const char *const event_names[CHILD_EVENT_COUNT] = {
#define EVENT_NAME(event, name) [CHILD_EVENT_##event] = name,
    CHILD_EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

const char *child_state_name(enum child_state state) { return state_names[state]; }

/* One call of a cell. */
struct step {
    struct supervision *tree;
    struct supervisor *supervisor; /* NULL: the child is the root */
    child_index index;
    struct child *child;
    const struct child_news *news;
};

static bool is_live(enum child_state state) { return state != CHILD_DOWN; }
static bool is_stopping(enum child_state state) { return state == CHILD_STOPPING || state == CHILD_KILLING; }
static bool is_in_order(enum weir_error cause) { return cause == WEIR_OK || cause == WEIR_CLOSED; }

static weir_actor supervisor_actor(const struct supervisor *supervisor)
{
    return supervisor ? supervisor->actor : WEIR_ACTOR_NONE;
}

/* Tells whoever asked for the child, once, how its start went. A full control lane of theirs is their loss. */
static void notify_started(struct step *step, enum weir_error error)
{
    struct aside *aside = aside_of(step->tree, step->child);
    if (!aside || actor_is_none(aside->notify))
        return;
    struct message message = {
        .tag = SUPERVISOR_STARTED,
        .word = {aside->notify_word, step->child->actor.bits, (uint64_t)error},
    };
    enum weir_error refused =
        actor_control(step->tree->runtime, supervisor_actor(step->supervisor), aside->notify, &message);
    (void)refused;
    aside->notify = WEIR_ACTOR_NONE;
    aside_tidy(step->tree, step->child);
}

static void timer_clear(struct supervision *tree, struct child *child)
{
    struct aside *aside = aside_of(tree, child);
    if (!aside || aside->timer.bits == 0)
        return;
    timer_cancel(tree->runtime, aside->timer);
    aside->timer.bits = 0;
    aside_tidy(tree, child);
}

/* Kept while its group is being restarted: it is spawned again with the others. */
static bool is_kept(const struct supervisor *supervisor, const struct child *child)
{
    if (!supervisor || !(child->flags & CHILD_IS_DYNAMIC))
        return true;
    return supervisor->phase == SUPERVISOR_REGROUPING && child->plan &&
           child_restart_type(supervisor->tree, child) != RESTART_TEMPORARY;
}

/* It is down. Spawned again if that was the order; else forgotten or kept, and its supervisor told. */
static void settle(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    struct supervisor *supervisor = supervisor_by_id(tree, child->supervisor);
    if (!supervisor)
        return;
    bool is_wanted = child->flags & CHILD_SPAWNS_WHEN_DOWN;
    child->flags &= (uint8_t)~CHILD_SPAWNS_WHEN_DOWN;
    if (is_wanted && (supervisor->phase == SUPERVISOR_RUNNING || supervisor->phase == SUPERVISOR_STARTING)) {
        child_tell(tree, index, CHILD_EVENT_SPAWN, WEIR_OK);
        return;
    }
    enum weir_error cause = (enum weir_error)child->last_cause;
    if (!is_kept(supervisor, child)) {
        child_remove(tree, index);
        index = 0;
    }
    supervisor_handle(supervisor, SUPERVISOR_EVENT_CHILD_DOWN, index, cause);
}

void child_enter(struct supervision *tree, child_index index, enum child_state state, const char *event)
{
    struct child *child = child_at(tree, index);
    struct supervisor *supervisor = supervisor_by_id(tree, child->supervisor);
    enum child_state from = (enum child_state)child->state;
    timer_clear(tree, child);
    child->state = state;
    if (tree->on_transition) {
        struct supervision_transition transition = {
            .name = child_name(tree, index),
            .from = state_names[from],
            .event = event,
            .to = state_names[state],
            .actor = child->actor,
            .supervisor = supervisor_actor(supervisor),
        };
        tree->on_transition(&transition, tree->transition_context);
    }
    if (supervisor) {
        supervisor->live += (uint32_t)is_live(state) - (uint32_t)is_live(from);
        supervisor->stopping += (uint32_t)is_stopping(state) - (uint32_t)is_stopping(from);
    }
    if (state == CHILD_DOWN)
        settle(tree, index);
    else if (state == CHILD_UP && supervisor)
        supervisor_handle(supervisor, SUPERVISOR_EVENT_CHILD_UP, index, WEIR_OK);
}

static void enter(struct step *step, enum child_state state)
{
    child_enter(step->tree, step->index, state, event_names[step->news->event]);
}

/* Arms the child's timer, which is not armed; false when it could not be. */
static bool timer_arm(struct supervision *tree, child_index index, uint64_t delay_ns)
{
    struct child *child = child_at(tree, index);
    struct aside *aside = aside_ensure(tree, child);
    if (!aside)
        return false;
    weir_actor supervisor = supervisor_actor(supervisor_by_id(tree, child->supervisor));
    if (timer_start(tree->runtime, supervisor, delay_ns, 0, index, &aside->timer) == WEIR_OK)
        return true;
    aside_tidy(tree, child);
    return false;
}

/* ------------------------------------------------------------------------------------------- cells */

static enum weir_error child_ignore(struct step *step)
{
    (void)step;
    return WEIR_OK;
}

static enum weir_error child_refuse(struct step *step)
{
    (void)step;
    return WEIR_BUSY;
}

enum weir_error child_spawn(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    struct supervisor *supervisor = supervisor_by_id(tree, child->supervisor);
    struct plan *plan = plan_at(tree, child->plan);
    struct actor_options options = plan->options;
    options.supervisor = supervisor_actor(supervisor);
    options.label = plan->has_label ? plan->label : NULL;
    weir_actor actor;
    enum weir_error error;
    if (plan->supervisor) {
        options.label = plan->name;
        error = actor_spawn(tree->runtime, plan->behaviour, &tree, sizeof tree, &options, &actor);
    } else {
        error = actor_spawn(tree->runtime, plan->behaviour, plan->args, plan->args_size, &options, &actor);
    }
    if (error)
        return error;
    error = child_actor_set(tree, index, actor);
    if (error) {
        (void)!actor_stop(tree->runtime, actor, error);
        return error;
    }
    child->flags &= (uint8_t)~CHILD_SPAWN_REFUSED;
    if (plan->supervisor)
        plan->supervisor->actor = actor;
    child_enter(tree, index, CHILD_STARTING, event_names[CHILD_EVENT_SPAWN]);
    return WEIR_OK;
}

/* Its actor has ended. A supervisor that ended before it could look after its children has left them to us. */
static void actor_gone(struct step *step)
{
    child_actor_clear(step->tree, step->index);
    struct supervisor *below = supervisor_of_child(step->tree, step->index);
    if (below && (below->live > 0 || below->phase != SUPERVISOR_DOWN))
        supervisor_abandon(below, WEIR_CLOSED);
}

/* A child that did not come up. A dynamic one's first start is its asker's affair, as with OTP's start_child. */
static void miss(struct step *step, enum weir_error cause)
{
    struct child *child = step->child;
    bool is_first = child->flags & CHILD_IS_NEW;
    notify_started(step, cause);
    actor_gone(step);
    if (is_in_order(cause) || (is_first && child->flags & CHILD_IS_DYNAMIC) || !step->supervisor) {
        enter(step, CHILD_DOWN);
        return;
    }
    enter(step, CHILD_WAITING);
    supervisor_handle(step->supervisor, SUPERVISOR_EVENT_CHILD_MISSED, step->index, cause);
}

static void note_death(struct step *step, enum actor_event event)
{
    if (!step->supervisor)
        return;
    struct supervision_death death = {
        .at_ns = runtime_now_ns(step->tree->runtime),
        .cause = step->news->cause,
        .event = event,
        .attempts = step->news->attempts,
    };
    past_note(step->supervisor, step->child, &death);
}

static enum weir_error child_launch(struct step *step)
{
    if (!step->child->plan)
        return WEIR_FORBIDDEN;
    enum weir_error error = child_spawn(step->tree, step->index);
    if (error) {
        step->child->flags |= CHILD_SPAWN_REFUSED;
        step->child->last_cause = error;
        enter(step, CHILD_WAITING);
        supervisor_handle(step->supervisor, SUPERVISOR_EVENT_CHILD_MISSED, step->index, error);
    }
    return WEIR_OK;
}

static enum weir_error child_come_up(struct step *step)
{
    step->child->flags &= (uint8_t)~CHILD_IS_NEW;
    notify_started(step, WEIR_OK);
    enter(step, CHILD_UP);
    return WEIR_OK;
}

static enum weir_error child_fail(struct step *step)
{
    note_death(step, ACTOR_EVENT_FAILED);
    enter(step, CHILD_WAITING);
    if (child_restart_type(step->tree, step->child) == RESTART_TEMPORARY)
        child_give_up(step->tree, step->index, step->news->cause);
    else
        supervisor_handle(step->supervisor, SUPERVISOR_EVENT_CHILD_LOST, step->index, step->news->cause);
    return WEIR_OK;
}

/* The start of a group waits for this one: it must come up from its plan or not at all. A supervisor that runs on in
 * place (or an adopted actor) and fails again is just a child that failed. */
static enum weir_error child_stumble(struct step *step)
{
    struct supervisor *supervisor = step->supervisor;
    if (!(step->child->flags & CHILD_IS_NEW) && supervisor->cursor != step->index)
        return child_fail(step);
    if (!step->child->plan)
        return child_fail(step);
    note_death(step, ACTOR_EVENT_FAILED);
    step->child->flags |= CHILD_FAILED_START;
    (void)!actor_stop(step->tree->runtime, step->child->actor, step->news->cause);
    enter(step, CHILD_KILLING);
    return WEIR_OK;
}

static enum weir_error child_miss(struct step *step)
{
    note_death(step, ACTOR_EVENT_EXITED);
    miss(step, step->news->cause);
    return WEIR_OK;
}

static enum weir_error child_end(struct step *step)
{
    struct child *child = step->child;
    enum weir_error cause = step->news->cause;
    enum restart_type restart = child_restart_type(step->tree, child);
    actor_gone(step);
    bool is_over = restart == RESTART_TEMPORARY || !child->plan || (restart == RESTART_TRANSIENT && is_in_order(cause));
    if (!is_over || !is_in_order(cause))
        note_death(step, ACTOR_EVENT_EXITED);
    if (is_over) {
        enter(step, CHILD_DOWN);
        return WEIR_OK;
    }
    enter(step, CHILD_WAITING);
    supervisor_handle(step->supervisor, SUPERVISOR_EVENT_CHILD_LOST, step->index, cause);
    return WEIR_OK;
}

static void kill_child(struct step *step, enum weir_error cause)
{
    step->tree->totals.killed++;
    /* Stale means that it has ended, and that the news of it is on its way. */
    (void)!actor_stop(step->tree->runtime, step->child->actor, cause);
    enter(step, CHILD_KILLING);
}

static enum weir_error child_kill(struct step *step)
{
    kill_child(step, step->news->event == CHILD_EVENT_FAILED ? step->news->cause : WEIR_TIMEOUT);
    return WEIR_OK;
}

/* The news of its end is in its mailbox still, and its shutdown time runs on. */
static enum weir_error child_remind(struct step *step)
{
    const struct child *child = step->child;
    bool is_to_hear = child->plan && plan_at(step->tree, child->plan)->hears_its_end;
    if (is_to_hear && actor_restart(step->tree->runtime, child->actor, 0) == WEIR_OK)
        return WEIR_OK;
    return child_kill(step);
}

static enum weir_error child_shut(struct step *step)
{
    struct child *child = step->child;
    uint32_t shutdown_ms = child_shutdown_ms(step->tree, child);
    if (shutdown_ms == SHUTDOWN_BRUTAL) {
        kill_child(step, WEIR_CLOSED);
        return WEIR_OK;
    }
    struct message message = {.tag = MESSAGE_SHUTDOWN};
    enum weir_error error =
        actor_control(step->tree->runtime, supervisor_actor(step->supervisor), child->actor, &message);
    if (error && error != WEIR_STALE) {
        kill_child(step, WEIR_CLOSED);
        return WEIR_OK;
    }
    enter(step, CHILD_STOPPING);
    if (shutdown_ms != SHUTDOWN_INFINITE && !timer_arm(step->tree, step->index, shutdown_ms * NS_PER_MS))
        kill_child(step, WEIR_NO_MEMORY);
    return WEIR_OK;
}

static enum weir_error child_recycle(struct step *step)
{
    if (!step->child->plan)
        return WEIR_FORBIDDEN;
    step->child->flags |= CHILD_SPAWNS_WHEN_DOWN;
    return child_shut(step);
}

static enum weir_error child_revive(struct step *step)
{
    struct child *child = step->child;
    if (actor_is_none(child->actor))
        return child_launch(step);
    timer_clear(step->tree, child);
    /* Stale: somebody ended it; it is spawned once that is heard. */
    if (actor_restart(step->tree->runtime, child->actor, 0))
        return WEIR_OK;
    enter(step, child->flags & CHILD_IS_SUPERVISOR ? CHILD_STARTING : CHILD_UP);
    return WEIR_OK;
}

static enum weir_error child_vanish(struct step *step)
{
    struct child *child = step->child;
    actor_gone(step);
    const struct supervisor *supervisor = step->supervisor;
    bool is_running = supervisor->phase == SUPERVISOR_RUNNING || supervisor->phase == SUPERVISOR_STARTING;
    const struct aside *aside = aside_of(step->tree, child);
    if (!child->plan || !is_running)
        enter(step, CHILD_DOWN);
    else if (!aside || aside->timer.bits == 0)
        return child_launch(step);
    return WEIR_OK;
}

static enum weir_error child_abandon(struct step *step)
{
    struct child *child = step->child;
    bool is_suspended = child->plan && !actor_is_none(child->actor);
    if (!is_suspended || !plan_at(step->tree, child->plan)->hears_its_end) {
        child_give_up(step->tree, step->index, WEIR_CLOSED);
        return WEIR_OK;
    }
    timer_clear(step->tree, child);
    enum weir_error error = child_shut(step);
    /* Behind that, so that it hears of its end before it does anything else. Stale: the news that it ended comes. */
    if (child->state == CHILD_STOPPING)
        (void)!actor_restart(step->tree->runtime, child->actor, 0);
    return error;
}

static enum weir_error child_finish(struct step *step)
{
    struct child *child = step->child;
    if (!is_in_order(step->news->cause))
        child->last_cause = step->news->cause;
    if (child->flags & CHILD_FAILED_START) {
        child->flags &= (uint8_t)~CHILD_FAILED_START;
        miss(step, (enum weir_error)child->last_cause);
        return WEIR_OK;
    }
    actor_gone(step);
    enter(step, CHILD_DOWN);
    return WEIR_OK;
}

typedef enum weir_error child_cell(struct step *step);

static child_cell *const cells[CHILD_STATE_COUNT][CHILD_EVENT_COUNT] = {
#define CELLS(state, name, on_spawn, on_ready, on_failed, on_exited, on_timer, on_stop, on_restart) \
    [CHILD_##state] = {child_##on_spawn, child_##on_ready, child_##on_failed, child_##on_exited,    \
                       child_##on_timer, child_##on_stop,  child_##on_restart},
    CHILD_TABLE(CELLS)
#undef CELLS
};

enum weir_error child_handle(struct supervision *tree, child_index index, const struct child_news *news)
{
    struct child *child = child_at(tree, index);
    INVARIANT(child->state < CHILD_STATE_COUNT && (unsigned)news->event < CHILD_EVENT_COUNT);
    struct step step = {tree, supervisor_by_id(tree, child->supervisor), index, child, news};
    return cells[child->state][news->event](&step);
}

void child_tell(struct supervision *tree, child_index index, enum child_event event, enum weir_error cause)
{
    struct child_news news = {.event = event, .cause = cause};
    enum weir_error refused = child_handle(tree, index, &news);
    (void)refused;
}

void child_restart_later(struct supervision *tree, child_index index, uint64_t delay_ns)
{
    struct child *child = child_at(tree, index);
    REQUIRE(child->state == CHILD_WAITING);
    if (child->flags & CHILD_SPAWN_REFUSED && delay_ns < SUPERVISOR_SPAWN_RETRY_MS * NS_PER_MS)
        delay_ns = SUPERVISOR_SPAWN_RETRY_MS * NS_PER_MS;
    if (delay_ns > 0 && timer_arm(tree, index, delay_ns))
        return;
    child_tell(tree, index, CHILD_EVENT_TIMER, WEIR_OK);
}

void child_give_up(struct supervision *tree, child_index index, enum weir_error cause)
{
    struct child *child = child_at(tree, index);
    REQUIRE(child->state == CHILD_WAITING);
    if (actor_is_none(child->actor)) {
        child_enter(tree, index, CHILD_DOWN, event_names[CHILD_EVENT_STOP]);
        return;
    }
    (void)!actor_stop(tree->runtime, child->actor, cause);
    child_enter(tree, index, CHILD_KILLING, event_names[CHILD_EVENT_STOP]);
}

void child_drop(struct supervision *tree, child_index index)
{
    struct child *child = child_at(tree, index);
    struct supervisor *supervisor = supervisor_by_id(tree, child->supervisor);
    enum child_state from = (enum child_state)child->state;
    timer_clear(tree, child);
    child_actor_clear(tree, index);
    child->state = CHILD_DOWN;
    child->flags &= (uint8_t) ~(CHILD_SPAWNS_WHEN_DOWN | CHILD_FAILED_START | CHILD_SPAWN_REFUSED);
    if (!supervisor)
        return;
    supervisor->live -= is_live(from);
    supervisor->stopping -= is_stopping(from);
    if (child->flags & CHILD_IS_DYNAMIC)
        child_remove(tree, index);
}

enum weir_error child_adopt(struct supervisor *supervisor, weir_actor actor, child_index *out)
{
    struct supervision *tree = supervisor->tree;
    enum weir_error error = child_add(tree, supervisor, 0, out);
    if (error)
        return error;
    child_at(tree, *out)->flags = CHILD_IS_DYNAMIC | CHILD_IS_ADOPTED;
    supervisor->dynamic++;
    error = child_actor_set(tree, *out, actor);
    if (error) {
        child_remove(tree, *out);
        return error;
    }
    tree->totals.adopted++;
    child_enter(tree, *out, CHILD_STARTING, event_names[CHILD_EVENT_SPAWN]);
    return WEIR_OK;
}
