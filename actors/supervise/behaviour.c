/* A supervisor's turns: news of its children, its timers, the order to end. On workers.
 *
 * Its state is only the tree. Its own table is found by its handle each time, under the lock, so that a supervisor
 * that was forgotten while its actor is still about to end touches nothing. */
#include "actors/supervise/tree.h"

#include <inttypes.h>
#include <stdio.h>

struct supervisor_state {
    struct supervision *tree;
};

/* What the log is to be told once the lock is released. */
struct outcome {
    struct report report;
    char supervisor[NAME_SIZE];
    uint64_t suppressed;
    bool is_finished, is_failed;
    enum weir_error cause;
};

static void report_take(struct supervisor *supervisor, struct outcome *outcome)
{
    struct report *report = &supervisor->report;
    if (report->event) {
        uint64_t now_ns = runtime_now_ns(supervisor->tree->runtime);
        bool is_grave = report->level == LOG_ERROR;
        if (is_grave || log_limit_pass(&supervisor->report_limit, now_ns, &outcome->suppressed)) {
            outcome->report = *report;
            snprintf(outcome->supervisor, sizeof outcome->supervisor, "%s", supervisor->name);
        }
        report->event = NULL;
    }
}

/* Everything is stopped: the turn is to end the supervisor, or fail it. */
static void finish_take(struct supervisor *supervisor, struct outcome *outcome)
{
    if (!supervisor->is_finished)
        return;
    outcome->is_finished = true;
    outcome->is_failed = supervisor->phase == SUPERVISOR_ESCALATING;
    outcome->cause = supervisor->cause;
    supervisor_go_down(supervisor);
}

static void outcome_log(struct turn *turn, const struct outcome *outcome)
{
    const struct report *report = &outcome->report;
    if (!report->event || log_level_get() > report->level)
        return;
    const char *name = report->child;
    struct actor_status status;
    if (name[0] == '\0' && actor_status(turn_runtime(turn), report->actor, &status) == WEIR_OK)
        name = status.label[0] ? status.label : status.behaviour;
    char child[2 * NAME_SIZE], supervisor[2 * NAME_SIZE];
    log_write(report->level, report->event, "supervisor=%s child=%s cause=%s delay_ms=%" PRIu64 " suppressed=%" PRIu64,
              log_quote(supervisor, sizeof supervisor, outcome->supervisor, strnlen(outcome->supervisor, NAME_SIZE)),
              log_quote(child, sizeof child, name, strnlen(name, NAME_SIZE)), weir_error_code(report->cause),
              report->delay_ns / NS_PER_MS, outcome->suppressed);
}

static enum weir_error adopt_check(const struct supervisor *supervisor)
{
    if (!supervisor->config.adopt.is_allowed)
        return WEIR_FORBIDDEN;
    return supervisor->dynamic >= supervisor->config.dynamic_max ? WEIR_FULL : WEIR_OK;
}

/* First news of an actor that somebody else spawned under this supervisor. */
static void adopt(struct supervisor *supervisor, weir_actor actor, const struct child_news *news)
{
    struct supervision *tree = supervisor->tree;
    child_index index = 0;
    enum weir_error error = adopt_check(supervisor);
    if (!error)
        error = child_adopt(supervisor, actor, &index);
    if (error) {
        tree->totals.refused++;
        (void)!actor_stop(tree->runtime, actor, error);
        supervisor_report(supervisor, LOG_WARNING, "supervisor.refuse", 0, error, 0);
        supervisor->report.actor = actor;
        return;
    }
    enum weir_error refused = child_handle(tree, index, news);
    (void)refused;
    if (supervisor->phase == SUPERVISOR_STOPPING || supervisor->phase == SUPERVISOR_ESCALATING)
        child_tell(tree, index, CHILD_EVENT_STOP, WEIR_CLOSED);
}

static void handle_event(struct supervisor *supervisor, const struct message *message)
{
    static const enum child_event events[] = {
        [ACTOR_EVENT_EXITED] = CHILD_EVENT_EXITED,
        [ACTOR_EVENT_FAILED] = CHILD_EVENT_FAILED,
        [ACTOR_EVENT_READY] = CHILD_EVENT_READY,
    };
    REQUIRE(message->word[0] < COUNT_OF(events));
    struct supervision *tree = supervisor->tree;
    struct child_news news = {
        .event = events[message->word[0]],
        .cause = (enum weir_error)message->word[1],
        .attempts = (uint32_t)message->word[2],
    };
    child_index index = child_find(tree, message->from);
    if (index && child_at(tree, index)->supervisor == supervisor->id) {
        /* A supervisor is ready when its children are: its machine says so. */
        if (news.event == CHILD_EVENT_READY && supervisor_of_child(tree, index))
            return;
        enum weir_error refused = child_handle(tree, index, &news);
        (void)refused;
    } else if (!index && news.event != CHILD_EVENT_EXITED) {
        adopt(supervisor, message->from, &news);
    }
}

static void handle_timer(struct supervisor *supervisor, const struct message *message)
{
    struct supervision *tree = supervisor->tree;
    child_index index = (child_index)message->word[0];
    if (index == 0) {
        supervisor_handle(supervisor, SUPERVISOR_EVENT_TIMER, 0, WEIR_OK);
        return;
    }
    struct child *child = child_at(tree, index);
    /* Tried again after this supervisor failed with it: settled long ago. */
    struct aside *aside = aside_of(tree, child);
    if (!aside || aside->timer.bits != message->word[1])
        return;
    aside->timer.bits = 0;
    aside_tidy(tree, child);
    child_tell(tree, index, CHILD_EVENT_TIMER, WEIR_OK);
}

static void handle(struct turn *turn, struct supervisor *supervisor, const struct message *message)
{
    switch (message->tag) {
    case MESSAGE_EVENT: handle_event(supervisor, message); break;
    case MESSAGE_TIMER: handle_timer(supervisor, message); break;
    case MESSAGE_SHUTDOWN:
        turn_shutdown_defer(turn);
        supervisor_handle(supervisor, SUPERVISOR_EVENT_SHUTDOWN, 0, WEIR_OK);
        break;
    default: /* the nudge: only the turn matters; anything else is nothing a supervisor knows */ break;
    }
}

static enum weir_error on_message(struct turn *turn, void *state, struct message *message)
{
    struct supervision *tree = ((struct supervisor_state *)state)->tree;
    struct outcome outcome = {0};
    tree_lock(tree);
    struct supervisor *supervisor = supervisor_of_actor(tree, turn_self(turn));
    if (supervisor) {
        handle(turn, supervisor, message);
        report_take(supervisor, &outcome);
        finish_take(supervisor, &outcome);
    }
    tree_unlock(tree);
    outcome_log(turn, &outcome);
    if (!supervisor || (outcome.is_finished && !outcome.is_failed))
        turn_exit(turn, outcome.cause);
    return outcome.is_failed ? outcome.cause : WEIR_OK;
}

/* Where the start fails at once, the nudge to itself is what ends it: a turn that can. */
static enum weir_error start(struct turn *turn, struct supervision *tree)
{
    struct outcome outcome = {0};
    tree_lock(tree);
    struct supervisor *supervisor = supervisor_of_actor(tree, turn_self(turn));
    if (supervisor) {
        supervisor_handle(supervisor, SUPERVISOR_EVENT_START, 0, WEIR_OK);
        report_take(supervisor, &outcome);
    }
    tree_unlock(tree);
    outcome_log(turn, &outcome);
    return supervisor ? WEIR_OK : WEIR_CLOSED;
}

static enum weir_error on_start(struct turn *turn, void *state, const void *args)
{
    struct supervisor_state *self = state;
    self->tree = *(struct supervision *const *)args;
    return start(turn, self->tree);
}

static enum weir_error on_restart(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    return start(turn, ((struct supervisor_state *)state)->tree);
}

void supervisor_abandon(struct supervisor *supervisor, enum weir_error cause)
{
    struct supervision *tree = supervisor->tree;
    supervisor_go_down(supervisor);
    for (child_index index = supervisor->last, before; index; index = before) {
        struct child *child = child_at(tree, index);
        before = child->prev;
        struct supervisor *below = supervisor_of_child(tree, index);
        if (below)
            supervisor_abandon(below, cause);
        if (!actor_is_none(child->actor))
            (void)!actor_stop(tree->runtime, child->actor, cause);
        child_drop(tree, index);
    }
    INVARIANT(supervisor->live == 0 && supervisor->stopping == 0);
}

static void on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct supervision *tree = ((struct supervisor_state *)state)->tree;
    bool is_root = false;
    tree_lock(tree);
    struct supervisor *supervisor = supervisor_of_actor(tree, turn_self(turn));
    if (supervisor) {
        supervisor_abandon(supervisor, cause ? cause : WEIR_CLOSED);
        is_root = supervisor->self == tree->root;
    }
    if (is_root) {
        child_drop(tree, tree->root);
        tree->is_down = true;
        tree->is_ready = false;
        tree->down_cause = cause;
        pthread_cond_broadcast(&tree->changed);
    }
    tree_unlock(tree);
    if (is_root && tree->on_down)
        tree->on_down(cause, tree->context);
}

const struct behaviour supervisor_behaviour = {
    .name = "supervisor",
    .state_size = sizeof(struct supervisor_state),
    .on_start = on_start,
    .on_message = on_message,
    .on_restart = on_restart,
    .on_stop = on_stop,
};
