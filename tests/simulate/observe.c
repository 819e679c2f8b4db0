/* The supervisors' tables once more, written down independently as the list of what may follow what, and the count of
 * restarts by which a supervisor must give up. Told of each transition, under the tree's lock. */
#include "tests/simulate/model.h"

#include <stdio.h>
#include <string.h>

struct move {
    const char *from, *events, *to; /* events: separated by spaces */
};

static const struct move child_moves[] = {
    {"down", "spawn", "starting"},
    {"starting", "ready", "up"},
    {"starting", "failed exited", "waiting"},
    {"starting", "failed stop", "killing"},
    {"starting", "stop", "stopping"},
    {"starting", "exited", "down"},
    {"up", "failed exited", "waiting"},
    {"up", "exited", "down"},
    {"up", "stop restart", "stopping"},
    {"up", "stop restart", "killing"},
    {"waiting", "timer restart", "up"},
    {"waiting", "timer restart spawn", "starting"},
    {"waiting", "stop exited", "down"},
    {"waiting", "stop", "killing"},
    {"stopping", "failed timer", "killing"},
    {"stopping", "exited", "down"},
    {"killing", "failed", "killing"},
    {"killing", "exited", "down"},
    {"killing", "exited", "waiting"},
};

static const struct move phase_moves[] = {
    {"down", "start", "starting"},
    {"down", "ended", "down"},
    {"starting", "start child-up child-down", "running"},
    {"starting", "child-lost", "regrouping"},
    {"starting", "child-lost child-missed", "escalating"},
    {"running", "child-lost child-missed", "regrouping"},
    {"running", "child-lost child-missed", "escalating"},
    {"regrouping", "child-down child-lost child-missed", "restarting"},
    {"restarting", "child-up child-down child-lost child-missed timer", "running"},
    {"restarting", "child-lost child-missed", "regrouping"},
    {"restarting", "child-lost child-missed", "escalating"},
    {"starting", "shutdown", "stopping"},
    {"running", "shutdown", "stopping"},
    {"regrouping", "shutdown", "stopping"},
    {"restarting", "shutdown", "stopping"},
    {"escalating", "shutdown", "stopping"},
    /* In order after stopping and escalating; from elsewhere when it was killed. */
    {"starting", "ended", "down"},
    {"running", "ended", "down"},
    {"regrouping", "ended", "down"},
    {"restarting", "ended", "down"},
    {"stopping", "ended", "down"},
    {"escalating", "ended", "down"},
};

static bool has_word(const char *words, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = strstr(words, word); at; at = strstr(at + 1, word)) {
        if ((at == words || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0'))
            return true;
    }
    return false;
}

static bool is_allowed(const struct move *moves, size_t count, const struct supervision_transition *made)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(moves[i].from, made->from) == 0 && strcmp(moves[i].to, made->to) == 0 &&
            has_word(moves[i].events, made->event))
            return true;
    }
    return false;
}

static struct group *group_of(struct model *model, weir_actor actor, const char *name)
{
    for (uint32_t i = model->group_count; i-- > 0;) {
        if (actor_is_same(model->groups[i].actor, actor))
            return &model->groups[i];
    }
    REQUIRE(model->group_count < GROUPS_MAX);
    struct group *group = &model->groups[model->group_count++];
    *group = (struct group){.actor = actor, .phase = "down", .period_ns = 1000 * NS_PER_MS};
    snprintf(group->name, sizeof group->name, "%s", name ? name : "");
    return group;
}

static void group_name_set(struct model *model, struct group *group, const char *name)
{
    snprintf(group->name, sizeof group->name, "%s", name);
    group->intensity = 3;
    if (strcmp(name, "pool") == 0)
        group->intensity = model->temper.has_patient_pool ? UINT32_MAX : 20;
    if (strcmp(name, "root") == 0)
        group->intensity = model->temper.has_strict_root ? 5 : UINT32_MAX;
}

static void observe_phase(struct model *model, const struct supervision_transition *made)
{
    struct group *group = group_of(model, made->actor, made->name);
    group_name_set(model, group, made->name);
    if (!is_allowed(phase_moves, COUNT_OF(phase_moves), made))
        model_violate(model, "supervisor %s: %s --%s--> %s", made->name, made->from, made->event, made->to);
    if (strcmp(group->phase, made->from) != 0)
        model_violate(model, "supervisor %s left %s but was %s", made->name, made->from, group->phase);
    bool is_fall = strcmp(made->from, "starting") == 0 && strcmp(made->event, "child-missed") == 0;
    if (strcmp(made->to, "escalating") == 0) {
        model->escalations++;
        if (!group->must_escalate && !is_fall)
            model_violate(model, "supervisor %s gave up too early", made->name);
    }
    if (strcmp(made->to, "starting") == 0)
        group->loss_count = 0;
    group->must_escalate = false;
    group->phase = made->to;
}

/* Whether this transition is a loss that counts: in the first start, one that had not come up does not. */
static bool is_counted(const struct group *group, const struct supervision_transition *made)
{
    if (strcmp(made->to, "waiting") != 0)
        return false;
    if (strcmp(group->phase, "running") == 0 || strcmp(group->phase, "restarting") == 0)
        return true;
    bool was_up =
        strcmp(made->from, "up") == 0 || (strcmp(made->from, "starting") == 0 && strcmp(made->event, "failed") == 0);
    return strcmp(group->phase, "starting") == 0 && was_up;
}

static void count_loss(struct model *model, struct group *group)
{
    uint64_t now_ns = runtime_now_ns(model->runtime);
    if (group->intensity == UINT32_MAX)
        return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < group->loss_count; i++) {
        if (now_ns - group->losses_ns[i] <= group->period_ns)
            group->losses_ns[kept++] = group->losses_ns[i];
    }
    group->loss_count = kept;
    if (kept >= group->intensity)
        group->must_escalate = true;
    else
        group->losses_ns[group->loss_count++] = now_ns;
}

static void observe_child(struct model *model, const struct supervision_transition *made)
{
    if (!is_allowed(child_moves, COUNT_OF(child_moves), made))
        model_violate(model, "child %s: %s --%s--> %s", made->name, made->from, made->event, made->to);
    if (!actor_is_none(made->actor)) {
        struct standing *standing = ledger_standing(model, made->actor);
        bool is_first = standing->state == NULL && strcmp(made->to, "starting") == 0;
        if (!is_first && (standing->state == NULL || strcmp(standing->state, made->from) != 0))
            model_violate(model, "child %s left %s but was %s", made->name, made->from,
                          standing->state ? standing->state : "unknown");
        standing->state = made->to;
    }
    if (actor_is_none(made->supervisor))
        return;
    struct group *group = group_of(model, made->supervisor, NULL);
    if (is_counted(group, made))
        count_loss(model, group);
}

void observe_transition(const struct supervision_transition *made, void *context)
{
    struct model *model = context;
    model_trace(model, "%s %s %lx: %s --%s--> %s", made->is_supervisor_phase ? "supervisor" : "child", made->name,
                (unsigned long)made->actor.bits, made->from, made->event, made->to);
    if (made->is_supervisor_phase)
        observe_phase(model, made);
    else
        observe_child(model, made);
}

void observe_step(struct model *model)
{
    for (uint32_t i = 0; i < model->group_count; i++) {
        if (model->groups[i].must_escalate)
            model_violate(model, "supervisor %s is beyond its intensity and goes on", model->groups[i].name);
    }
    if (model->node_count == 0)
        return;
    struct actor_status status;
    const struct node *node = &model->nodes[model_below(model, model->node_count)];
    if (actor_status(model->runtime, node->actor, &status))
        return;
    if (status.depth > status.depth_max || status.depth < node->outstanding)
        model_violate(model, "an actor holds %u messages of %u, %u are known", status.depth, status.depth_max,
                      node->outstanding);
}
