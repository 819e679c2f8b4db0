/* What plugins keep writing: fields by path, numbers, texts, a configuration whose faults are named, values written
 * item by item. For the plugins of this folder and for whoever copies it: it needs weir_actor.h and libc alone. */
#ifndef ACTORS_PLUGINS_KIT_H
#define ACTORS_PLUGINS_KIT_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "weir_actor.h"

/* What weir_fail and weir_log keep of a text. */
enum { KIT_TEXT_MAX = 256 };

__attribute__((format(printf, 2, 3))) static inline enum weir_actor_result kit_fail(struct weir_self *self,
                                                                                    const char *format, ...)
{
    char text[KIT_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_fail(self, text);
    return WEIR_ACTOR_FAILED;
}

__attribute__((format(printf, 2, 3))) static inline enum weir_actor_result kit_refuse(struct weir_self *self,
                                                                                      const char *format, ...)
{
    char text[KIT_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    weir_fail(self, text);
    return WEIR_ACTOR_REFUSED;
}

static inline struct weir_bytes kit_of(const char *text) { return weir_bytes_of(text, strlen(text)); }

static inline bool kit_same(struct weir_bytes a, struct weir_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool kit_is(struct weir_bytes bytes, const char *text) { return kit_same(bytes, kit_of(text)); }

/* A copy in the instance's memory, behind which stands a NUL. data NULL: beyond the budget. */
static inline struct weir_bytes kit_keep(struct weir_self *self, struct weir_bytes bytes)
{
    char *copy = (char *)weir_alloc(self, bytes.size + 1);
    if (copy == NULL)
        return weir_bytes_of(NULL, 0);
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    copy[bytes.size] = '\0';
    return weir_bytes_of(copy, bytes.size);
}

/* ------------------------------------------------------------------------------------------------ reading */

/* The first item of an encoded value. */
static inline bool kit_item(struct weir_self *self, struct weir_bytes value, struct weir_item *out)
{
    struct weir_reader reader = {value, false};
    return weir_read(self, &reader, out);
}

static inline bool kit_is_nil(struct weir_bytes value)
{
    return value.size == 1 && *(const uint8_t *)value.data == 0xc0;
}

/* A finite number of any encoding. */
static inline bool kit_number_of(const struct weir_item *item, double *out)
{
    switch (item->type) {
    case WEIR_VALUE_INT: *out = (double)item->as.i; return true;
    case WEIR_VALUE_UINT: *out = (double)item->as.u; return true;
    case WEIR_VALUE_DOUBLE: *out = item->as.d; return item->as.d - item->as.d == 0;
    default: return false;
    }
}

static inline bool kit_number(struct weir_self *self, struct weir_bytes value, double *out)
{
    struct weir_item item;
    return kit_item(self, value, &item) && kit_number_of(&item, out);
}

static inline bool kit_uint(struct weir_self *self, struct weir_bytes value, uint64_t *out)
{
    struct weir_item item;
    if (!kit_item(self, value, &item))
        return false;
    /* A time or a count that some encoder made a double is taken as long as nothing is lost by it. */
    bool is_whole = item.type == WEIR_VALUE_DOUBLE && item.as.d >= 0 && item.as.d <= 9007199254740992.0 &&
                    (double)(uint64_t)item.as.d == item.as.d;
    if (item.type != WEIR_VALUE_UINT && !is_whole)
        return false;
    *out = is_whole ? (uint64_t)item.as.d : item.as.u;
    return true;
}

/* A scalar as text: strings as they are, numbers in decimal; what is made goes to buffer. False for the rest. */
static inline bool kit_text(struct weir_self *self, struct weir_bytes value, char *buffer, size_t size,
                            struct weir_bytes *out)
{
    struct weir_item item;
    int length = 0;
    if (!kit_item(self, value, &item))
        return false;
    switch (item.type) {
    case WEIR_VALUE_STR: *out = item.bytes; return true;
    case WEIR_VALUE_BOOL: length = snprintf(buffer, size, "%s", item.as.b ? "true" : "false"); break;
    case WEIR_VALUE_INT: length = snprintf(buffer, size, "%lld", (long long)item.as.i); break;
    case WEIR_VALUE_UINT: length = snprintf(buffer, size, "%llu", (unsigned long long)item.as.u); break;
    case WEIR_VALUE_DOUBLE: length = snprintf(buffer, size, "%.15g", item.as.d); break;
    default: return false;
    }
    *out = weir_bytes_of(buffer, (size_t)length);
    return length > 0 && (size_t)length < size;
}

/* Room for what kit_text makes of numbers. */
enum { KIT_NUMBER_TEXT_MAX = 32 };

/* One step of a path: the member of a map, or the element of an array whose index it is. */
static inline bool kit_member(struct weir_self *self, struct weir_bytes value, struct weir_bytes name,
                              struct weir_bytes *out)
{
    struct weir_reader reader = {value, false};
    struct weir_item item, key;
    char digits[KIT_NUMBER_TEXT_MAX];
    if (!weir_read(self, &reader, &item) || (item.type != WEIR_VALUE_MAP && item.type != WEIR_VALUE_ARRAY))
        return false;
    for (uint32_t i = 0; i < item.count; i++) {
        bool is_it = false;
        if (item.type == WEIR_VALUE_MAP) {
            struct weir_bytes encoded;
            if (!weir_skip(self, &reader, &encoded) || !kit_item(self, encoded, &key))
                return false;
            is_it = key.type == WEIR_VALUE_STR && kit_same(key.bytes, name);
        } else {
            int length = snprintf(digits, sizeof digits, "%u", (unsigned)i);
            is_it = kit_same(weir_bytes_of(digits, (size_t)length), name);
        }
        if (!weir_skip(self, &reader, out))
            return false;
        if (is_it)
            return true;
    }
    return false;
}

/* The encoded value at a path of names joined by '.', array indexes among them ("items.0.price"); "": all of it. */
static inline bool kit_field(struct weir_self *self, struct weir_bytes value, struct weir_bytes path,
                             struct weir_bytes *out)
{
    const char *rest = (const char *)path.data;
    size_t size = path.size;
    *out = value;
    while (size > 0) {
        const char *dot = (const char *)memchr(rest, '.', size);
        size_t length = dot != NULL ? (size_t)(dot - rest) : size;
        struct weir_bytes inner;
        if (!kit_member(self, *out, weir_bytes_of(rest, length), &inner))
            return false;
        *out = inner;
        size -= length;
        rest += length;
        if (dot != NULL) {
            rest++;
            size--;
        }
    }
    return out->size > 0;
}

/* ------------------------------------------------------------------------------------------------ writing */

/* One item, empty but for its type: what a type has of its own is set in it. */
static inline struct weir_item kit_item_of(enum weir_value_type type)
{
    struct weir_item item;
    memset(&item, 0, sizeof item);
    item.type = (uint32_t)type;
    return item;
}

static inline void kit_put_map(struct weir_self *self, struct weir_writer *writer, uint32_t pairs)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_MAP);
    item.count = pairs;
    weir_write(self, writer, &item);
}
static inline void kit_put_array(struct weir_self *self, struct weir_writer *writer, uint32_t count)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_ARRAY);
    item.count = count;
    weir_write(self, writer, &item);
}
static inline void kit_put_nil(struct weir_self *self, struct weir_writer *writer)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_NIL);
    weir_write(self, writer, &item);
}

static inline void kit_put_str(struct weir_self *self, struct weir_writer *writer, struct weir_bytes text)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_STR);
    item.bytes = text;
    weir_write(self, writer, &item);
}
static inline void kit_put_text(struct weir_self *self, struct weir_writer *writer, const char *text)
{
    kit_put_str(self, writer, kit_of(text));
}
static inline void kit_put_bin(struct weir_self *self, struct weir_writer *writer, struct weir_bytes bytes)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_BIN);
    item.bytes = bytes;
    weir_write(self, writer, &item);
}

static inline void kit_put_bool(struct weir_self *self, struct weir_writer *writer, bool value)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_BOOL);
    item.as.b = value;
    weir_write(self, writer, &item);
}
static inline void kit_put_uint(struct weir_self *self, struct weir_writer *writer, uint64_t value)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_UINT);
    item.as.u = value;
    weir_write(self, writer, &item);
}
static inline void kit_put_int(struct weir_self *self, struct weir_writer *writer, int64_t value)
{
    struct weir_item item = kit_item_of(value < 0 ? WEIR_VALUE_INT : WEIR_VALUE_UINT);
    if (value < 0)
        item.as.i = value;
    else
        item.as.u = (uint64_t)value;
    weir_write(self, writer, &item);
}
static inline void kit_put_double(struct weir_self *self, struct weir_writer *writer, double value)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_DOUBLE);
    item.as.d = value;
    weir_write(self, writer, &item);
}

/* What is encoded already. */
static inline void kit_put_raw(struct weir_writer *writer, struct weir_bytes encoded)
{
    if (writer->is_full || encoded.size > writer->capacity - writer->size) {
        writer->is_full = true;
        return;
    }
    if (encoded.size > 0)
        memcpy((char *)writer->data + writer->size, encoded.data, encoded.size);
    writer->size += encoded.size;
}

/* -------------------------------------------------------------------------------------------------- restoring */

/* Reads a snapshot without looking at each step: the first thing that is not as wanted makes the reader bad, and then
 * all that follows is 0. */
static inline struct weir_item kit_want(struct weir_self *self, struct weir_reader *reader, enum weir_value_type type)
{
    struct weir_item item = kit_item_of(WEIR_VALUE_NIL);
    if (reader->is_bad || !weir_read(self, reader, &item) || item.type != (uint32_t)type) {
        reader->is_bad = true;
        item = kit_item_of(WEIR_VALUE_NIL);
    }
    return item;
}
static inline uint64_t kit_want_uint(struct weir_self *self, struct weir_reader *reader)
{
    return kit_want(self, reader, WEIR_VALUE_UINT).as.u;
}
static inline uint32_t kit_want_array(struct weir_self *self, struct weir_reader *reader)
{
    return kit_want(self, reader, WEIR_VALUE_ARRAY).count;
}
static inline double kit_want_double(struct weir_self *self, struct weir_reader *reader)
{
    return kit_want(self, reader, WEIR_VALUE_DOUBLE).as.d;
}
static inline bool kit_want_bool(struct weir_self *self, struct weir_reader *reader)
{
    return kit_want(self, reader, WEIR_VALUE_BOOL).as.b;
}
static inline struct weir_bytes kit_want_bin(struct weir_self *self, struct weir_reader *reader)
{
    return kit_want(self, reader, WEIR_VALUE_BIN).bytes;
}

/* -------------------------------------------------------------------------------------------------- the table */

/* What a plugin of both roles exports, where its calls are named after it: top_init, top_handle, ... */
#define KIT_PLUGIN(plugin, summary)                              \
    const struct weir_actor_plugin weir_actor_plugin = {         \
        WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD | WEIR_ACTOR_PROCESSOR), \
        .name = #plugin,                                         \
        .version = "1.0",                                        \
        .about = (summary),                                      \
        .init = plugin##_init,                                   \
        .handle = plugin##_handle,                               \
        .snapshot = plugin##_snapshot,                           \
        .restore = plugin##_restore,                             \
        .stop = plugin##_stop,                                   \
    }

#endif
