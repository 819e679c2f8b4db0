/* Work over many topics, a bounded step in each turn: visiting all that match a new subscription, undoing all feeds of
 * one that ended. In the directory's turns. */
#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"
#include "clients/wire/name.h"

/* Names passed over by their heads alone that take as long as looking at one topic. */
#define HEADS_A_STEP 32

void directory_subscribed(struct turn *turn, struct directory *directory, weir_actor to, uint32_t sub, uint64_t topics,
                          enum weir_error error)
{
    struct message reply = {.tag = DIRECTORY_SUBSCRIBED, .detail = sub, .word = {topics, 0, error}};
    (void)directory;
    (void)!turn_control(turn, to,
                        &reply); /* who has 64,000 unread messages will be cut off before it misses this one */
}

/* What is behind it in its list. Only the end of a subscription is a job of one without details, and by then its
 * subscriber's number stands for it no more. */
static uint32_t *job_next(const struct directory *directory, struct sub *sub)
{
    return sub->is_plain ? &sub->number_next : &sub_details(directory, sub)->job_next;
}

static uint32_t *job_next_at(const struct directory *directory, uint32_t sub_index)
{
    return job_next(directory, directory_sub_at(directory, sub_index));
}

void directory_job_add(struct turn *turn, struct directory *directory, uint32_t sub_index, enum sub_job job)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    bool is_queued = sub->job != JOB_NONE;
    sub->job = job;
    if (!is_queued) {
        *job_next(directory, sub) = INDEX_NONE;
        if (directory->job_first == INDEX_NONE)
            directory->job_first = sub_index;
        else
            *job_next_at(directory, directory->job_last) = sub_index;
        directory->job_last = sub_index;
    }
    directory_jobs_continue(turn, directory);
}

bool directory_await_patron(struct turn *turn, struct directory *directory, uint32_t sub_index)
{
    static const char prefix[] = "$sys/";
    struct sub *sub = directory_sub_at(directory, sub_index);
    struct message message = {.tag = DIRECTORY_WANTED, .hold = {sub_details(directory, sub)->request}};
    if (actor_is_none(directory->patron) || !view_begins_with(sub_pattern(directory, sub), view_text(prefix)))
        return false;
    if (arena_hold(directory->arena, message.hold[0]))
        return false;
    if (turn_control(turn, directory->patron, &message)) {
        arena_drop(directory->arena, message.hold[0]);
        return false;
    }
    sub->job = JOB_AWAIT;
    *job_next(directory, sub) = INDEX_NONE;
    if (directory->await_first == INDEX_NONE)
        directory->await_first = sub_index;
    else
        *job_next_at(directory, directory->await_last) = sub_index;
    directory->await_last = sub_index;
    return true;
}

/* One that ended meanwhile has become a job to undo it, which is in the same list. */
void directory_await_over(struct turn *turn, struct directory *directory)
{
    for (uint32_t index = directory->await_first; index != INDEX_NONE;) {
        struct sub *sub = directory_sub_at(directory, index);
        uint32_t next = *job_next(directory, sub);
        enum sub_job job = sub->job == JOB_AWAIT ? JOB_VISIT : sub->job;
        sub->job = JOB_NONE;
        directory_job_add(turn, directory, index, job);
        index = next;
    }
    directory->await_first = directory->await_last = INDEX_NONE;
}

void directory_jobs_continue(struct turn *turn, struct directory *directory)
{
    struct message message = {.tag = DIRECTORY_STEP};
    if (directory->job_first != INDEX_NONE && !directory->is_step_sent)
        directory->is_step_sent = turn_control(turn, directory->actor, &message) == WEIR_OK;
}

/* The next topic that the pattern matches; a pattern without wildcards looks it up. */
static uint32_t visit_next(const struct directory *directory, struct sub_details *details, uint32_t *steps_left)
{
    struct view pattern = view_of(details->pattern, details->pattern_size);
    if (!pattern_has_wildcard(pattern)) {
        uint32_t index = details->visited ? INDEX_NONE : directory_topic_find(directory, pattern);
        details->visited = INDEX_NONE;
        return index;
    }
    struct name_head head = name_head_of(directory, pattern);
    while (*steps_left > 0 && details->visited < directory->topics.used) {
        uint32_t index = details->visited++;
        if (!name_head_may_match(head, directory->heads[index])) {
            *steps_left -= index % HEADS_A_STEP == 0;
            continue;
        }
        --*steps_left;
        const struct topic_entry *entry = directory_topic_at(directory, index);
        if (entry != NULL && pattern_matches(pattern, topic_entry_name(entry)))
            return index;
    }
    return INDEX_NONE;
}

/* True: all topics there are have been visited, or the subscription cannot stand (*error). */
static bool job_visit(struct turn *turn, struct directory *directory, uint32_t sub_index, uint32_t *steps_left,
                      enum weir_error *error)
{
    struct sub_details *details = sub_details(directory, directory_sub_at(directory, sub_index));
    for (;;) {
        uint32_t before = details->visited;
        uint32_t index = visit_next(directory, details, steps_left);
        if (index == INDEX_NONE)
            return details->visited >= directory->topics.used;
        *error = directory_link(turn, directory, sub_index, index);
        if (*error == WEIR_STALE)
            *error = WEIR_OK; /* it has just ended */
        if (*error == WEIR_BUSY) {
            *error = WEIR_OK;
            details->visited = before;
            *steps_left = 0; /* the topic has 64,000 orders to get through first */
            return false;
        }
        if (*error)
            return true;
        if (*steps_left == 0)
            return false;
    }
}

static void visit_finish(struct turn *turn, struct directory *directory, uint32_t sub_index, enum weir_error error)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    weir_actor subscriber = directory_subscriber(directory, sub);
    if (error) {
        directory_subscribed(turn, directory, subscriber, sub->sub, 0, error == WEIR_NO_MEMORY ? WEIR_BUSY : error);
        directory_sub_end(turn, directory, sub_index, error);
        sub->told = WEIR_ACTOR_NONE;
        return;
    }
    directory_subscribed(turn, directory, subscriber, sub->sub, sub_details(directory, sub)->link_made, WEIR_OK);
    sub_details_shrink(directory, sub_index);
    if (directory_sub_links(directory, sub_index) != INDEX_NONE)
        return;
    if (!sub->updates)
        directory_sub_free(directory, sub_index);
    else if (sub->is_name)
        directory_sub_list(directory, sub_index);
}

static bool job_undo(struct turn *turn, struct directory *directory, uint32_t sub_index, uint32_t *steps_left)
{
    uint32_t index = directory_sub_links(directory, sub_index);
    for (; index != INDEX_NONE && *steps_left > 0; --*steps_left) {
        const struct feed_link *link = directory_link_at(directory, index);
        struct message message = {.tag = TOPIC_UNSUBSCRIBE, .detail = link->feed};
        if (turn_control(turn, directory_topic_at(directory, link->topic)->actor, &message) == WEIR_FULL) {
            *steps_left = 0;
            return false;
        }
        directory_unlink(directory, index);
        index = directory_sub_links(directory, sub_index);
    }
    return index == INDEX_NONE;
}

static void undo_finish(struct turn *turn, struct directory *directory, uint32_t sub_index)
{
    const struct sub *sub = directory_sub_at(directory, sub_index);
    struct message reply = {.tag = DIRECTORY_UNSUBSCRIBED, .detail = sub->sub, .word = {0, 0, sub->end_error}};
    if (!actor_is_none(sub->told))
        (void)!turn_control(turn, sub->told, &reply); /* as with DIRECTORY_SUBSCRIBED */
    directory_sub_free(directory, sub_index);
}

/* The job at hand goes on after the others have had their steps, so that a short one need not wait for a long one. */
static void job_rotate(struct directory *directory)
{
    uint32_t index = directory->job_first;
    uint32_t *next = job_next_at(directory, index);
    if (*next == INDEX_NONE)
        return;
    directory->job_first = *next;
    *job_next_at(directory, directory->job_last) = index;
    directory->job_last = index;
    *next = INDEX_NONE;
}

void directory_jobs_step(struct turn *turn, struct directory *directory)
{
    uint32_t steps_left = DIRECTORY_STEP_MAX;
    directory->is_step_sent = false;
    while (directory->job_first != INDEX_NONE && steps_left > 0) {
        uint32_t index = directory->job_first;
        struct sub *sub = directory_sub_at(directory, index);
        enum weir_error error = WEIR_OK;
        --steps_left;
        bool is_visit = sub->job == JOB_VISIT;
        bool is_done = is_visit ? job_visit(turn, directory, index, &steps_left, &error)
                                : job_undo(turn, directory, index, &steps_left);
        if (!is_done) {
            job_rotate(directory);
            break;
        }
        directory->job_first = *job_next(directory, sub);
        sub->job = JOB_NONE;
        if (is_visit)
            visit_finish(turn, directory, index, error);
        else
            undo_finish(turn, directory, index);
    }
    directory_jobs_continue(turn, directory);
    turn_yield(turn); /* else the next step would come in this turn */
}
