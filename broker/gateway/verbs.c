/* The verbs publish and list: carried out on a connection's behalf (get is in get.c). In the connection's turns. */
#include <stdio.h>

#include "actors/base/assert.h"
#include "broker/gateway/parked.h"
#include "broker/gateway/requests.h"
#include "broker/gateway/roster.h"
#include "clients/wire/name.h"
#include "clients/wire/record.h"

enum { RESULT_SMALL = 64, LIST_FIRST = 4096, LIST_ROW_MAX = 512, RETRY_MS = 100 };

static enum weir_error refuse(struct connection *connection, uint64_t id, struct view hops, enum weir_error error,
                              const char *text)
{
    gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
    requests_refuse(connection, id, hops, error, text);
    return WEIR_OK;
}

/* -------------------------------------------------------------------------------------------- publish */

/* What a publish request carries. */
struct publish_args {
    bool is_single;
    struct record record; /* the single one */
    struct view records;  /* the others, one behind the other */
    uint32_t count;
    enum ack_level ack;
    bool has_options;
    struct publish_options options; /* number: of the first record */
};

static enum weir_error args_read_single(struct view args, unsigned depth_max, struct publish_args *out,
                                        const char **reason)
{
    *reason = "publish needs a topic and a value, or records";
    enum weir_error error = args_find_str(args, "topic", &out->record.topic);
    if (error == WEIR_OK)
        error = args_find(args, depth_max, "value", &out->record.value);
    if (error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    if (name_check(out->record.topic, reason) != WEIR_OK)
        return WEIR_BAD_TOPIC;
    struct view key;
    error = args_find(args, depth_max, "key", &key);
    out->count = 1;
    out->is_single = true;
    if (error == WEIR_NOT_FOUND)
        return WEIR_OK;
    *reason = "the key is no str of at most 1024 bytes in its shortest form";
    if (error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    struct value_reader reader;
    value_reader_init(&reader, key, depth_max);
    bool is_nil = value_peek_nil(&reader);
    key = value_read_key(&reader);
    if (reader.error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    out->record.key = is_nil ? view_of(NULL, 0) : key;
    return WEIR_OK;
}

/* Everything is checked before anything is published, so that a malformed request publishes nothing. */
static enum weir_error args_check_records(struct view encoded, unsigned depth_max, uint32_t count_max,
                                          struct publish_args *out, const char **reason)
{
    struct value_reader reader;
    value_reader_init(&reader, encoded, depth_max + 2);
    uint32_t count = value_read_array(&reader);
    *reason = "records is no array";
    if (reader.error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    *reason = "there are more records in one request than the broker takes";
    if (count > count_max)
        return WEIR_TOO_BIG;
    struct view rest = reader.rest;
    struct record record;
    for (uint32_t i = 0; i < count; i++) {
        enum weir_error error = record_next(&rest, depth_max, &record, reason);
        if (error != WEIR_OK)
            return error == WEIR_AGAIN ? WEIR_BAD_REQUEST : error;
    }
    out->records = reader.rest;
    out->count = count;
    return WEIR_OK;
}

/* An argument that may be left out. */
static bool arg_is_good(enum weir_error error) { return error == WEIR_OK || error == WEIR_NOT_FOUND; }

static enum weir_error args_read_publisher(struct view args, struct publish_args *out, const char **reason)
{
    struct publish_options *options = &out->options;
    struct view name;
    enum weir_error error = args_find_str(args, "publisher", &name);
    if (error == WEIR_NOT_FOUND)
        return WEIR_OK;
    *reason = "publisher is a name of 1 to 64 bytes, and needs a number, below 2^60";
    if (error != WEIR_OK || name.size == 0 || name.size > PUBLISHER_NAME_MAX ||
        args_find_uint(args, "number", &options->number) != WEIR_OK || options->number >= REQUEST_NUMBER_BIT)
        return WEIR_BAD_REQUEST;
    options->publisher_size = (uint8_t)name.size;
    memcpy(options->publisher, name.data, name.size);
    out->has_options = true;
    return WEIR_OK;
}

static enum weir_error args_read_options(struct view args, struct publish_args *out, const char **reason)
{
    struct publish_with *with = &out->options.with;
    bool is_absent = false;
    enum weir_error if_seq = args_find_uint(args, "if_seq", &with->if_seq);
    enum weir_error if_absent = args_find_bool(args, "if_absent", &is_absent);
    *reason = "if_seq is a number, if_absent true or false, and only one of them can hold";
    if (!arg_is_good(if_seq) || !arg_is_good(if_absent) || (is_absent && with->if_seq != 0))
        return WEIR_BAD_REQUEST;
    with->has_if_seq = if_seq == WEIR_OK || is_absent;
    *reason = "ttl_ms is a number, at most ten years; bind is true or false";
    if (!arg_is_good(args_find_uint(args, "ttl_ms", &with->ttl_ms)) || with->ttl_ms > PUBLISH_TTL_MAX_MS ||
        !arg_is_good(args_find_bool(args, "bind", &with->bind)))
        return WEIR_BAD_REQUEST;
    out->has_options = with->has_if_seq || with->ttl_ms > 0 || with->bind;
    return args_read_publisher(args, out, reason);
}

static enum weir_error args_read(struct connection *connection, struct view args, struct publish_args *out,
                                 const char **reason)
{
    unsigned depth_max = connection->config->depth_max;
    struct view name, records;
    *out = (struct publish_args){.ack = ACK_FOLDED};
    enum weir_error error = args_find_str(args, "ack", &name);
    *reason = "ack is none of none, accepted, folded, durable";
    if (error == WEIR_OK && ack_level_find(name, &out->ack) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    if (error != WEIR_OK && error != WEIR_NOT_FOUND)
        return WEIR_BAD_REQUEST;
    *reason = "this broker keeps no journal, so ack durable is not available";
    if (out->ack == ACK_DURABLE)
        return WEIR_BAD_REQUEST;
    error = args_read_options(args, out, reason);
    if (error != WEIR_OK)
        return error;
    error = args_find(args, depth_max + 2, "records", &records);
    if (error == WEIR_NOT_FOUND)
        return args_read_single(args, depth_max, out, reason);
    *reason = "records is malformed";
    if (error != WEIR_OK)
        return WEIR_BAD_REQUEST;
    return args_check_records(records, depth_max, connection->config->records_per_message_max, out, reason);
}

/* Publishes one record of a request; refusals are the request's, WEIR_AGAIN the caller's. */
static enum weir_error publish_one(struct connection *connection, uint32_t token, const struct record *record,
                                   const struct publish_args *args)
{
    struct topic_entry *entry;
    enum weir_error error = publisher_topic(connection, record->topic, &entry);
    if (error == WEIR_AGAIN)
        return error;
    uint64_t number = REQUEST_NUMBER_BIT | (uint64_t)token << REQUEST_NUMBER_SHIFT;
    struct request_slot *slot = request_find(connection, token);
    ENSURE(slot != NULL);
    struct publish_options options = args->options;
    options.number += slot->count;
    if (error == WEIR_OK)
        error = publisher_add(connection, entry, record->key, record->value, TOPIC_NUMBER_WORD(number, args->ack),
                              token, args->has_options ? &options : NULL);
    slot = request_find(connection, token); /* a batch that was handed on may have answered others */
    ENSURE(slot != NULL);
    slot->count++;
    if (error == WEIR_OK) {
        slot->waiting++;
    } else {
        slot->refused++;
        publisher_refuse(connection, 1, refusal_of(error));
        request_error_set(connection, slot, error, record->topic);
    }
    return WEIR_OK;
}

/* Publishes what is left of the request that is being read. */
static enum weir_error publish_all(struct connection *connection, const struct publish_args *args)
{
    struct requests *requests = &connection->requests;
    uint32_t token = requests->building;
    if (args->is_single)
        return publish_one(connection, token, &args->record, args);
    struct view rest =
        view_of(args->records.data + requests->building_done, args->records.size - requests->building_done);
    struct request_slot *slot = request_find(connection, token);
    for (uint32_t i = slot->count; i < args->count; i++) {
        struct record record;
        enum weir_error error = record_next(&rest, connection->config->depth_max, &record, NULL);
        ENSURE(error == WEIR_OK);
        error = publish_one(connection, token, &record, args);
        if (error != WEIR_OK)
            return error;
        requests->building_done = (size_t)(rest.data - args->records.data);
    }
    return WEIR_OK;
}

enum weir_error verb_publish(struct connection *connection, const struct request *request, uint64_t id,
                             struct view hops)
{
    struct requests *requests = &connection->requests;
    struct publish_args args;
    const char *reason = "the request is malformed";
    enum weir_error error = args_read(connection, request->args, &args, &reason);
    if (error != WEIR_OK)
        return refuse(connection, id, hops, error, reason);
    if (requests->building == 0) {
        struct request_slot *slot = request_open(connection, REQUEST_PUBLISH, id, hops);
        if (slot == NULL)
            return WEIR_NO_MEMORY;
        slot->ack = args.ack;
        slot->is_single = args.is_single;
        slot->is_building = true;
        requests->building = slot->token;
        requests_on_replied(connection);
        requests->building_done = 0;
    }
    error = publish_all(connection, &args);
    if (error != WEIR_OK)
        return error;
    struct request_slot *slot = request_find(connection, requests->building);
    requests->building = 0;
    requests_on_replied(connection);
    slot->is_building = false;
    verb_publish_check(connection, slot);
    return WEIR_OK;
}

struct blocked_cause {
    bool is_subscriber;
};

static bool on_blocked(const struct topic_status *status, void *context)
{
    struct blocked_cause *cause = context;
    cause->is_subscriber = status->blocked_feed != 0;
    return false;
}

static void reply_busy(struct connection *connection, const struct request_slot *slot, struct view topic)
{
    struct blocked_cause cause = {.is_subscriber = false};
    if (topic.size > 0)
        directory_topics_each(connection->gateway->directory, topic, on_blocked, &cause);
    struct view text = cause.is_subscriber ? view_text("a subscriber with policy block holds the topic back")
                                           : view_text("the topic is full");
    reply_error(connection, slot,
                &(struct reply_refusal){.error = WEIR_BUSY,
                                        .message = text,
                                        .topic = topic,
                                        .cause = view_text(cause.is_subscriber ? "subscriber" : "mailbox"),
                                        .retry_ms = RETRY_MS});
}

static void reply_refused(struct connection *connection, const struct request_slot *slot)
{
    struct view topic = view_of(NULL, 0);
    if (!msg_is_none(slot->error_topic))
        topic =
            view_of(arena_data(connection->arena, slot->error_topic), arena_size(connection->arena, slot->error_topic));
    if (slot->error == WEIR_BUSY) {
        reply_busy(connection, slot, topic);
        return;
    }
    char text[NACK_TEXT_SIZE + 64], sentence[NACK_TEXT_SIZE];
    struct nack_text nack = nack_text_of(slot->error, slot->error_word);
    nack_sentence(connection->arena, slot->error_text, nack.text, sentence);
    int size = snprintf(text, sizeof text, "%s", sentence);
    if (!slot->is_single)
        size = snprintf(text, sizeof text, "%u of %u records were refused, the first because: %s", slot->refused,
                        slot->count, sentence);
    reply_error(connection, slot,
                &(struct reply_refusal){.error = nack.error,
                                        .message = view_of(text, (size_t)size),
                                        .topic = topic,
                                        .cause = view_text(nack.cause),
                                        .retry_ms = nack.error == WEIR_BUSY ? RETRY_MS : 0,
                                        .seq = nack.seq});
}

static void reply_published(struct connection *connection, const struct request_slot *slot)
{
    weir_msg block;
    if (arena_alloc(connection->arena, REPLY_HEAD_MAX + RESULT_SMALL, connection->budget, &block) != WEIR_OK) {
        connection_starve(connection, "there is no memory to reply into");
        return;
    }
    struct value_writer writer;
    value_writer_init(&writer, (uint8_t *)arena_data(connection->arena, block) + REPLY_HEAD_MAX, RESULT_SMALL);
    if (slot->is_single) {
        value_write_map(&writer, 2);
        value_write_str(&writer, view_text("epoch"));
        value_write_uint(&writer, slot->epoch);
        value_write_str(&writer, view_text("seq"));
        value_write_uint(&writer, slot->seq);
    } else {
        value_write_map(&writer, 1);
        value_write_str(&writer, view_text("count"));
        value_write_uint(&writer, slot->count);
    }
    ENSURE(!writer.is_full);
    reply_ok(connection, slot, block, REPLY_HEAD_MAX + writer.size);
}

void verb_publish_check(struct connection *connection, struct request_slot *slot)
{
    if (slot->is_building)
        return;
    bool is_answered = slot->ack != ACK_FOLDED || slot->answered >= slot->handed;
    bool is_known = slot->waiting == 0 && is_answered;
    if (!is_known && !(slot->ack == ACK_NONE && slot->error == WEIR_OK))
        return;
    if (slot->error == WEIR_OK)
        reply_published(connection, slot);
    else
        reply_refused(connection, slot);
    request_close(connection, slot);
}

/* ----------------------------------------------------------------------------------------------- list */

struct list {
    struct connection *connection;
    weir_msg block;
    struct value_writer writer;
    uint32_t count;
    enum weir_error error;
};

/* Room for one more row: a larger block, up to what a message may be. */
static bool list_reserve(struct list *list)
{
    struct connection *connection = list->connection;
    if (list->writer.capacity - list->writer.size >= LIST_ROW_MAX)
        return true;
    size_t size = list->writer.size, capacity = list->writer.capacity * 2 + REPLY_HEAD_MAX;
    weir_msg block;
    list->error = size + LIST_ROW_MAX > connection->config->message_size_max
                      ? WEIR_TOO_BIG
                      : arena_alloc(connection->arena, capacity, connection->budget, &block);
    if (list->error != WEIR_OK)
        return false;
    uint8_t *data = arena_data(connection->arena, block);
    memcpy(data + REPLY_HEAD_MAX, list->writer.data, size);
    arena_drop(connection->arena, list->block);
    list->block = block;
    value_writer_init(&list->writer, data + REPLY_HEAD_MAX, capacity - REPLY_HEAD_MAX);
    list->writer.size = size;
    return true;
}

static bool on_listed(const struct topic_status *status, void *context)
{
    struct list *list = context;
    if (!list_reserve(list))
        return false;
    struct value_writer *writer = &list->writer;
    value_write_map(writer, 6);
    value_write_str(writer, view_text("topic"));
    value_write_str(writer, view_text(status->name));
    value_write_str(writer, view_text("kind"));
    value_write_str(writer, view_text(topic_kind_name(status->kind)));
    value_write_str(writer, view_text("epoch"));
    value_write_uint(writer, status->epoch);
    value_write_str(writer, view_text("seq"));
    value_write_uint(writer, status->seq);
    value_write_str(writer, view_text("bytes"));
    value_write_uint(writer, status->state_bytes);
    value_write_str(writer, view_text("subscribers"));
    value_write_uint(writer, status->subscribers);
    ENSURE(!writer->is_full);
    list->count++;
    return true;
}

/* {"topics": [...]}: the array's header in its longest form, so that the count can be written at the end. */
static size_t list_begin(struct list *list)
{
    value_write_map(&list->writer, 1);
    value_write_str(&list->writer, view_text("topics"));
    size_t at = list->writer.size;
    value_write_raw(&list->writer, view_of("\xdd\0\0\0\0", 5));
    return at;
}

void container_count_write(uint8_t *header, uint32_t count)
{
    for (int i = 0; i < 4; i++)
        header[1 + i] = (uint8_t)(count >> (24 - 8 * i));
}

enum weir_error verb_list(struct connection *connection, const struct request *request, uint64_t id, struct view hops)
{
    struct view pattern;
    const char *reason = "list needs a pattern";
    if (args_find_str(request->args, "pattern", &pattern) != WEIR_OK)
        return refuse(connection, id, hops, WEIR_BAD_REQUEST, reason);
    if (pattern_check(pattern, &reason) != WEIR_OK)
        return refuse(connection, id, hops, WEIR_BAD_TOPIC, reason);
    struct list list = {.connection = connection};
    size_t capacity = REPLY_HEAD_MAX + LIST_FIRST;
    if (arena_alloc(connection->arena, capacity, connection->budget, &list.block) != WEIR_OK)
        return WEIR_NO_MEMORY;
    value_writer_init(&list.writer, (uint8_t *)arena_data(connection->arena, list.block) + REPLY_HEAD_MAX, LIST_FIRST);
    size_t header = list_begin(&list);
    directory_topics_each(connection->gateway->directory, pattern, on_listed, &list);
    struct request_slot slot = {.id = id, .hops_size = (uint8_t)hops.size};
    if (hops.size > 0)
        memcpy(slot.hops, hops.data, hops.size);
    if (list.error != WEIR_OK) {
        arena_drop(connection->arena, list.block);
        reply_error_text(connection, &slot, list.error,
                         list.error == WEIR_TOO_BIG ? "the list is longer than a message may be: narrow the pattern"
                                                    : weir_error_text(list.error));
        return WEIR_OK;
    }
    container_count_write(list.writer.data + header, list.count);
    reply_ok(connection, &slot, list.block, REPLY_HEAD_MAX + list.writer.size);
    return WEIR_OK;
}
