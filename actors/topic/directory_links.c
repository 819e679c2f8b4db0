/* The feeds of subscriptions at topics. Most subscriptions are by name and have one, which is in them; the others' are
 * in a pool. In the directory's turns. */
#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"

struct feed_link *directory_link_at(const struct directory *directory, uint32_t index)
{
    if (index & LINK_OF_SUB)
        return &directory_sub_at(directory, index & ~LINK_OF_SUB)->link;
    return index_pool_at(&directory->links, index);
}

static struct pattern_link *pattern_link_at(const struct directory *directory, uint32_t index)
{
    return index_pool_at(&directory->links, index);
}

uint32_t directory_link_sub(const struct directory *directory, uint32_t index)
{
    return index & LINK_OF_SUB ? index & ~LINK_OF_SUB : pattern_link_at(directory, index)->sub;
}

uint32_t directory_sub_links(const struct directory *directory, uint32_t sub_index)
{
    const struct sub *sub = directory_sub_at(directory, sub_index);
    if (!sub->is_name)
        return sub->links;
    return sub->link.feed != 0 ? sub_index | LINK_OF_SUB : INDEX_NONE;
}

/* The place of a new feed: in its subscription, which is no longer listed, or in the pool. */
static enum weir_error link_take(struct directory *directory, uint32_t sub_index, uint32_t *out)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    if (sub->is_name) {
        INVARIANT(sub->link.feed == 0);
        patterns_remove(directory, sub_index);
        *out = sub_index | LINK_OF_SUB;
        return WEIR_OK;
    }
    enum weir_error error = index_pool_take(&directory->links, out);
    if (error)
        return error;
    struct pattern_link *link = pattern_link_at(directory, *out);
    link->sub = sub_index;
    link->sub_next = sub->links;
    link->sub_prev = INDEX_NONE;
    if (sub->links != INDEX_NONE)
        pattern_link_at(directory, sub->links)->sub_prev = *out;
    sub->links = *out;
    return WEIR_OK;
}

void directory_sub_list(struct directory *directory, uint32_t sub_index)
{
    if (!directory_sub_at(directory, sub_index)->updates)
        return;
    enum weir_error error = patterns_add(directory, sub_index);
    INVARIANT(error == WEIR_OK);
}

static void link_give(struct directory *directory, uint32_t index)
{
    uint32_t sub_index = directory_link_sub(directory, index);
    struct sub *sub = directory_sub_at(directory, sub_index);
    if (sub->is_name) {
        sub->link.feed = 0;
        if (sub->job == JOB_NONE)
            directory_sub_list(directory, sub_index);
        return;
    }
    const struct pattern_link *link = pattern_link_at(directory, index);
    if (link->sub_prev == INDEX_NONE)
        sub->links = link->sub_next;
    else
        pattern_link_at(directory, link->sub_prev)->sub_next = link->sub_next;
    if (link->sub_next != INDEX_NONE)
        pattern_link_at(directory, link->sub_next)->sub_prev = link->sub_prev;
    index_pool_give(&directory->links, index);
}

static enum weir_error link_add(struct directory *directory, uint32_t sub_index, uint32_t topic_index, uint32_t *out)
{
    if (directory->link_count >= directory->feeds_max)
        return WEIR_FULL;
    uint32_t index;
    enum weir_error error = link_take(directory, sub_index, &index);
    if (error)
        return error;
    struct topic_entry *entry = directory_topic_at(directory, topic_index);
    if (++directory->feed_last == 0)
        directory->feed_last = 1;
    *directory_link_at(directory, index) = (struct feed_link){.feed = directory->feed_last,
                                                              .topic = topic_index,
                                                              .topic_next = entry->links,
                                                              .topic_prev = INDEX_NONE,
                                                              .wait = INDEX_NONE};
    if (entry->links != INDEX_NONE)
        directory_link_at(directory, entry->links)->topic_prev = index;
    entry->links = index;
    directory->link_count++;
    *out = index;
    return WEIR_OK;
}

void directory_unlink(struct directory *directory, uint32_t index)
{
    const struct feed_link *link = directory_link_at(directory, index);
    struct topic_entry *entry = directory_topic_at(directory, link->topic);
    REQUIRE(link->feed != 0);
    directory_wait_end(directory, index);
    if (link->topic_prev == INDEX_NONE)
        entry->links = link->topic_next;
    else
        directory_link_at(directory, link->topic_prev)->topic_next = link->topic_next;
    if (link->topic_next != INDEX_NONE)
        directory_link_at(directory, link->topic_next)->topic_prev = link->topic_prev;
    directory->link_count--;
    link_give(directory, index);
}

void directory_link_over(struct directory *directory, uint32_t link_index)
{
    uint32_t sub_index = directory_link_sub(directory, link_index);
    directory_unlink(directory, link_index);
    const struct sub *sub = directory_sub_at(directory, sub_index);
    /* A subscription without updates is over when all its snapshots are. */
    if (!sub->updates && directory_sub_links(directory, sub_index) == INDEX_NONE && sub->job == JOB_NONE)
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
    *order = (struct topic_subscribe){.subscriber = directory_subscriber(directory, sub),
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
    const struct feed_link *link;
    if (index & LINK_OF_SUB) {
        const struct sub *sub = index_pool_find(&directory->subs, index & ~(uint64_t)LINK_OF_SUB);
        link = sub != NULL && sub->is_name ? &sub->link : NULL;
    } else {
        link = index_pool_find(&directory->links, index);
    }
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
        directory_tell_gone(turn, directory, index, error);
    directory_link_over(directory, index);
}
