/* Requests and replies. Called by the gateway, the admin socket and the clients of both; any thread. */
#include "clients/wire/request.h"

static enum weir_error refuse(const char **reason, const char *sentence)
{
    if (reason != NULL)
        *reason = sentence;
    return WEIR_BAD_REQUEST;
}

/* A whole map as bytes; the reader fails on anything else. */
static struct view read_map_any(struct value_reader *reader)
{
    struct value_reader probe = *reader;
    (void)value_read_map(&probe);
    if (probe.error != WEIR_OK)
        reader->error = probe.error;
    return value_read_any(reader);
}

enum weir_error request_read(struct view body, unsigned depth_max, struct request *out, const char **reason)
{
    struct value_reader reader;
    value_reader_init(&reader, body, depth_max + VALUE_ENVELOPE_DEPTH);
    uint32_t count = value_read_array(&reader);
    struct view verb = value_read_str(&reader);
    if (reader.error != WEIR_OK || count != 2)
        return refuse(reason, "a request is [verb, {args}]");
    struct view args = read_map_any(&reader);
    if (reader.error != WEIR_OK)
        return refuse(reason, "a request's args are a map, whole, well-formed and not too deep");
    if (!value_reader_at_end(&reader))
        return refuse(reason, "bytes follow the request");
    *out = (struct request){.verb = verb, .args = args};
    return WEIR_OK;
}

void request_write(struct value_writer *writer, struct view verb, struct view args_encoded)
{
    value_write_array(writer, 2);
    value_write_str(writer, verb);
    if (args_encoded.size > 0)
        value_write_raw(writer, args_encoded);
    else
        value_write_map(writer, 0);
}

enum weir_error reply_read(struct view body, unsigned depth_max, struct reply *out)
{
    struct value_reader reader;
    value_reader_init(&reader, body, depth_max + VALUE_ENVELOPE_DEPTH);
    uint32_t count = value_read_array(&reader);
    struct view word = value_read_str(&reader);
    struct view result = read_map_any(&reader);
    if (reader.error != WEIR_OK || count != 2 || !value_reader_at_end(&reader))
        return WEIR_BAD_REQUEST;
    *out = (struct reply){.ok = view_is_same(word, view_text("ok")), .result = result};
    if (out->ok)
        return WEIR_OK;
    if (!view_is_same(word, view_text("error")) || args_find_str(result, "code", &out->code) != WEIR_OK ||
        args_find_str(result, "message", &out->message) != WEIR_OK)
        return WEIR_BAD_REQUEST;
    return WEIR_OK;
}

void reply_ok_write(struct value_writer *writer, struct view result_encoded)
{
    request_write(writer, view_text("ok"), result_encoded);
}

void reply_error_map_write(struct value_writer *writer, const struct reply_refusal *refusal)
{
    bool has_topic = refusal->topic.size > 0, has_cause = refusal->cause.size > 0;
    value_write_map(writer, 2u + has_topic + has_cause + (refusal->retry_ms > 0) + (refusal->seq > 0));
    value_write_str(writer, view_text("code"));
    value_write_str(writer, view_text(weir_error_code(refusal->error)));
    value_write_str(writer, view_text("message"));
    value_write_str(writer, refusal->message);
    if (has_topic) {
        value_write_str(writer, view_text("topic"));
        value_write_str(writer, refusal->topic);
    }
    if (has_cause) {
        value_write_str(writer, view_text("cause"));
        value_write_str(writer, refusal->cause);
    }
    if (refusal->retry_ms > 0) {
        value_write_str(writer, view_text("retry_ms"));
        value_write_uint(writer, refusal->retry_ms);
    }
    if (refusal->seq > 0) {
        value_write_str(writer, view_text("seq"));
        value_write_uint(writer, refusal->seq);
    }
}

void reply_error_write(struct value_writer *writer, const struct reply_refusal *refusal)
{
    value_write_array(writer, 2);
    value_write_str(writer, view_text("error"));
    reply_error_map_write(writer, refusal);
}

enum weir_error args_find(struct view args, unsigned depth_max, const char *key, struct view *value)
{
    struct view wanted = view_text(key);
    struct value_reader reader;
    value_reader_init(&reader, args, depth_max + VALUE_ENVELOPE_DEPTH);
    uint32_t pairs = value_read_map(&reader);
    for (; pairs > 0; pairs--) {
        struct view found = value_read_str(&reader);
        if (reader.error != WEIR_OK)
            return reader.error;
        bool is_wanted = view_is_same(found, wanted);
        if (is_wanted)
            reader.depth_max = depth_max;
        struct view candidate = value_read_any(&reader);
        if (reader.error != WEIR_OK)
            return reader.error;
        if (is_wanted) {
            *value = candidate;
            return WEIR_OK;
        }
    }
    return reader.error != WEIR_OK ? reader.error : WEIR_NOT_FOUND;
}

enum weir_error args_find_str(struct view args, const char *key, struct view *out)
{
    struct view value;
    struct value_reader reader;
    enum weir_error error = args_find(args, VALUE_DEPTH_LIMIT, key, &value);
    if (error != WEIR_OK)
        return error;
    value_reader_init(&reader, value, 0);
    struct view text = value_read_str(&reader);
    if (reader.error == WEIR_OK)
        *out = text;
    return reader.error;
}

enum weir_error args_find_uint(struct view args, const char *key, uint64_t *out)
{
    struct view value;
    struct value_reader reader;
    enum weir_error error = args_find(args, VALUE_DEPTH_LIMIT, key, &value);
    if (error != WEIR_OK)
        return error;
    value_reader_init(&reader, value, 0);
    uint64_t number = value_read_uint(&reader);
    if (reader.error == WEIR_OK)
        *out = number;
    return reader.error;
}

enum weir_error args_find_bool(struct view args, const char *key, bool *out)
{
    struct view value;
    struct value_reader reader;
    enum weir_error error = args_find(args, VALUE_DEPTH_LIMIT, key, &value);
    if (error != WEIR_OK)
        return error;
    value_reader_init(&reader, value, 0);
    bool flag = value_read_bool(&reader);
    if (reader.error == WEIR_OK)
        *out = flag;
    return reader.error;
}

enum weir_error args_find_records(struct view args, unsigned depth_max, uint32_t *count, struct view *records)
{
    struct view value;
    struct value_reader reader;
    enum weir_error error = args_find(args, depth_max + 2, "records", &value);
    if (error != WEIR_OK)
        return error;
    value_reader_init(&reader, value, depth_max);
    uint32_t found = value_read_array(&reader);
    if (reader.error != WEIR_OK)
        return reader.error;
    *count = found;
    *records = reader.rest;
    return WEIR_OK;
}
