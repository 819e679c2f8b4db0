/* PUSH peers: records in, nothing out. A body is one or more records, one behind the other; a full topic stops the
 * reading, so that the peer's own send blocks. In the connection's turns. */
#include "broker/gateway/connection.h"
#include "clients/wire/record.h"

enum {
    DENSE_COUNT = 32,         /* messages between two looks at how fast they come */
    DENSE_GAP_NS = 50 * 1000, /* what one takes that comes alone: its sender is interrupted, and a thread here woken */
};

struct push {
    size_t done;       /* bytes of the body under way that are done with; the connection was paused there */
    uint32_t records;  /* in it so far */
    uint32_t count;    /* of bodies since then: */
    uint64_t since_ns; /* the last look; 0: there was none */
    bool is_dense;     /* they come so fast that their sender is let run before they are received */
};

static void push_look(struct connection *connection, struct push *push)
{
    if (++push->count < DENSE_COUNT)
        return;
    uint64_t now_ns = turn_now_ns(connection->turn);
    bool is_dense = now_ns - push->since_ns < (uint64_t)DENSE_COUNT * DENSE_GAP_NS;
    if (is_dense != push->is_dense)
        sp_pipe_gather(connection->pipe, is_dense);
    push->is_dense = is_dense;
    push->since_ns = now_ns;
    push->count = 0;
}

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
    push->done = 0;
    push->records = 0;
    push_look(connection, push);
    return WEIR_OK;
}

const struct connection_ops push_ops = {
    .protocol = "push",
    .parked_max = 0,
    .state_size = sizeof(struct push),
    .on_body = push_body,
};
