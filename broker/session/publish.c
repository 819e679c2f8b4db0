/* PUBLISH frames to topics, and their answers back. A record is answered once: refused here, or by its topic. In the
 * connection's turns. */
#include "actors/base/assert.h"
#include "broker/session/state.h"
#include "clients/wire/name.h"

enum { ALIASES_FIRST = 16, RETRY_MS = 100 };

/* ------------------------------------------------------------------------------------------- answers */

void session_ack_flush(struct connection *connection)
{
    struct pending_ack *ack = &session_of(connection)->ack;
    if (ack->count == 0)
        return;
    struct frame frame = {.op = FRAME_ACK};
    frame.as.ack.number = ack->number;
    frame.as.ack.count = ack->count;
    frame.as.ack.epoch = ack->epoch;
    frame.as.ack.seq = ack->seq;
    ack->count = 0;
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}

bool session_ack_may_wait(const struct connection *connection)
{
    const struct session *session = session_of(connection);
    /* While nothing is read the client cannot ask for them. */
    return connection->paused == 0 && session->ack.number >= session->hold_from;
}

/* What came before is answered when this turn ends, or as it is folded; what comes may be held back. */
enum weir_error session_hold(struct connection *connection, const struct frame *frame)
{
    struct session *session = session_of(connection);
    session->hold_from = frame->as.hold.on ? session->publish_end : UINT64_MAX;
    return WEIR_OK;
}

/* seq 0: accepted, so none of the records has one yet. */
static void ack_add(struct connection *connection, uint64_t number, uint32_t count, uint64_t epoch, uint64_t seq)
{
    struct pending_ack *ack = &session_of(connection)->ack;
    bool is_next = ack->count > 0 && number == ack->number + ack->count && epoch == ack->epoch &&
                   ack->count <= UINT32_MAX - count &&
                   (seq == 0 ? ack->seq == 0 : ack->seq != 0 && seq == ack->seq + ack->count);
    if (is_next) {
        ack->count += count;
        return;
    }
    session_ack_flush(connection);
    *ack = (struct pending_ack){.number = number, .count = count, .epoch = epoch, .seq = seq};
}

/* text: NULL: what the error usually means. nack_word: what a topic's refusal says besides; 0: it is none. */
static void refused_send(struct connection *connection, uint64_t number, uint32_t count, enum weir_error error,
                         const char *text, struct view topic, uint64_t nack_word)
{
    struct nack_text nack = nack_text_of(error, nack_word);
    session_ack_flush(connection); /* answers of one topic keep their order */
    struct frame frame = {.op = FRAME_REFUSED};
    frame.as.refused.number = number;
    frame.as.refused.count = count;
    frame.as.refused.code = view_text(weir_error_code(nack.error));
    frame.as.refused.message = view_text(text != NULL ? text : nack.text);
    frame.as.refused.topic = topic;
    frame.as.refused.cause = view_text(nack.cause);
    frame.as.refused.seq = nack.seq;
    if (error == WEIR_BUSY)
        frame.as.refused.cause = view_text("mailbox");
    if (nack.error == WEIR_BUSY)
        frame.as.refused.retry_ms = RETRY_MS;
    session_frame(connection, &frame, SESSION_FRAME_MAX);
}

/* A REFUSED for each run of neighbouring numbers. */
static void handed_refuse(struct connection *connection, const struct handed *handed, enum weir_error error)
{
    uint64_t first = TOPIC_NUMBER(handed->number_word);
    uint32_t count = 1;
    for (uint32_t i = 1; i <= handed->count; i++) {
        uint32_t step = i < handed->count && handed->slices != NULL ? record_step(&handed->slices[i]) : 1;
        if (i < handed->count && step == 1) {
            count++;
            continue;
        }
        refused_send(connection, first, count, error, NULL, handed->topic, 0);
        first += count - 1 + step;
        count = 1;
    }
}

/* Of records whose numbers are no neighbours: each is answered by itself. */
static void ack_add_spread(struct connection *connection, const struct message *message)
{
    uint32_t first = TOPIC_SPREAD_FIRST(message->detail), count = TOPIC_SPREAD_COUNT(message->detail);
    const struct record_slice *slices = arena_data(connection->arena, message->hold[1]);
    REQUIRE((first + count) * sizeof *slices <= arena_size(connection->arena, message->hold[1]));
    uint64_t number = message->word[0];
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            number += record_step(&slices[first + i]);
        ack_add(connection, number, 1, message->word[1], message->word[2] + i);
    }
}

void session_on_handed(struct connection *connection, const struct handed *handed, enum weir_error error)
{
    if (handed->owner != 0) {
        requests_on_handed(connection, handed, error);
        return;
    }
    uint64_t number = TOPIC_NUMBER(handed->number_word);
    enum ack_level level = TOPIC_ACK_LEVEL(handed->number_word);
    if (error != WEIR_OK)
        handed_refuse(connection, handed, error);
    else if (level == ACK_ACCEPTED)
        ack_add(connection, number, handed->count, 0, 0);
    else if (level == ACK_FOLDED)
        session_of(connection)->unanswered += handed->count;
}

void session_on_ack(struct connection *connection, const struct message *message)
{
    struct session *session = session_of(connection);
    uint64_t number = message->word[0];
    uint32_t count = message->detail;
    if (message->tag == TOPIC_ACK) {
        bool is_spread = !msg_is_none(message->hold[1]);
        count = is_spread ? TOPIC_SPREAD_COUNT(count) : count;
        if (is_spread)
            ack_add_spread(connection, message);
        else
            ack_add(connection, number, count, message->word[1], message->word[2]);
        session->unanswered -= session->unanswered < count ? session->unanswered : count;
        return;
    }
    enum weir_error error = (enum weir_error)message->word[1];
    /* Records of lower levels are answered when they are refused, too; nobody waits for those. */
    session->unanswered -= session->unanswered < count ? session->unanswered : count;
    char text[NACK_TEXT_SIZE];
    nack_sentence(connection->arena, message->hold[0], nack_text_of(error, message->word[2]).text, text);
    refused_send(connection, number, count, error, text, view_of(NULL, 0), message->word[2]);
}

/* ------------------------------------------------------------------------------------------- aliases */

static bool aliases_reserve(struct connection *connection, uint32_t alias)
{
    struct session *session = session_of(connection);
    if (alias < session->alias_count)
        return true;
    uint32_t old = session->alias_count, count = old == 0 ? ALIASES_FIRST : old * 2;
    const size_t size = sizeof *session->aliases;
    while (count <= alias)
        count *= 2;
    if (arena_grow(connection->arena, &session->alias_block, old * size, count * size, connection->budget) != WEIR_OK)
        return false;
    session->aliases = arena_data(connection->arena, session->alias_block);
    memset(session->aliases + old, 0, (count - old) * size);
    session->alias_count = count;
    return true;
}

enum weir_error session_alias(struct connection *connection, const struct frame *frame)
{
    struct session *session = session_of(connection);
    struct view topic = frame->as.alias.topic;
    uint32_t alias = frame->as.alias.alias;
    const char *reason = "the alias is for no valid topic name";
    if (name_check(topic, &reason) != WEIR_OK)
        return session_refuse(connection, REFUSAL_TOPIC_NAME, WEIR_BAD_TOPIC, reason);
    if (alias >= connection->config->aliases_max)
        return session_refuse(connection, REFUSAL_QUOTA, WEIR_FULL, "the alias is beyond the broker's bound");
    weir_msg name;
    if (!aliases_reserve(connection, alias) ||
        arena_alloc(connection->arena, topic.size, connection->budget, &name) != WEIR_OK)
        return session_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, weir_error_text(WEIR_NO_MEMORY));
    memcpy(arena_data(connection->arena, name), topic.data, topic.size);
    arena_drop(connection->arena, session->aliases[alias].name);
    session->aliases[alias].name = name;
    return WEIR_OK;
}

void session_aliases_fini(struct connection *connection)
{
    struct session *session = session_of(connection);
    for (uint32_t i = 0; i < session->alias_count; i++)
        arena_drop(connection->arena, session->aliases[i].name);
    arena_drop(connection->arena, session->alias_block);
    session->alias_block = WEIR_MSG_NONE;
    session->alias_count = 0;
}

/* ---------------------------------------------------------------------------------------- publishing */

/* The name that a PUBLISH frame means. */
static enum weir_error publish_name(struct connection *connection, const struct frame *frame, struct view *name,
                                    const char **reason)
{
    struct session *session = session_of(connection);
    if (!frame->as.publish.has_alias) {
        *name = frame->as.publish.topic;
        return name_check(*name, reason);
    }
    uint32_t alias = frame->as.publish.alias;
    *reason = "the alias stands for no topic";
    if (alias >= session->alias_count || msg_is_none(session->aliases[alias].name))
        return WEIR_BAD_REQUEST;
    weir_msg block = session->aliases[alias].name;
    *name = view_of(arena_data(connection->arena, block), arena_size(connection->arena, block));
    return WEIR_OK;
}

/* What can be said of the whole frame before its items are looked at. */
static enum weir_error publish_check(struct connection *connection, const struct frame *frame, size_t body_size)
{
    struct session *session = session_of(connection);
    if (session->in_received >= session->in_granted)
        return session_refuse(connection, REFUSAL_CREDIT, WEIR_PROTOCOL, "more data was sent than credit allowed");
    session->in_received += body_size;
    uint64_t end = frame->as.publish.number + frame->as.publish.count;
    session->publish_end = end > session->publish_end ? end : session->publish_end;
    if (frame->as.publish.count > connection->config->records_per_message_max)
        return session_refuse(connection, REFUSAL_RECORD_COUNT, WEIR_BAD_REQUEST, "the frame holds too many records");
    if (frame->as.publish.number > REQUEST_NUMBER_BIT - frame->as.publish.count)
        return session_refuse(connection, REFUSAL_MALFORMED, WEIR_BAD_REQUEST, "record numbers are at most 60 bits");
    return WEIR_OK;
}

/* Refuses the rest of the frame: all of it has one topic and one ack level. */
static enum weir_error publish_refuse_rest(struct connection *connection, const struct frame *frame,
                                           enum weir_error error, const char *reason, struct view topic)
{
    struct session *session = session_of(connection);
    uint32_t count = frame->as.publish.count - session->published;
    session->is_publishing = false;
    if (count == 0)
        return WEIR_OK;
    publisher_refuse(connection, count, refusal_of(error));
    if (topic.size > TOPIC_NAME_SIZE_MAX)
        topic.size = 0;
    refused_send(connection, frame->as.publish.number + session->published, count, error, reason, topic, 0);
    return WEIR_OK;
}

/* What the frame's records are published with, but for their numbers; false: nothing. */
static bool options_read(const struct connection *connection, const struct frame *frame, struct publish_options *out)
{
    *out = (struct publish_options){.with = frame->as.publish.with, .publisher_size = connection->identity_size};
    if (connection->identity_size > 0)
        memcpy(out->publisher, connection->identity, connection->identity_size);
    return connection->identity_size > 0 || out->with.has_if_seq || out->with.bind || out->with.ttl_ms > 0;
}

static enum weir_error publish_items(struct connection *connection, const struct frame *frame, struct view name,
                                     struct topic_entry *entry)
{
    struct session *session = session_of(connection);
    struct view items = frame->as.publish.items, key, value;
    struct publish_options options;
    bool has_options = options_read(connection, frame, &options);
    for (;;) {
        enum weir_error error = items_next(&items, connection->config->depth_max, &key, &value);
        if (error == WEIR_AGAIN)
            break;
        if (error != WEIR_OK) {
            publisher_refuse(connection, 1, REFUSAL_MALFORMED);
            return session_refuse(connection, REFUSAL_MALFORMED, WEIR_BAD_REQUEST,
                                  "a record of the frame is malformed or nested too deeply");
        }
        uint64_t number = frame->as.publish.number + session->published;
        options.number = number;
        error = publisher_add(connection, entry, key, value, TOPIC_NUMBER_WORD(number, frame->as.publish.ack), 0,
                              has_options ? &options : NULL);
        /* Answers of one topic keep their order, and those before may be on their way: none is refused behind them. */
        if (error == WEIR_NO_MEMORY)
            return session_refuse(connection, REFUSAL_MEMORY, error, "there is no memory to take the record with");
        if (error != WEIR_OK) {
            publisher_refuse(connection, 1, refusal_of(error));
            refused_send(connection, number, 1, error, NULL, name, 0);
        }
        session->published++;
    }
    session->is_publishing = false;
    if (session->published == frame->as.publish.count)
        return WEIR_OK;
    return session_refuse(connection, REFUSAL_MALFORMED, WEIR_BAD_REQUEST, "the frame's records are not whole pairs");
}

void session_ahead(struct connection *connection, struct view body)
{
    struct value_reader reader;
    value_reader_init(&reader, body, 0);
    (void)value_read_array(&reader);
    uint64_t op = value_read_uint(&reader);
    if (op != FRAME_PUBLISH && op != FRAME_PUBLISH_WITH)
        return;
    struct view name = value_read_str(&reader); /* or an alias: then it is empty */
    if (name.size > 0)
        publisher_ahead(connection, name);
}

enum weir_error session_publish(struct connection *connection, const struct frame *frame, size_t body_size)
{
    struct session *session = session_of(connection);
    enum weir_error error;
    if (!session->is_publishing) {
        error = publish_check(connection, frame, body_size);
        if (error != WEIR_OK)
            return error;
        session->is_publishing = true;
        session->published = 0;
    }
    struct view name = view_of(NULL, 0);
    const char *reason = "the topic name is malformed";
    error = publish_name(connection, frame, &name, &reason);
    if (error != WEIR_OK)
        return publish_refuse_rest(connection, frame, error, reason, name);
    if (frame->as.publish.ack == ACK_DURABLE)
        return publish_refuse_rest(connection, frame, WEIR_BAD_REQUEST,
                                   "this broker keeps no journal, so ack durable is not available", name);
    if (frame->as.publish.with.ttl_ms > PUBLISH_TTL_MAX_MS)
        return publish_refuse_rest(connection, frame, WEIR_BAD_REQUEST, "ttl_ms is at most ten years", name);
    struct topic_entry *entry;
    error = publisher_topic(connection, name, &entry);
    if (error == WEIR_AGAIN)
        return error;
    if (error != WEIR_OK)
        return publish_refuse_rest(connection, frame, error, NULL, name);
    return publish_items(connection, frame, name, entry);
}
