/* The bytes of the scalability protocols: connection header and message prefix. Called by the listener, the dialer and
 * whoever cuts a receive buffer into messages, on any thread. */
#include "clients/sp/framing.h"

#include "actors/base/assert.h"

#include <endian.h>
#include <string.h>

#define IPC_MESSAGE_TYPE 0x01

void sp_header_write(uint8_t out[SP_HEADER_SIZE], enum sp_protocol protocol)
{
    const uint8_t header[SP_HEADER_SIZE] = {0, 'S', 'P', 0, (uint8_t)(protocol >> 8), (uint8_t)protocol, 0, 0};
    memcpy(out, header, SP_HEADER_SIZE);
}

enum weir_error sp_header_read(const uint8_t header[SP_HEADER_SIZE], uint16_t *protocol)
{
    bool is_sp = header[0] == 0 && header[1] == 'S' && header[2] == 'P' && header[3] == 0;
    bool is_reserved_zero = header[6] == 0 && header[7] == 0;
    if (!is_sp || !is_reserved_zero)
        return WEIR_PROTOCOL;
    *protocol = (uint16_t)(header[4] << 8 | header[5]);
    return WEIR_OK;
}

enum weir_error sp_protocol_answer(uint16_t peer, enum sp_protocol *answer)
{
    switch (peer) {
    case SP_PUSH0: *answer = SP_PULL0; return WEIR_OK;
    case SP_REQ0: *answer = SP_REP0; return WEIR_OK;
    case SP_PAIR0: *answer = SP_PAIR0; return WEIR_OK;
    case SP_SUB0: *answer = SP_PUB0; return WEIR_OK;
    default: return WEIR_PROTOCOL;
    }
}

const char *sp_protocol_name(uint16_t protocol)
{
    switch (protocol) {
    case SP_PAIR0: return "pair0";
    case SP_PUB0: return "pub0";
    case SP_SUB0: return "sub0";
    case SP_REQ0: return "req0";
    case SP_REP0: return "rep0";
    case SP_PUSH0: return "push0";
    case SP_PULL0: return "pull0";
    default: return "unknown";
    }
}

void sp_prefix_write(uint8_t *out, bool is_ipc, uint64_t body_size)
{
    if (is_ipc)
        *out++ = IPC_MESSAGE_TYPE;
    uint64_t length = htobe64(body_size);
    memcpy(out, &length, sizeof length);
}

enum weir_error sp_message_find(const uint8_t *data, size_t size, bool is_ipc, size_t body_size_max,
                                size_t *body_offset, size_t *body_size, size_t *needed)
{
    size_t prefix_size = sp_prefix_size(is_ipc);
    REQUIRE(body_size_max <= SIZE_MAX - prefix_size);
    /* A wrong type byte is known from the first byte: no reason to wait for the other eight. */
    if (is_ipc && size > 0 && data[0] != IPC_MESSAGE_TYPE)
        return WEIR_PROTOCOL;
    if (size < prefix_size) {
        *needed = prefix_size;
        return WEIR_AGAIN;
    }
    uint64_t length;
    memcpy(&length, data + prefix_size - sizeof length, sizeof length);
    length = be64toh(length);
    if (length > body_size_max)
        return WEIR_TOO_BIG;
    *needed = prefix_size + (size_t)length;
    if (size < *needed)
        return WEIR_AGAIN;
    *body_offset = prefix_size;
    *body_size = (size_t)length;
    return WEIR_OK;
}
