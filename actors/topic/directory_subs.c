/* Subscribers, their subscriptions, and the feeds these have at topics. In the directory's turns. */
#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/base/log.h"
#include "actors/topic/directory_state.h"
#include "clients/wire/name.h"

struct sub *directory_sub_at(const struct directory *directory, uint32_t index)
{
    return index_pool_at(&directory->subs, index);
}

static struct subscriber *subscriber_at(const struct directory *directory, uint32_t index)
{
    return index_pool_at(&directory->subscribers, index);
}

weir_actor directory_subscriber(const struct directory *directory, const struct sub *sub)
{
    return sub->subscriber == INDEX_NONE ? WEIR_ACTOR_NONE : subscriber_at(directory, sub->subscriber)->actor;
}

struct feed_link *directory_link_at(const struct directory *directory, uint32_t index)
{
    return index_pool_at(&directory->links, index);
}

static uint32_t *subscriber_bucket(const struct directory *directory, weir_actor actor)
{
    uint32_t hash = directory_hash(directory, view_of(&actor.bits, sizeof actor.bits));
    return &directory->subscriber_buckets[hash & (directory->subscriber_bucket_count - 1)];
}

static uint32_t subscriber_find(const struct directory *directory, weir_actor actor)
{
    uint32_t index = *subscriber_bucket(directory, actor);
    while (index != INDEX_NONE && !actor_is_same(subscriber_at(directory, index)->actor, actor))
        index = subscriber_at(directory, index)->next;
    return index;
}

/* The record of a subscriber; a new one is watched, so that its subscriptions end with it. */
static enum weir_error subscriber_ensure(struct directory *directory, weir_actor actor, uint32_t *index_out)
{
    *index_out = subscriber_find(directory, actor);
    if (*index_out != INDEX_NONE)
        return WEIR_OK;
    uint32_t index;
    enum weir_error error = index_pool_take(&directory->subscribers, &index);
    if (error)
        return error;
    struct subscriber *subscriber = subscriber_at(directory, index);
    uint32_t *bucket = subscriber_bucket(directory, actor);
    *subscriber = (struct subscriber){.is_used = true,
                                      .actor = actor,
                                      .subs = INDEX_NONE,
                                      .next = *bucket,
                                      .wait_first = INDEX_NONE,
                                      .wait_last = INDEX_NONE};
    *bucket = index;
    *index_out = index;
    return actor_monitor(directory->runtime, directory->actor, actor);
}

static void subscriber_free(struct directory *directory, uint32_t index)
{
    struct subscriber *subscriber = subscriber_at(directory, index);
    uint32_t *bucket = subscriber_bucket(directory, subscriber->actor);
    while (*bucket != index)
        bucket = &subscriber_at(directory, *bucket)->next;
    *bucket = subscriber->next;
    directory_waits_end(directory, subscriber);
    index_pool_give(&directory->subscribers, index);
}

static enum weir_error link_add(struct directory *directory, uint32_t sub_index, uint32_t topic_index, uint32_t *out)
{
    if (directory->link_count >= directory->feeds_max)
        return WEIR_FULL;
    uint32_t index;
    enum weir_error error = index_pool_take(&directory->links, &index);
    if (error)
        return error;
    struct feed_link *link = directory_link_at(directory, index);
    struct sub *sub = directory_sub_at(directory, sub_index);
    struct topic_entry *entry = directory_topic_at(directory, topic_index);
    if (++directory->feed_last == 0)
        directory->feed_last = 1;
    *link = (struct feed_link){.feed = directory->feed_last,
                               .topic = topic_index,
                               .sub = sub_index,
                               .topic_next = entry->links,
                               .topic_prev = INDEX_NONE,
                               .sub_next = sub->links,
                               .sub_prev = INDEX_NONE,
                               .wait = INDEX_NONE};
    if (entry->links != INDEX_NONE)
        directory_link_at(directory, entry->links)->topic_prev = index;
    if (sub->links != INDEX_NONE)
        directory_link_at(directory, sub->links)->sub_prev = index;
    entry->links = sub->links = index;
    directory->link_count++;
    *out = index;
    return WEIR_OK;
}

void directory_unlink(struct directory *directory, uint32_t index)
{
    struct feed_link *link = directory_link_at(directory, index);
    struct sub *sub = directory_sub_at(directory, link->sub);
    struct topic_entry *entry = directory_topic_at(directory, link->topic);
    REQUIRE(link->feed != 0);
    directory_wait_end(directory, index);
    if (link->topic_prev == INDEX_NONE)
        entry->links = link->topic_next;
    else
        directory_link_at(directory, link->topic_prev)->topic_next = link->topic_next;
    if (link->topic_next != INDEX_NONE)
        directory_link_at(directory, link->topic_next)->topic_prev = link->topic_prev;
    if (link->sub_prev == INDEX_NONE)
        sub->links = link->sub_next;
    else
        directory_link_at(directory, link->sub_prev)->sub_next = link->sub_next;
    if (link->sub_next != INDEX_NONE)
        directory_link_at(directory, link->sub_next)->sub_prev = link->sub_prev;
    directory->link_count--;
    index_pool_give(&directory->links, index);
}

void directory_link_over(struct directory *directory, uint32_t link_index)
{
    uint32_t sub_index = directory_link_at(directory, link_index)->sub;
    directory_unlink(directory, link_index);
    const struct sub *sub = directory_sub_at(directory, sub_index);
    /* A subscription without updates is over when all its snapshots are. */
    if (!sub->updates && sub->links == INDEX_NONE && sub->job == JOB_NONE)
        directory_sub_free(directory, sub_index);
}

/* The order to the topic. */
static enum weir_error subscribe_block(const struct directory *directory, const struct sub *sub, struct view topic,
                                       uint32_t link_index, weir_msg *out)
{
    const struct sub_details *details = sub_details(directory, sub);
    uint32_t keys_size = details != NULL ? topic_part_size(&details->part) : 0;
    enum weir_error error =
        arena_alloc(directory->arena, sizeof(struct topic_subscribe) + keys_size, directory->feeds_budget, out);
    if (error)
        return error;
    struct topic_subscribe *order = arena_data(directory->arena, *out);
    *order = (struct topic_subscribe){.subscriber = subscriber_at(directory, sub->subscriber)->actor,
                                      .sub = sub->sub,
                                      .feed = directory_link_at(directory, link_index)->feed,
                                      .link = link_index,
                                      .policy = sub->policy,
                                      .snapshot = sub->snapshot,
                                      .updates = sub->updates,
                                      .credit = sub->credit};
    if (details == NULL)
        return WEIR_OK;
    order->outbox_max = details->outbox_max;
    order->interval_ms = details->interval_ms;
    order->block_ms = details->block_ms;
    order->part = details->part;
    memcpy(order->keys, details->pattern + details->pattern_size, keys_size);
    struct cursor cursor;
    if (sub_cursor_find(directory, sub, topic, &cursor) == WEIR_OK) {
        order->has_cursor = true;
        order->epoch = cursor.epoch;
        order->seq = cursor.seq;
    }
    return WEIR_OK;
}

enum weir_error directory_link(struct turn *turn, struct directory *directory, uint32_t sub_index, uint32_t topic_index)
{
    const struct sub *sub = directory_sub_at(directory, sub_index);
    const struct topic_entry *entry = directory_topic_at(directory, topic_index);
    struct message message = {.tag = TOPIC_SUBSCRIBE};
    uint32_t index;
    enum weir_error error = link_add(directory, sub_index, topic_index, &index);
    if (error)
        return error;
    error = subscribe_block(directory, sub, topic_entry_name(entry), index, &message.hold[0]);
    if (!error) {
        error = turn_control(turn, entry->actor, &message);
        if (error)
            arena_drop(directory->arena, message.hold[0]);
    }
    if (!error) {
        struct sub_details *details = sub_details(directory, sub);
        if (details != NULL)
            details->link_made++;
        return WEIR_OK;
    }
    directory_unlink(directory, index);
    return error == WEIR_FULL ? WEIR_BUSY : error;
}

uint32_t directory_link_find(const struct directory *directory, const struct message *message)
{
    uint64_t index = message->word[0];
    const struct feed_link *link = index_pool_find(&directory->links, index);
    return link != NULL && link->feed == message->detail ? (uint32_t)index : INDEX_NONE;
}

void directory_feed_ended(struct turn *turn, struct directory *directory, const struct message *message)
{
    uint32_t index = directory_link_find(directory, message);
    bool has_begun = message->word[1] != 0;
    enum weir_error error = (enum weir_error)message->word[2];
    if (index == INDEX_NONE)
        return;                           /* undone from this side meanwhile */
    if (!has_begun && error != WEIR_BUSY) /* one without memory was told so by its topic */
        directory_tell_gone(turn, directory, directory_link_at(directory, index), error);
    directory_link_over(directory, index);
}

static uint32_t *number_bucket(const struct directory *directory, uint32_t subscriber, uint32_t number)
{
    const uint32_t words[] = {subscriber, number};
    uint32_t hash = directory_hash(directory, view_of(words, sizeof words));
    return &directory->number_buckets[hash & (directory->subscriber_bucket_count - 1)];
}

static uint32_t sub_find(const struct directory *directory, weir_actor actor, uint32_t number)
{
    uint32_t subscriber = subscriber_find(directory, actor);
    if (subscriber == INDEX_NONE)
        return INDEX_NONE;
    for (uint32_t at = *number_bucket(directory, subscriber, number); at != 0;) {
        const struct sub *sub = directory_sub_at(directory, at - 1);
        if (sub->subscriber == subscriber && sub->sub == number)
            return at - 1;
        at = sub->number_next;
    }
    return INDEX_NONE;
}

/* Takes it off its subscriber's list, so that its number is free for another one. */
static void sub_unlist(struct directory *directory, uint32_t index)
{
    struct sub *sub = directory_sub_at(directory, index);
    if (sub->subscriber == INDEX_NONE)
        return;
    uint32_t *link = number_bucket(directory, sub->subscriber, sub->sub);
    while (*link != index + 1)
        link = &directory_sub_at(directory, *link - 1)->number_next;
    *link = sub->number_next;
    if (sub->prev == INDEX_NONE)
        subscriber_at(directory, sub->subscriber)->subs = sub->next;
    else
        directory_sub_at(directory, sub->prev)->next = sub->next;
    if (sub->next != INDEX_NONE)
        directory_sub_at(directory, sub->next)->prev = sub->prev;
    sub->subscriber = INDEX_NONE;
}

void directory_sub_free(struct directory *directory, uint32_t index)
{
    struct sub *sub = directory_sub_at(directory, index);
    INVARIANT(sub->links == INDEX_NONE);
    sub_unlist(directory, index);
    patterns_remove(directory, index);
    directory->sub_count--;
    sub_details_free(directory, sub);
    index_pool_give(&directory->subs, index);
}

void directory_sub_end(struct turn *turn, struct directory *directory, uint32_t index, enum weir_error error)
{
    struct sub *sub = directory_sub_at(directory, index);
    weir_actor told = directory_subscriber(directory, sub);
    sub->end_error = error;
    sub_unlist(directory, index);
    sub->told = told;
    directory_job_add(turn, directory, index, JOB_UNDO);
}

static enum weir_error sub_add(struct directory *directory, weir_actor actor, const struct directory_subscribe *request,
                               uint32_t *index_out)
{
    uint32_t subscriber, index;
    enum weir_error error = subscriber_ensure(directory, actor, &subscriber);
    if (!error && directory->sub_count >= directory->subscriptions_max)
        error = WEIR_FULL;
    if (!error)
        error = index_pool_take(&directory->subs, &index);
    if (error)
        return error;
    weir_msg text;
    error = sub_details_create(directory, request, &text);
    struct sub *sub = directory_sub_at(directory, index);
    sub->is_used = true;
    if (error) {
        index_pool_give(&directory->subs, index);
        return error;
    }
    struct subscriber *owner = subscriber_at(directory, subscriber);
    uint32_t *bucket = number_bucket(directory, subscriber, request->sub);
    *sub = (struct sub){.is_used = true,
                        .text = text,
                        .subscriber = subscriber,
                        .next = owner->subs,
                        .prev = INDEX_NONE,
                        .sub = request->sub,
                        .number_next = *bucket,
                        .links = INDEX_NONE,
                        .snapshot = request->snapshot,
                        .updates = request->updates,
                        .policy = request->policy,
                        .credit = request->credit};
    *bucket = index + 1;
    if (owner->subs != INDEX_NONE)
        directory_sub_at(directory, owner->subs)->prev = index;
    owner->subs = index;
    directory->sub_count++;
    *index_out = index;
    return WEIR_OK;
}

static enum weir_error request_check(const struct directory *directory, const struct directory_subscribe *request,
                                     weir_msg block, weir_actor from)
{
    if (request == NULL || arena_size(directory->arena, block) < sizeof *request)
        return WEIR_BAD_REQUEST;
    const struct topic_part *part = &request->part;
    uint64_t size = (uint64_t)request->pattern_size + topic_part_size(part) + request->cursors_size;
    if (size > arena_size(directory->arena, block) - sizeof *request)
        return WEIR_BAD_REQUEST;
    if (pattern_check(view_of(request->bytes, request->pattern_size), NULL))
        return WEIR_BAD_TOPIC;
    if ((unsigned)request->policy >= POLICY_UNKNOWN)
        return WEIR_BAD_REQUEST;
    if (part->key_size > KEY_SIZE_MAX + 5 || part->after_size > KEY_SIZE_MAX + 5 ||
        (part->key_size == 0 && part->match))
        return WEIR_BAD_REQUEST;
    /* A page is asked for once, not followed. */
    if (part->page_entries_max && (request->updates || !request->snapshot))
        return WEIR_BAD_REQUEST;
    return sub_find(directory, from, request->sub) == INDEX_NONE ? WEIR_OK : WEIR_EXISTS;
}

/* A pattern without wildcards makes its topic, if it is to be followed. One that may not be made now is waited for. */
static enum weir_error sub_ensure_topic(struct turn *turn, struct directory *directory, const struct sub *sub)
{
    struct view name = sub_pattern(directory, sub);
    uint32_t topic;
    if (!sub->updates || pattern_has_wildcard(name) || name_is_reserved(name) ||
        directory_topic_find(directory, name) != INDEX_NONE)
        return WEIR_OK;
    enum weir_error error = directory_topic_create(turn, directory, name, NULL, &topic);
    return error == WEIR_NOT_FOUND ? WEIR_OK : error;
}

void directory_subscribe(struct turn *turn, struct directory *directory, struct message *message)
{
    weir_msg block = message->hold[0];
    const struct directory_subscribe *request = msg_is_none(block) ? NULL : arena_data(directory->arena, block);
    uint32_t number = request ? request->sub : 0, index;
    enum weir_error error = request_check(directory, request, block, message->from);
    if (!error)
        error = sub_add(directory, message->from, request, &index);
    if (error) {
        directory_subscribed(turn, directory, message->from, number, 0, error);
        return;
    }
    struct sub *sub = directory_sub_at(directory, index);
    sub_details(directory, sub)->request = message_take(message, 0);
    error = patterns_add(directory, index);
    if (!error)
        error = sub_cursors_index(directory, sub);
    /* The topic is made before the visit begins, which then attaches to it like to any other. */
    sub->job = JOB_VISIT;
    if (!error)
        error = sub_ensure_topic(turn, directory, sub);
    sub->job = JOB_NONE;
    if (error) {
        directory_sub_free(directory, index);
        directory_subscribed(turn, directory, message->from, number, 0, error == WEIR_NO_MEMORY ? WEIR_BUSY : error);
        return;
    }
    if (!directory_await_patron(turn, directory, index))
        directory_job_add(turn, directory, index, JOB_VISIT);
}

void directory_unsubscribe(struct turn *turn, struct directory *directory, const struct message *message)
{
    uint32_t index = sub_find(directory, message->from, message->detail);
    struct message reply = {.tag = DIRECTORY_UNSUBSCRIBED, .detail = message->detail, .word = {0, 0, WEIR_NOT_FOUND}};
    if (index != INDEX_NONE)
        directory_sub_end(turn, directory, index, WEIR_OK);
    else
        (void)!turn_control(turn, message->from, &reply); /* nothing hangs on it */
}

void directory_close(struct turn *turn, struct directory *directory, weir_actor actor, bool is_gone)
{
    uint32_t index = subscriber_find(directory, actor);
    if (index == INDEX_NONE)
        return;
    for (uint32_t sub = subscriber_at(directory, index)->subs; sub != INDEX_NONE;) {
        uint32_t next = directory_sub_at(directory, sub)->next;
        directory_sub_end(turn, directory, sub, WEIR_OK);
        directory_sub_at(directory, sub)->told = WEIR_ACTOR_NONE;
        sub = next;
    }
    if (is_gone)
        subscriber_free(directory, index);
}
