/* Writes msgpack into memory of the caller, encoded by msgpack-c in the shortest form. Called by the encoders of this
 * folder and whoever builds values; any thread. */
#include "clients/wire/value.h"

#include "actors/base/assert.h"

#include <msgpack/pack.h>

static int writer_append(void *context, const char *bytes, size_t size)
{
    struct value_writer *writer = context;
    if (writer->is_full || size > writer->capacity - writer->size) {
        writer->is_full = true;
        return -1;
    }
    if (size > 0)
        memcpy(writer->data + writer->size, bytes, size);
    writer->size += size;
    return 0;
}

static msgpack_packer packer_of(struct value_writer *writer)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, writer, writer_append);
    return packer;
}

void value_writer_init(struct value_writer *writer, void *data, size_t capacity)
{
    *writer = (struct value_writer){.data = data, .capacity = capacity};
}

/* The packer returns what writer_append does, and that is kept in is_full: hence the casts to void. */

void value_write_nil(struct value_writer *writer)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_nil(&packer);
}

void value_write_bool(struct value_writer *writer, bool value)
{
    msgpack_packer packer = packer_of(writer);
    (void)(value ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer));
}

void value_write_uint(struct value_writer *writer, uint64_t value)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_uint64(&packer, value);
}

void value_write_int(struct value_writer *writer, int64_t value)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_int64(&packer, value);
}

void value_write_double(struct value_writer *writer, double value)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_double(&packer, value);
}

void value_write_str(struct value_writer *writer, struct view text)
{
    REQUIRE(text.size <= UINT32_MAX);
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_str(&packer, text.size);
    (void)msgpack_pack_str_body(&packer, text.data, text.size);
}

void value_write_bin(struct value_writer *writer, struct view bytes)
{
    REQUIRE(bytes.size <= UINT32_MAX);
    /* What most publishers write, again and again: a bin 8, without three calls of the packer's. */
    if (bytes.size > 0 && bytes.size <= UINT8_MAX && !writer->is_full &&
        writer->capacity - writer->size >= 2 + bytes.size) {
        uint8_t *at = writer->data + writer->size;
        at[0] = 0xc4;
        at[1] = (uint8_t)bytes.size;
        memcpy(at + 2, bytes.data, bytes.size);
        writer->size += 2 + bytes.size;
        return;
    }
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_bin(&packer, bytes.size);
    (void)msgpack_pack_bin_body(&packer, bytes.data, bytes.size);
}

void value_write_array(struct value_writer *writer, uint32_t count)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_array(&packer, count);
}

void value_write_map(struct value_writer *writer, uint32_t pairs)
{
    msgpack_packer packer = packer_of(writer);
    (void)msgpack_pack_map(&packer, pairs);
}

void value_write_raw(struct value_writer *writer, struct view encoded)
{
    (void)writer_append(writer, (const char *)encoded.data, encoded.size);
}
