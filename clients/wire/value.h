/* msgpack values as bytes: finding their ends, checking them, reading and writing the few simple ones that frames are
 * made of. Nothing here allocates; every length is checked against what is there before it is believed. */
#ifndef CLIENTS_WIRE_VALUE_H
#define CLIENTS_WIRE_VALUE_H

#include "clients/wire/view.h"
#include "weir_error.h"

/* depth counts arrays and maps inside one another: 5 has depth 0, [5] has 1. No value may be deeper than this, whatever
 * depth_max says: it bounds value_scan's stack at 1 KiB, and is what an operator may allow (128) and two envelopes. */
#define VALUE_DEPTH_LIMIT 136
/* Levels that requests, replies and frames may put around a value ({"records": [[topic, value]]} has 3): what is read
 * whole may be that much deeper than a value alone, so that a value's depth counts the same however it travels. */
#define VALUE_ENVELOPE_DEPTH 4

/* Measures and checks the value at the start of data: well-formed (no 0xc1), not deeper than depth_max, str valid
 * UTF-8. ext is allowed (an opaque value). WEIR_AGAIN: data ends inside the value. WEIR_BAD_REQUEST: malformed. Time
 * linear in the bytes looked at, no recursion. */
WEIR_MUST_USE enum weir_error value_scan(struct view data, unsigned depth_max, size_t *size_out);

/* A reader over msgpack bytes that frames and requests are taken apart with. Every read checks type and bounds; the
 * first failure sticks (error, always WEIR_BAD_REQUEST, also where the bytes end too early), so a decoder may read
 * all fields and look once. */
struct value_reader {
    struct view rest;
    unsigned depth_max;
    enum weir_error error;
};
void value_reader_init(struct value_reader *reader, struct view data, unsigned depth_max);
uint64_t value_read_uint(struct value_reader *reader);
bool value_read_bool(struct value_reader *reader);
struct view value_read_str(struct value_reader *reader); /* contents without the header; UTF-8 checked */
uint32_t value_read_array(struct value_reader *reader);  /* count; never more than bytes left */
uint32_t value_read_map(struct value_reader *reader);    /* pairs */
struct view value_read_any(struct value_reader *reader); /* one whole value, its encoded bytes */
struct view value_read_key(struct value_reader *reader); /* str of at most KEY_SIZE_MAX in its shortest form: its
                                                             encoded bytes; nil: size 0 */
bool value_peek_nil(const struct value_reader *reader);
bool value_reader_at_end(const struct value_reader *reader);

/* A writer into the caller's memory; what does not fit sets is_full and writes nothing more. msgpack-c's packer
 * inside. */
struct value_writer {
    uint8_t *data;
    size_t size, capacity;
    bool is_full;
};
void value_writer_init(struct value_writer *writer, void *data, size_t capacity);
void value_write_nil(struct value_writer *writer);
void value_write_bool(struct value_writer *writer, bool value);
void value_write_uint(struct value_writer *writer, uint64_t value);
void value_write_int(struct value_writer *writer, int64_t value);
void value_write_double(struct value_writer *writer, double value);
void value_write_str(struct value_writer *writer, struct view text);
void value_write_bin(struct value_writer *writer, struct view bytes);
void value_write_array(struct value_writer *writer, uint32_t count);
void value_write_map(struct value_writer *writer, uint32_t pairs);
void value_write_raw(struct value_writer *writer, struct view encoded);

#endif
