/* A topic whose kind is a plugin passes the records that are published to it on to the plugin's actor, in order, and
 * folds only what that emits. Where the plugin has no room, the records wait here and the topic is mute, so that its
 * publishers wait; the plugin's own records come on the control lane, so that neither waits for the other. In the
 * topic's turns. */
#include <stdio.h>

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/topic/state.h"

enum weir_error forward_init(struct topic *topic)
{
    weir_msg block;
    if (!topic_kind_is_plugin(topic->fold.rule->kind))
        return WEIR_OK;
    enum weir_error error = arena_alloc(topic->arena, sizeof *topic->forward, topic->common->feeds_budget, &block);
    if (error)
        return error;
    topic->forward = arena_data(topic->arena, block);
    *topic->forward = (struct forward){.block = block, .short_log = {.interval_ns = NS_PER_S}};
    return WEIR_OK;
}

void forward_fini(struct topic *topic)
{
    if (topic->forward == NULL)
        return;
    stash_fini(topic, &topic->forward->waiting);
    arena_drop(topic->arena, topic->forward->block);
    topic->forward = NULL;
}

void forward_attach(struct turn *turn, struct topic *topic, weir_actor plugin)
{
    struct forward *forward = topic->forward;
    struct message message = {.tag = TOPIC_ATTACH};
    const struct topic_shared *shared = topic->shared;
    if (forward == NULL || actor_is_same(forward->plugin, plugin))
        return;
    enum weir_error error = arena_alloc(topic->arena, sizeof(struct topic_attach) + shared->name_size,
                                        topic->common->feeds_budget, &message.hold[0]);
    if (!error) {
        struct topic_attach *attach = arena_data(topic->arena, message.hold[0]);
        *attach =
            (struct topic_attach){.epoch = topic->epoch, .seq = topic->ring.seq_last, .name_size = shared->name_size};
        memcpy(attach->name, shared->name, shared->name_size);
        error = turn_control(turn, plugin, &message);
        if (error)
            arena_drop(topic->arena, message.hold[0]);
    }
    if (!error)
        error = actor_monitor(turn_runtime(turn), turn_self(turn), plugin);
    if (error) {
        log_error("topic.no_plugin", "topic=%.*s plugin=%s cause=%s", (int)shared->name_size, shared->name,
                  topic_kind_plugin(topic->fold.rule->kind), weir_error_code(error));
        return;
    }
    forward->plugin = plugin;
    forward->is_attached = false;
    forward->had_one = true;
}

void forward_find(struct turn *turn, struct topic *topic)
{
    char name[sizeof PLUGIN_REGISTRY_PREFIX + PLUGIN_NAME_MAX];
    weir_actor plugin;
    if (topic->forward == NULL)
        return;
    int size = snprintf(name, sizeof name, PLUGIN_REGISTRY_PREFIX "%s", topic_kind_plugin(topic->fold.rule->kind));
    if (registry_find(turn_runtime(turn), name, (size_t)size, &plugin) == WEIR_OK)
        forward_attach(turn, topic, plugin);
}

void forward_attached(struct turn *turn, struct topic *topic, const struct message *message)
{
    struct forward *forward = topic->forward;
    if (!forward_is_to(topic, message->from))
        return;
    forward->mark = (uint32_t)message->word[0];
    forward->is_attached = true;
    forward_drain(turn, topic);
}

/* A batch, or a request. WEIR_FULL, WEIR_STALE: it is still the caller's. */
static enum weir_error forward_send(struct turn *turn, struct topic *topic, struct message *batch)
{
    struct message message = *batch;
    bool is_ask = batch->tag == TOPIC_ASK;
    message.tag = is_ask ? TOPIC_ASK : TOPIC_FORWARDED;
    message.detail = TOPIC_MARKED(topic->forward->mark, is_ask ? 1 : batch->detail);
    enum weir_error error = actor_send(turn_runtime(turn), batch->from, topic->forward->plugin, &message);
    if (error == WEIR_OK)
        batch->hold[0] = batch->hold[1] = WEIR_MSG_NONE;
    return error;
}

void forward_drain(struct turn *turn, struct topic *topic)
{
    struct forward *forward = topic->forward;
    while (forward->waiting.count > 0 && forward->is_attached) {
        enum weir_error error = forward_send(turn, topic, stash_front(topic, &forward->waiting));
        /* Its MESSAGE_ROOM will come; or it has ended, which will be told, as it is with any other error. */
        if (error == WEIR_FULL && turn_await_room(turn, forward->plugin) == WEIR_OK)
            break;
        if (error != WEIR_OK)
            break;
        struct message sent;
        stash_pop(topic, &forward->waiting, &sent);
    }
    topic_mute_update(turn, topic);
}

void forward_publish(struct turn *turn, struct topic *topic, struct message *message)
{
    struct forward *forward = topic->forward;
    if (batch_options(topic->arena, message) != NULL) {
        /* Numbers, conditions and lifetimes are about the topic's own records, and these are the plugin's. */
        topic_batch_refuse(turn, topic, message, WEIR_BAD_REQUEST);
        return;
    }
    if (actor_is_none(forward->plugin) && forward->had_one) {
        topic_batch_refuse(turn, topic, message, WEIR_CLOSED);
        return;
    }
    bool must_wait = forward->waiting.count > 0 || !forward->is_attached;
    if (!must_wait && forward_send(turn, topic, message) == WEIR_OK)
        return;
    if (stash_push(topic, &forward->waiting, message, false))
        topic_batch_refuse(turn, topic, message, WEIR_NO_MEMORY);
    if (!must_wait)
        forward_drain(turn, topic);
    topic_mute_update(turn, topic);
}

bool forward_clear(struct turn *turn, struct topic *topic, const struct message *order)
{
    const struct forward *forward = topic->forward;
    struct message clear = {.tag = TOPIC_PLUGIN_CLEAR, .word = {order->word[0]}};
    if (forward == NULL || !forward->is_attached || order->word[1] != 0 || order->word[2] != CAUSE_NONE)
        return false;
    clear.detail = TOPIC_MARKED(forward->mark, 0);
    return actor_control(turn_runtime(turn), order->from, forward->plugin, &clear) == WEIR_OK;
}

void forward_ask(struct turn *turn, struct topic *topic, struct message *message)
{
    struct forward *forward = topic->forward;
    enum weir_error error = forward == NULL ? WEIR_BAD_REQUEST : WEIR_CLOSED;
    if (forward != NULL && forward->is_attached)
        error = forward_send(turn, topic, message);
    else if (forward != NULL && !actor_is_none(forward->plugin)) /* it is about to: the topic is young, or the plugin */
        error = forward->waiting.count < TOPIC_ASKS_WAITING_MAX ? stash_push(topic, &forward->waiting, message, false)
                                                                : WEIR_FULL;
    if (error != WEIR_OK)
        forward_ask_refuse(turn, message, error);
    topic_mute_update(turn, topic);
}

void forward_ask_refuse(struct turn *turn, const struct message *message, enum weir_error error)
{
    /* Who reads no answer has its deadline. */
    (void)!turn_control(turn, message->from, &(struct message){.tag = TOPIC_ANSWER, .word = {message->word[1], error}});
}

void forward_cleared(struct turn *turn, struct topic *topic)
{
    const struct forward *forward = topic->forward;
    struct message cleared = {.tag = TOPIC_CLEARED, .word = {topic->epoch, topic->ring.seq_last}};
    if (forward == NULL || !forward->is_attached)
        return;
    cleared.detail = TOPIC_MARKED(forward->mark, 0);
    if (turn_control(turn, forward->plugin, &cleared) == WEIR_FULL)
        log_warning("topic.cleared_untold", "topic=%.*s", (int)topic->shared->name_size, topic->shared->name);
}

void forward_gone(struct turn *turn, struct topic *topic)
{
    topic->forward->plugin = WEIR_ACTOR_NONE;
    topic->forward->is_attached = false;
    stash_refuse(turn, topic, &topic->forward->waiting, WEIR_CLOSED);
    topic_mute_update(turn, topic);
    topic_note_plugin(turn, topic, true);
    /* Another one may have come already. */
    forward_find(turn, topic);
}

bool forward_short(struct turn *turn, struct topic *topic)
{
    struct forward *forward = topic->forward;
    uint64_t now_ns = turn_now_ns(turn), suppressed = 0;
    weir_timer timer;
    if (forward == NULL)
        return false;
    if (forward->short_since_ns == 0)
        forward->short_since_ns = now_ns;
    if (now_ns - forward->short_since_ns >= FORWARD_SHORT_END_MS * NS_PER_MS)
        return false;
    if (!forward->has_short_timer) {
        uint64_t pause_ns = 2 * forward->short_pause_ns;
        if (pause_ns < FORWARD_SHORT_MIN_MS * NS_PER_MS)
            pause_ns = FORWARD_SHORT_MIN_MS * NS_PER_MS;
        if (pause_ns > FORWARD_SHORT_MAX_MS * NS_PER_MS)
            pause_ns = FORWARD_SHORT_MAX_MS * NS_PER_MS;
        forward->short_pause_ns = pause_ns;
        forward->has_short_timer =
            timer_start(turn_runtime(turn), turn_self(turn), pause_ns, 0, TIMER_SHORT, &timer) == WEIR_OK;
    }
    if (forward->has_short_timer && log_limit_pass(&forward->short_log, now_ns, &suppressed))
        log_warning("topic.emissions_held", "topic=%.*s cause=no-memory suppressed=%llu", (int)topic->shared->name_size,
                    topic->shared->name, (unsigned long long)suppressed);
    return forward->has_short_timer;
}
