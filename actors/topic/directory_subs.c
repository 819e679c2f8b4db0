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
    INVARIANT(directory_sub_links(directory, index) == INDEX_NONE);
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
    bool is_name = !pattern_has_wildcard(view_of(request->bytes, request->pattern_size));
    struct subscriber *owner = subscriber_at(directory, subscriber);
    uint32_t *bucket = number_bucket(directory, subscriber, request->sub);
    *sub = (struct sub){.is_used = true,
                        .text = text,
                        .subscriber = subscriber,
                        .next = owner->subs,
                        .prev = INDEX_NONE,
                        .sub = request->sub,
                        .number_next = *bucket,
                        .is_name = is_name,
                        .links = is_name ? 0 : INDEX_NONE,
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
    /* One by name is listed when its topic was not found. */
    error = sub->is_name ? WEIR_OK : patterns_add(directory, index);
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
