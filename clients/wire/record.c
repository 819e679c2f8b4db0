/* Records and live-feed messages. record_next is called by the gateway for every record of a PUSH body and of a publish
 * request; any thread. */
#include "clients/wire/record.h"

#include "clients/wire/name.h"

static enum weir_error refuse(const char **reason, const char *sentence)
{
    if (reason != NULL)
        *reason = sentence;
    return WEIR_BAD_REQUEST;
}

enum weir_error record_next(struct view *rest, unsigned depth_max, struct record *out, const char **reason)
{
    if (rest->size == 0)
        return WEIR_AGAIN;
    struct value_reader reader;
    value_reader_init(&reader, *rest, depth_max);
    uint32_t count = value_read_array(&reader);
    if (reader.error != WEIR_OK || count < 2 || count > 3)
        return refuse(reason, "a record is [topic, value] or [topic, value, key]");
    struct view topic = value_read_str(&reader);
    if (reader.error != WEIR_OK)
        return refuse(reason, "a record's topic is a str of valid UTF-8");
    struct view value = value_read_any(&reader);
    if (reader.error != WEIR_OK)
        return refuse(reason, "a record's value is cut short, malformed or nested too deeply");
    struct view key = count == 3 ? value_read_key(&reader) : view_of(NULL, 0);
    if (reader.error != WEIR_OK)
        return refuse(reason, "a record's key is nil or a str of at most 1024 bytes in its shortest form");
    enum weir_error error = name_check(topic, reason);
    if (error != WEIR_OK)
        return error;
    *out = (struct record){.topic = topic, .value = value, .key = key};
    *rest = reader.rest;
    return WEIR_OK;
}

void record_write(struct value_writer *writer, const struct record *record)
{
    value_write_array(writer, record->key.size > 0 ? 3 : 2);
    value_write_str(writer, record->topic);
    value_write_raw(writer, record->value);
    if (record->key.size > 0)
        value_write_raw(writer, record->key);
}

void live_head_write(struct value_writer *writer, struct view topic, uint64_t seq, struct view key)
{
    static const uint8_t zero = 0;
    value_write_raw(writer, topic);
    value_write_raw(writer, view_of(&zero, 1));
    value_write_array(writer, 3);
    value_write_uint(writer, seq);
    if (key.size > 0)
        value_write_raw(writer, key);
    else
        value_write_nil(writer);
}

enum weir_error live_read(struct view body, unsigned depth_max, struct live *out)
{
    const uint8_t *zero = body.size > 0 ? memchr(body.data, 0, body.size) : NULL;
    if (zero == NULL)
        return WEIR_BAD_REQUEST;
    struct view topic = view_of(body.data, (size_t)(zero - body.data));
    struct value_reader reader;
    value_reader_init(&reader, view_of(zero + 1, body.size - topic.size - 1), depth_max);
    uint32_t count = value_read_array(&reader);
    uint64_t seq = value_read_uint(&reader);
    struct view key = value_read_key(&reader);
    struct view value = value_read_any(&reader);
    if (reader.error != WEIR_OK || count != 3 || !value_reader_at_end(&reader))
        return WEIR_BAD_REQUEST;
    *out = (struct live){.topic = topic, .seq = seq, .key = key, .value = value};
    return name_check(topic, NULL);
}
