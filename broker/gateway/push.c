/* PUSH peers: records in, nothing out. A body is one or more records, one behind the other; a full topic stops the
 * reading, so that the peer's own send blocks. In the connection's turns. */
#include "broker/gateway/connection.h"
#include "clients/wire/record.h"

struct push {
    size_t done;      /* bytes of the body under way that are done with; the connection was paused there */
    uint32_t records; /* in it so far */
};

static enum weir_error push_refuse(struct connection *connection, enum weir_error error, const char *reason)
{
    publisher_refuse(connection, 1, error == WEIR_BAD_TOPIC ? REFUSAL_TOPIC_NAME : REFUSAL_MALFORMED);
    connection_refuse(connection, REFUSAL_MALFORMED, error, reason);
    return error;
}

static enum weir_error push_body(struct connection *connection, struct view body)
{
    struct push *push = connection->state;
    struct view rest = view_of(body.data + push->done, body.size - push->done);
    const char *reason = "the message holds no record";
    if (body.size == 0)
        return push_refuse(connection, WEIR_BAD_REQUEST, reason);
    for (;;) {
        struct record record;
        enum weir_error error = record_next(&rest, connection->config->depth_max, &record, &reason);
        if (error == WEIR_AGAIN)
            break;
        if (error != WEIR_OK)
            return push_refuse(connection, error, reason);
        if (push->records == connection->config->records_per_message_max) {
            connection_refuse(connection, REFUSAL_RECORD_COUNT, WEIR_TOO_BIG, "the message holds too many records");
            return WEIR_TOO_BIG;
        }
        struct topic_entry *entry;
        error = publisher_topic(connection, record.topic, &entry);
        if (error == WEIR_AGAIN)
            return error;
        if (error == WEIR_OK)
            error = publisher_add(connection, entry, record.key, record.value, TOPIC_NUMBER_WORD(0, ACK_NONE), 0, NULL);
        if (error != WEIR_OK)
            publisher_refuse(connection, 1, refusal_of(error));
        push->records++;
        push->done = (size_t)(rest.data - body.data);
    }
    *push = (struct push){.done = 0};
    return WEIR_OK;
}

const struct connection_ops push_ops = {
    .protocol = "push",
    .parked_max = 0,
    .state_size = sizeof(struct push),
    .on_body = push_body,
};
