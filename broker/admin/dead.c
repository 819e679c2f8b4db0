/* The quarantine, as the operator sees it: reads $dead/TOPIC by a subscription of its own, lists it, publishes it
 * again, forgets it. Replaying first clears the quarantine at exactly the seq that was read, so that what is
 * quarantined meanwhile, or again, is kept. In the admin actor's turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/log.h"
#include "broker/admin/commands.h"

#define DEAD_PREFIX "$dead/"
/* What one answer or one replay takes at the most; $dead logs are bounded by topics.dead_count_max each. */
#define DEAD_ENTRIES_MAX 100000
#define DEAD_TOPICS_MAX 4096
#define DEAD_CREDIT (UINT32_C(1) << 30)

bool dead_owns(const struct order *order, const struct message *message)
{
    switch (message->tag) {
    case DIRECTORY_SUBSCRIBED:
    case DIRECTORY_UNSUBSCRIBED: return message->detail == order->token;
    case TOPIC_ACK:
    case TOPIC_NACK:
    case MESSAGE_ROOM: return actor_is_same(message->from, order->target);
    case TOPIC_BEGIN: return true; /* its block says whose it is: dead_on_message looks */
    default:
        for (size_t i = 0; i < order->name_count; i++) {
            if (order->feeds[i] == message->detail)
                return true;
        }
        return false;
    }
}

void dead_fini(struct turn *turn, struct order *order)
{
    for (size_t i = 0; i < order->entry_count; i++)
        arena_drop(turn_arena(turn), order->entries[i].block);
    free(order->entries);
    free(order->names);
    free(order->feeds);
    order->entries = NULL;
    order->names = NULL;
    order->feeds = NULL;
    order->entry_count = order->name_count = 0;
}

/* --------------------------------------------------------------------------------------------- reading */

enum weir_error dead_begin(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    struct admin *admin = context->admin;
    char pattern[sizeof DEAD_PREFIX + TOPIC_NAME_SIZE_MAX];
    weir_actor topic;
    snprintf(pattern, sizeof pattern, DEAD_PREFIX "%s", order->topic[0] != '\0' ? order->topic : "#");
    if (order->topic[0] != '\0' && directory_find(admin->options.directory, view_text(pattern), &topic) != WEIR_OK)
        return admin_refuse(context, WEIR_NOT_FOUND, "no record of topic '%s' was quarantined", order->topic);
    if (order->kind != ORDER_DEAD_LIST &&
        directory_find(admin->options.directory, view_text(order->topic), &order->target) != WEIR_OK)
        return admin_refuse(context, WEIR_NOT_FOUND, "there is no topic '%s' to publish to", order->topic);
    order->names = calloc(DEAD_TOPICS_MAX, sizeof *order->names);
    order->feeds = calloc(DEAD_TOPICS_MAX, sizeof *order->feeds);
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    size_t pattern_size = strlen(pattern);
    enum weir_error error = order->names == NULL || order->feeds == NULL
                                ? WEIR_NO_MEMORY
                                : arena_alloc(turn_arena(turn), sizeof(struct directory_subscribe) + pattern_size,
                                              admin->options.budget, &message.hold[0]);
    if (error != WEIR_OK)
        return error;
    struct directory_subscribe *subscribe = arena_data(turn_arena(turn), message.hold[0]);
    *subscribe = (struct directory_subscribe){.sub = order->token,
                                              .policy = POLICY_RESYNC,
                                              .snapshot = true,
                                              .credit = DEAD_CREDIT,
                                              .pattern_size = (uint32_t)pattern_size};
    memcpy(subscribe->bytes, pattern, pattern_size);
    error = turn_send(turn, directory_actor(admin->options.directory), &message);
    if (error != WEIR_OK)
        arena_drop(turn_arena(turn), message.hold[0]);
    return error;
}

static void on_begin(struct turn *turn, struct order *order, struct message *message)
{
    const struct topic_begin *begin = arena_data(turn_arena(turn), message->hold[0]);
    size_t prefix = strlen(DEAD_PREFIX);
    if (begin == NULL || begin->sub != order->token || order->name_count == DEAD_TOPICS_MAX ||
        begin->name_size < prefix)
        return;
    size_t size = begin->name_size - prefix;
    memcpy(order->names[order->name_count], begin->name + prefix, size);
    order->names[order->name_count][size] = '\0';
    order->feeds[order->name_count++] = message->detail;
}

/* One quarantined record: the map that the topic wrapped it in. */
static void entry_add(struct turn *turn, struct admin_context *context, size_t topic_index, struct view wrapped)
{
    struct order *order = &context->order;
    struct view key, value, cause;
    if (order->entry_count == DEAD_ENTRIES_MAX || args_find(wrapped, VALUE_DEPTH_LIMIT, "value", &value) != WEIR_OK)
        return;
    if (order->entry_count == order->entry_capacity) {
        size_t capacity = order->entry_capacity == 0 ? 64 : order->entry_capacity * 2;
        struct dead_entry *entries = realloc(order->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return;
        order->entries = entries;
        order->entry_capacity = capacity;
    }
    if (args_find(wrapped, VALUE_DEPTH_LIMIT, "key", &key) != WEIR_OK || key.size == 1)
        key = view_of("", 0); /* nil */
    struct dead_entry entry = {.topic_index = topic_index};
    if (arena_alloc(turn_arena(turn), key.size + value.size, context->admin->options.budget, &entry.block) != WEIR_OK)
        return;
    uint8_t *data = arena_data(turn_arena(turn), entry.block);
    memcpy(data, key.data, key.size);
    memcpy(data + key.size, value.data, value.size);
    entry.record = (struct record_slice){0, (uint32_t)key.size, (uint32_t)key.size, (uint32_t)value.size, 0};
    if (args_find_str(wrapped, "cause", &cause) == WEIR_OK)
        snprintf(entry.cause, sizeof entry.cause, "%.*s", (int)cause.size, (const char *)cause.data);
    if (args_find_uint(wrapped, "attempts", &entry.attempts) != WEIR_OK)
        entry.attempts = 0;
    order->entries[order->entry_count++] = entry;
}

static void on_entries(struct turn *turn, struct admin_context *context, const struct message *message)
{
    struct order *order = &context->order;
    struct topic_run run = topic_run_read(message);
    struct arena *arena = turn_arena(turn);
    size_t topic_index = 0;
    while (topic_index < order->name_count && order->feeds[topic_index] != run.feed)
        topic_index++;
    if (!msg_is_none(run.value.block)) {
        entry_add(turn, context, topic_index,
                  view_of((const uint8_t *)arena_data(arena, run.value.block) + run.value.offset, run.value.size));
        return;
    }
    struct view key, value;
    struct view items = view_of((const uint8_t *)arena_data(arena, run.pairs.block) + run.pairs.offset, run.pairs.size);
    while (items_next(&items, VALUE_DEPTH_LIMIT, &key, &value) == WEIR_OK)
        entry_add(turn, context, topic_index, value);
}

/* ---------------------------------------------------------------------------------------- list, drop, replay */

static void list_answer(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    size_t capacity = 1024;
    for (size_t i = 0; i < order->entry_count; i++)
        capacity += 512 + TOPIC_NAME_SIZE_MAX + order->entries[i].record.key_size + order->entries[i].record.value_size;
    uint8_t *data = malloc(capacity);
    if (data == NULL) {
        order_finish(turn, context, WEIR_NO_MEMORY, NULL);
        return;
    }
    struct answer answer;
    answer_init(&answer, data, capacity);
    answer_rows(&answer, "dead");
    for (size_t i = 0; i < order->entry_count; i++) {
        const struct dead_entry *entry = &order->entries[i];
        const uint8_t *bytes = arena_data(turn_arena(turn), entry->block);
        answer_map(&answer, NULL);
        answer_text(&answer, "topic", order->names[entry->topic_index]);
        answer_text(&answer, "cause", entry->cause);
        answer_uint(&answer, "attempts", entry->attempts);
        if (entry->record.key_size > 0)
            answer_raw(&answer, "key", view_of(bytes, entry->record.key_size));
        else
            answer_text(&answer, "key", "");
        answer_raw(&answer, "value", view_of(bytes + entry->record.value_offset, entry->record.value_size));
        answer_end(&answer);
    }
    answer_end(&answer);
    ENSURE(!answer.writer.is_full);
    order_finish(turn, context, WEIR_OK, &answer);
    free(data);
}

static void counted_answer(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    uint8_t data[ADMIN_MESSAGE_SIZE];
    struct answer answer;
    answer_init(&answer, data, sizeof data);
    answer_text(&answer, "topic", order->topic);
    if (order->kind == ORDER_DEAD_DROP) {
        answer_uint(&answer, "dropped", order->entry_count);
    } else {
        answer_uint(&answer, "replayed", order->answered - order->refused);
        answer_uint(&answer, "refused", order->refused);
    }
    log_info("admin.dead", "topic=\"%s\" entries=%zu refused=%zu", order->topic, order->entry_count, order->refused);
    order_finish(turn, context, WEIR_OK, &answer);
}

/* Publishes what the topic's mailbox takes; the rest when it has room. */
static void replay_go_on(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    while (order->published < order->entry_count) {
        struct dead_entry *entry = &order->entries[order->published];
        struct message message = {.tag = TOPIC_PUBLISH, .detail = 1, .hold = {entry->block}};
        message.word[0] = TOPIC_WORD(entry->record.key_offset, entry->record.key_size);
        message.word[1] = TOPIC_WORD(entry->record.value_offset, entry->record.value_size);
        message.word[2] = TOPIC_NUMBER_WORD(order->published + 1, ACK_FOLDED);
        enum weir_error error = turn_send(turn, order->target, &message);
        if (error == WEIR_FULL && turn_await_room(turn, order->target) == WEIR_OK)
            return;
        if (error == WEIR_OK)
            entry->block = WEIR_MSG_NONE;
        else {
            order->answered++;
            order->refused++;
        }
        order->published++;
    }
    if (order->answered == order->entry_count)
        counted_answer(turn, context);
}

static void on_all_read(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    char name[sizeof DEAD_PREFIX + TOPIC_NAME_SIZE_MAX];
    weir_actor dead_topic;
    if (order->kind == ORDER_DEAD_LIST) {
        list_answer(turn, context);
        return;
    }
    if (order->entry_count == 0) {
        counted_answer(turn, context);
        return;
    }
    order->is_clearing = true;
    snprintf(name, sizeof name, DEAD_PREFIX "%s", order->topic);
    struct message clear = {.tag = TOPIC_CLEAR, .word = {order->token, order->seq}};
    enum weir_error error = directory_find(context->admin->options.directory, view_text(name), &dead_topic);
    if (error == WEIR_OK)
        error = turn_control(turn, dead_topic, &clear);
    if (error != WEIR_OK)
        order_finish(turn, context, error, NULL);
}

void dead_on_done(struct turn *turn, struct admin_context *context, enum weir_error error)
{
    struct order *order = &context->order;
    if (!order->is_clearing)
        return;
    if (error == WEIR_BUSY)
        admin_refuse(context, error, "more records of '%s' were quarantined meanwhile; try again", order->topic);
    if (error != WEIR_OK)
        order_finish(turn, context, error, NULL);
    else if (order->kind == ORDER_DEAD_DROP)
        counted_answer(turn, context);
    else
        replay_go_on(turn, context);
}

void dead_on_message(struct turn *turn, struct admin_context *context, struct message *message)
{
    struct order *order = &context->order;
    switch (message->tag) {
    case DIRECTORY_SUBSCRIBED:
        if (message->word[2] != WEIR_OK) {
            order_finish(turn, context, (enum weir_error)message->word[2], NULL);
            return;
        }
        order->is_counted = true;
        order->expected = message->word[0];
        break;
    case TOPIC_BEGIN: on_begin(turn, order, message); return;
    case TOPIC_ENTRIES: on_entries(turn, context, message); return;
    case TOPIC_END: order->seq = message->word[1]; return;
    case TOPIC_ENDED: order->ended++; break;
    case TOPIC_NACK:
        order->refused += message->detail;
        /* fall through */
    case TOPIC_ACK:
        order->answered += message->detail;
        if (order->published == order->entry_count && order->answered == order->entry_count)
            counted_answer(turn, context);
        return;
    case MESSAGE_ROOM: replay_go_on(turn, context); return;
    default: return;
    }
    if (order->is_counted && !order->is_clearing && order->ended >= order->expected)
        on_all_read(turn, context);
}
