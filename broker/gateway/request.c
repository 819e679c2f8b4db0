/* REQ peers: a body is the ids that requester and devices put before it, and a request; the reply goes back behind the
 * same ids. Several requests of one connection may be outstanding (contexts). In the connection's turns. */
#include "actors/base/assert.h"
#include "broker/gateway/connection.h"

/* Requester and at most seven devices: nng's own default for how often a message may be forwarded is eight. */
enum { HOP_SIZE = 4, HOPS_MAX = REQUEST_HOPS_SIZE_MAX / 4 };

/* 4-byte words up to the one with the highest bit set, which is the requester's own. */
static enum weir_error hops_find(struct view body, struct view *hops)
{
    for (size_t i = 0; i < HOPS_MAX && (i + 1) * HOP_SIZE <= body.size; i++) {
        if ((body.data[i * HOP_SIZE] & 0x80) != 0) {
            *hops = view_of(body.data, (i + 1) * HOP_SIZE);
            return WEIR_OK;
        }
    }
    return WEIR_PROTOCOL;
}

static enum weir_error request_body(struct connection *connection, struct view body)
{
    struct view hops;
    enum weir_error error = hops_find(body, &hops);
    if (error != WEIR_OK) {
        connection_refuse(connection, REFUSAL_FRAMING, error, "the message does not begin with a request id");
        return error;
    }
    const char *reason = "the request is malformed";
    struct request request;
    error = request_read(view_of(body.data + hops.size, body.size - hops.size), connection->config->depth_max, &request,
                         &reason);
    if (error != WEIR_OK) {
        gateway_count(connection->gateway, REFUSAL_MALFORMED, 1);
        requests_refuse(connection, 0, hops, error, reason);
        return WEIR_OK;
    }
    error = requests_take(connection, &request, 0, hops);
    if (error == WEIR_NO_MEMORY) {
        requests_refuse(connection, 0, hops, error, weir_error_text(error));
        return WEIR_OK;
    }
    return error;
}

static size_t request_reply_head(const struct request_slot *slot, bool ok, uint8_t *head, size_t capacity)
{
    uint8_t bytes[16];
    struct value_writer writer;
    value_writer_init(&writer, bytes, sizeof bytes);
    value_write_array(&writer, 2);
    value_write_str(&writer, view_text(ok ? "ok" : "error"));
    size_t at = capacity - writer.size - slot->hops_size;
    memcpy(head + at, slot->hops, slot->hops_size);
    memcpy(head + at + slot->hops_size, bytes, writer.size);
    return at;
}

const struct connection_ops request_ops = {
    .protocol = "req",
    .parked_max = PUBLISHER_PARKED_MAX,
    .on_body = request_body,
    .on_handed = requests_on_handed,
    .reply_head = request_reply_head,
};
