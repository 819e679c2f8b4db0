/* The scalability protocols' wire format as bytes: the 8-byte header that opens a connection and the length in front of
 * each message. Pure functions, any thread. Sources: RFC "SP over TCP" (nanomsg rfc sp-tcp-mapping-01) and nng's ipc
 * transport, which puts one type byte (0x01) before the length. */
#ifndef CLIENTS_SP_FRAMING_H
#define CLIENTS_SP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir_error.h"

#define SP_HEADER_SIZE 8
#define SP_PREFIX_SIZE_MAX 9

enum sp_protocol {
    SP_PAIR0 = 0x10,
    SP_PUB0 = 0x20,
    SP_SUB0 = 0x21,
    SP_REQ0 = 0x30,
    SP_REP0 = 0x31,
    SP_PUSH0 = 0x50,
    SP_PULL0 = 0x51
};

void sp_header_write(uint8_t out[SP_HEADER_SIZE], enum sp_protocol protocol);
/* WEIR_PROTOCOL when it is no SP header of version 0. Any protocol number is returned. */
WEIR_MUST_USE enum weir_error sp_header_read(const uint8_t header[SP_HEADER_SIZE], uint16_t *protocol);
/* The protocol that a listener answers a peer of the given one with; WEIR_PROTOCOL when it serves no such peer. */
WEIR_MUST_USE enum weir_error sp_protocol_answer(uint16_t peer, enum sp_protocol *answer);
const char *sp_protocol_name(uint16_t protocol);

/* 8 bytes on tcp, 9 on ipc. */
static inline size_t sp_prefix_size(bool is_ipc) { return is_ipc ? 9 : 8; }
void sp_prefix_write(uint8_t *out, bool is_ipc, uint64_t body_size);

/* Looks for one whole message at the start of data. WEIR_OK: its body is data[*body_offset .. + *body_size], and
 * *body_offset + *body_size bytes are used. WEIR_AGAIN: more is needed; *needed is the size of the whole message with
 * its prefix where the length is known, else the prefix size. WEIR_TOO_BIG: body longer than body_size_max (known from
 * the prefix alone). WEIR_PROTOCOL: no SP message. */
WEIR_MUST_USE enum weir_error sp_message_find(const uint8_t *data, size_t size, bool is_ipc, size_t body_size_max,
                                              size_t *body_offset, size_t *body_size, size_t *needed);

#endif
