/* A supervisor's life: the order in which its children start and stop, and what the loss of one means for the others.
 * Called by its turns and by its children's machine, under the tree's lock. The table in tables.h says which function
 * answers what in which phase. */
#include "actors/supervise/tree.h"

#include "actors/base/clock.h"

#include <stdio.h>

static const char *const phase_names[SUPERVISOR_PHASE_COUNT] = {
#define PHASE_NAME(phase, name, ...) [SUPERVISOR_##phase] = name,
    SUPERVISOR_TABLE(PHASE_NAME)
#undef PHASE_NAME
};

static const char *const event_names[SUPERVISOR_EVENT_COUNT + 1] = {[SUPERVISOR_EVENT_ENDED] = "ended",
#define EVENT_NAME(event, name) [SUPERVISOR_EVENT_##event] = name,
                                                                    SUPERVISOR_EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

const char *supervisor_phase_name(enum supervisor_phase phase) { return phase_names[phase]; }

struct occasion {
    struct supervisor *supervisor;
    enum supervisor_event event;
    child_index child; /* 0: none, or it is forgotten already */
    enum weir_error cause;
};

/* The only place where a supervisor's phase changes. */
static void enter(struct supervisor *supervisor, enum supervisor_phase phase, enum supervisor_event event)
{
    struct supervision *tree = supervisor->tree;
    enum supervisor_phase from = (enum supervisor_phase)supervisor->phase;
    if (supervisor->timer.bits) {
        timer_cancel(tree->runtime, supervisor->timer);
        supervisor->timer.bits = 0;
    }
    supervisor->phase = (uint8_t)phase;
    if (!tree->on_transition)
        return;
    struct supervision_transition transition = {
        .is_supervisor_phase = true,
        .name = supervisor->name,
        .from = phase_names[from],
        .event = event_names[event],
        .to = phase_names[phase],
        .actor = supervisor->actor,
    };
    tree->on_transition(&transition, tree->transition_context);
}

void supervisor_report(struct supervisor *supervisor, enum log_level level, const char *event, child_index child,
                       enum weir_error cause, uint64_t delay_ns)
{
    struct report *report = &supervisor->report;
    if (report->event && report->level >= level)
        return;
    *report = (struct report){.level = level, .event = event, .cause = cause, .delay_ns = delay_ns};
    if (child) {
        report->actor = child_at(supervisor->tree, child)->actor;
        snprintf(report->child, sizeof report->child, "%s", child_name(supervisor->tree, child));
    }
}

/* ------------------------------------------------------------------------------------------- start */

/* Restarting a group leaves out the temporary ones, as OTP does; the first start takes all. */
static bool is_to_start(const struct supervisor *supervisor, const struct child *child)
{
    if (child->state != CHILD_DOWN || !child->plan)
        return false;
    return supervisor->phase == SUPERVISOR_STARTING || child_restart_type(supervisor->tree, child) != RESTART_TEMPORARY;
}

static void become_running(struct supervisor *supervisor, enum supervisor_event event)
{
    struct supervision *tree = supervisor->tree;
    enter(supervisor, SUPERVISOR_RUNNING, event);
    if (supervisor->is_announced)
        return;
    supervisor->is_announced = true;
    if (child_at(tree, supervisor->self)->supervisor == 0) {
        tree->is_ready = true;
        pthread_cond_broadcast(&tree->changed);
    }
    child_tell(tree, supervisor->self, CHILD_EVENT_READY, WEIR_OK);
}

/* Starts the child at the cursor, or waits for it, or goes on to the next; at the end all are up. */
static void start_next(struct supervisor *supervisor, enum supervisor_event event)
{
    struct supervision *tree = supervisor->tree;
    while (supervisor->cursor) {
        const struct child *child = child_at(tree, supervisor->cursor);
        if (is_to_start(supervisor, child)) {
            child_tell(tree, supervisor->cursor, CHILD_EVENT_SPAWN, WEIR_OK);
            return;
        }
        if (child->state != CHILD_UP && child->state != CHILD_DOWN)
            return;
        supervisor->cursor = child->next;
    }
    become_running(supervisor, event);
}

/* -------------------------------------------------------------------------------------------- stop */

/* Dynamic children under one_for_one do not depend on each other: they stop all at once, as OTP's simple_one_for_one
 * does, a wave at a time. All others stop one after another. */
static bool is_bulk(const struct supervisor *supervisor, const struct child *child)
{
    return supervisor->config.strategy == SUPERVISOR_ONE_FOR_ONE && child->flags & CHILD_IS_DYNAMIC;
}

static child_index before(const struct supervisor *supervisor, child_index index)
{
    if (supervisor->phase == SUPERVISOR_REGROUPING && index == supervisor->group_first)
        return 0;
    return child_at(supervisor->tree, index)->prev;
}

/* Orders the child at the cursor to stop, if it may. True: the cursor has moved on. */
static bool stop_one(struct supervisor *supervisor)
{
    struct supervision *tree = supervisor->tree;
    child_index index = supervisor->cursor;
    const struct child *child = child_at(tree, index);
    if (child->state == CHILD_DOWN) {
        supervisor->cursor = before(supervisor, index);
        return true;
    }
    bool is_free = is_bulk(supervisor, child);
    if (supervisor->stopping >= (is_free ? SUPERVISOR_STOP_WAVE : 1))
        return false;
    child_tell(tree, index, CHILD_EVENT_STOP, WEIR_CLOSED);
    if (supervisor->cursor != index || child->state == CHILD_DOWN)
        return true; /* gone at once, perhaps forgotten */
    if (!is_free)
        return false;
    supervisor->cursor = before(supervisor, index);
    return true;
}

static void all_stopped(struct supervisor *supervisor, enum supervisor_event event)
{
    struct supervision *tree = supervisor->tree;
    if (supervisor->phase != SUPERVISOR_REGROUPING) {
        supervisor->is_finished = true;
        struct message nudge = {.tag = SUPERVISOR_NUDGE};
        /* Refused: its control lane is full, so it has a turn coming all the same. */
        (void)!actor_control(tree->runtime, supervisor->actor, supervisor->actor, &nudge);
        return;
    }
    enter(supervisor, SUPERVISOR_RESTARTING, event);
    supervisor->cursor = supervisor->group_first;
    if (supervisor->group_delay_ns > 0 &&
        timer_start(tree->runtime, supervisor->actor, supervisor->group_delay_ns, 0, 0, &supervisor->timer) == WEIR_OK)
        return;
    start_next(supervisor, event);
}

static void stop_next(struct supervisor *supervisor, enum supervisor_event event)
{
    if (supervisor->is_walking)
        return;
    supervisor->is_walking = true;
    while (supervisor->cursor && stop_one(supervisor)) {
    }
    supervisor->is_walking = false;
    if (!supervisor->cursor && supervisor->stopping == 0 && !supervisor->is_finished)
        all_stopped(supervisor, event);
}

static void stop_all(struct occasion *occasion, enum supervisor_phase phase)
{
    struct supervisor *supervisor = occasion->supervisor;
    enter(supervisor, phase, occasion->event);
    supervisor->cursor = supervisor->last;
    stop_next(supervisor, occasion->event);
}

static void escalate(struct occasion *occasion)
{
    struct supervisor *supervisor = occasion->supervisor;
    supervisor->tree->totals.escalations++;
    supervisor->cause = occasion->cause ? occasion->cause : WEIR_FAILED;
    supervisor_report(supervisor, LOG_ERROR, "supervisor.escalate", occasion->child, supervisor->cause, 0);
    stop_all(occasion, SUPERVISOR_ESCALATING);
}

/* ------------------------------------------------------------------------------------------- cells */

static void phase_ignore(struct occasion *occasion) { (void)occasion; }

static void phase_begin(struct occasion *occasion)
{
    struct supervisor *supervisor = occasion->supervisor;
    supervisor->is_fresh = false;
    supervisor->is_finished = false;
    supervisor->is_announced = false;
    supervisor->cause = WEIR_OK;
    supervisor->window.count = 0;
    enter(supervisor, SUPERVISOR_STARTING, occasion->event);
    supervisor->cursor = supervisor->first;
    start_next(supervisor, occasion->event);
}

static void phase_advance(struct occasion *occasion)
{
    struct supervisor *supervisor = occasion->supervisor;
    if (supervisor->timer.bits)
        return;
    if (occasion->child && occasion->child == supervisor->cursor)
        supervisor->cursor = child_at(supervisor->tree, supervisor->cursor)->next;
    start_next(supervisor, occasion->event);
}

static void phase_resume(struct occasion *occasion)
{
    occasion->supervisor->timer.bits = 0;
    start_next(occasion->supervisor, occasion->event);
}

static void phase_rest(struct occasion *occasion)
{
    child_give_up(occasion->supervisor->tree, occasion->child, occasion->cause);
}

static void phase_fall(struct occasion *occasion) { escalate(occasion); }

static bool is_before(struct supervision *tree, child_index a, child_index b)
{
    while (b && b != a)
        b = child_at(tree, b)->prev;
    return b == a;
}

/* The first child concerned by the loss of this one; of two losses, the earlier. */
static child_index group_of(const struct supervisor *supervisor, child_index lost)
{
    if (supervisor->config.strategy == SUPERVISOR_ONE_FOR_ALL)
        return supervisor->first;
    bool is_restarting = supervisor->phase == SUPERVISOR_RESTARTING && supervisor->group_first;
    return is_restarting && is_before(supervisor->tree, supervisor->group_first, lost) ? supervisor->group_first : lost;
}

static void regroup(struct occasion *occasion, uint64_t delay_ns)
{
    struct supervisor *supervisor = occasion->supervisor;
    const struct child *child = child_at(supervisor->tree, occasion->child);
    uint64_t least_ns = child->flags & CHILD_SPAWN_REFUSED ? SUPERVISOR_SPAWN_RETRY_MS * NS_PER_MS : 0;
    supervisor->group_delay_ns = delay_ns > least_ns ? delay_ns : least_ns;
    supervisor->group_first = group_of(supervisor, occasion->child);
    stop_all(occasion, SUPERVISOR_REGROUPING);
}

static void phase_recover(struct occasion *occasion)
{
    struct supervisor *supervisor = occasion->supervisor;
    struct supervision *tree = supervisor->tree;
    struct child *child = child_at(tree, occasion->child);
    if (!past_admit(supervisor, child, runtime_now_ns(tree->runtime))) {
        if (!supervisor->config.is_intensity_per_child) {
            escalate(occasion);
            return;
        }
        tree->totals.given_up++;
        supervisor_report(supervisor, LOG_ERROR, "supervisor.give-up", occasion->child, occasion->cause, 0);
        child_give_up(tree, occasion->child, occasion->cause);
        return;
    }
    uint64_t delay_ns = past_backoff_ns(supervisor, child);
    struct aside *aside = aside_ensure(tree, child);
    if (aside) /* without memory it is not noted: the count is for people */
        aside->restarts++;
    tree->totals.restarts++;
    supervisor_report(supervisor, LOG_WARNING, "supervisor.restart", occasion->child, occasion->cause, delay_ns);
    if (supervisor->config.strategy == SUPERVISOR_ONE_FOR_ONE)
        child_restart_later(tree, occasion->child, delay_ns);
    else
        regroup(occasion, delay_ns);
}

static void phase_proceed(struct occasion *occasion) { stop_next(occasion->supervisor, occasion->event); }

static void phase_wind(struct occasion *occasion) { stop_all(occasion, SUPERVISOR_STOPPING); }

typedef void phase_cell(struct occasion *occasion);

static phase_cell *const cells[SUPERVISOR_PHASE_COUNT][SUPERVISOR_EVENT_COUNT] = {
#define CELLS(phase, name, on_start, on_up, on_lost, on_missed, on_down, on_shutdown, on_timer)        \
    [SUPERVISOR_##phase] = {phase_##on_start, phase_##on_up,       phase_##on_lost, phase_##on_missed, \
                            phase_##on_down,  phase_##on_shutdown, phase_##on_timer},
    SUPERVISOR_TABLE(CELLS)
#undef CELLS
};

void supervisor_handle(struct supervisor *supervisor, enum supervisor_event event, child_index child,
                       enum weir_error cause)
{
    MAGIC_CHECK(supervisor, SUPERVISOR_MAGIC);
    INVARIANT(supervisor->phase < SUPERVISOR_PHASE_COUNT && (unsigned)event < SUPERVISOR_EVENT_COUNT);
    struct occasion occasion = {supervisor, event, child, cause};
    cells[supervisor->phase][event](&occasion);
}

void supervisor_go_down(struct supervisor *supervisor)
{
    enter(supervisor, SUPERVISOR_DOWN, SUPERVISOR_EVENT_ENDED);
    supervisor->cursor = 0;
    supervisor->group_first = 0;
    supervisor->is_finished = false;
}

void supervisor_forget(struct supervisor *supervisor, child_index child)
{
    bool is_starting = supervisor->phase == SUPERVISOR_STARTING || supervisor->phase == SUPERVISOR_RESTARTING;
    if (supervisor->cursor == child)
        supervisor->cursor = is_starting ? child_at(supervisor->tree, child)->next : before(supervisor, child);
    if (supervisor->group_first == child)
        supervisor->group_first = child_at(supervisor->tree, child)->next;
}
