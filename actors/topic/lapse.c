/* Keys whose time is over, or whose session: the topic itself publishes their removal, as a record with nil that has
 * its seq as every other. In the topic's turn, by a timer that is armed only while something can end. */
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/state.h"

static const uint8_t nil = 0xc0;

static enum weir_error lapse_one(struct turn *turn, struct topic *topic, struct mark *mark)
{
    enum weir_error error = topic_fold(topic, view_of(mark->key, mark->key_size), view_of(&nil, 1),
                                       (uint32_t)(turn_now_ns(turn) / NS_PER_MS));
    if (error == WEIR_NO_MEMORY)
        return error;
    if (error)
        log_error("topic.removal_failed", "topic=%.*s seq=%llu cause=%s", (int)topic->shared->name_size,
                  topic->shared->name, (unsigned long long)mark->seq, weir_error_code(error));
    else
        topic->published++;
    /* Whatever the fold made of it: a key that cannot be removed stays, and nothing tries for ever. */
    marks_remove(&topic->memory->marks, mark);
    return error;
}

enum weir_error topic_lapse(struct turn *turn, struct topic *topic)
{
    uint64_t now_ns = turn_now_ns(turn);
    struct mark *mark = NULL;
    enum weir_error error = WEIR_OK;
    topic->is_lapse_put_off = false;
    if (topic->is_closing || topic->memory == NULL)
        return WEIR_OK;
    /* Who came before has the removals as updates, not in a snapshot. */
    if (topic->has_joiners)
        topic_serve(turn, topic);
    for (int i = 0; i < LAPSE_TURN_RECORDS && !error && (mark = marks_due(&topic->memory->marks, now_ns)) != NULL;
         i++) {
        /* Records held back are older than the removal; it waits with them. */
        if (topic->stash.count > 0 || topic_is_blocked(turn, topic))
            error = WEIR_NO_MEMORY;
        else
            error = lapse_one(turn, topic, mark);
    }
    topic->is_lapse_put_off = error == WEIR_NO_MEMORY;
    return topic->is_lapse_put_off ? WEIR_OK : error;
}

void topic_lapse_arm(struct turn *turn, struct topic *topic)
{
    if (topic->memory == NULL)
        return;
    uint64_t now_ns = turn_now_ns(turn), due_ns = marks_due_ns(&topic->memory->marks);
    if (topic->is_lapse_put_off && due_ns <= now_ns)
        due_ns = now_ns + LAPSE_RETRY_MS * NS_PER_MS;
    if (topic->is_closing || due_ns >= topic->memory->lapse_armed_ns)
        return;
    if (topic->memory->lapse_armed_ns != MARK_NEVER)
        timer_cancel(turn_runtime(turn), topic->memory->lapse_timer);
    topic->memory->lapse_armed_ns = MARK_NEVER;
    uint64_t delay_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    if (timer_start(turn_runtime(turn), turn_self(turn), delay_ns, 0, TIMER_LAPSE, &topic->memory->lapse_timer) ==
        WEIR_OK)
        topic->memory->lapse_armed_ns = due_ns;
}
