/* Questions (WEIR_MESSAGE_ASK): a key as text, or a map of the parts of a record, {"topic", "key", "value"}, each where
 * it is needed; nil: about all of it. Copy it beside kit.h and kit_target.h. */
#ifndef ACTORS_PLUGINS_KIT_ASK_H
#define ACTORS_PLUGINS_KIT_ASK_H

#include "actors/plugins/kit_target.h"

/* The question as a record: with the topic that was asked, or the one that the question names; no key: data NULL; no
 * value: nil. False with weir_fail called. */
static inline bool kit_question(struct weir_self *self, const struct weir_message *message, struct weir_message *out)
{
    struct weir_reader reader = {message->value, false};
    struct weir_item item, name;
    *out = *message;
    out->kind = WEIR_MESSAGE_RECORD;
    out->key = weir_bytes_of(NULL, 0);
    out->value = weir_bytes_of("\xc0", 1);
    if (!weir_read(self, &reader, &item))
        item = kit_item_of(WEIR_VALUE_BOOL); /* no value at all is none of the following */
    if (item.type == WEIR_VALUE_NIL)
        return true;
    if (item.type == WEIR_VALUE_STR)
        out->key = item.bytes;
    for (uint32_t i = 0; item.type == WEIR_VALUE_MAP && i < item.count; i++) {
        struct weir_item text = kit_item_of(WEIR_VALUE_NIL);
        struct weir_bytes value;
        bool is_read = weir_read(self, &reader, &name) && weir_skip(self, &reader, &value) &&
                       name.type == WEIR_VALUE_STR && kit_item(self, value, &text);
        bool is_text = is_read && text.type == WEIR_VALUE_STR;
        if (is_read && kit_is(name.bytes, "value")) {
            out->value = value;
        } else if (is_text && kit_is(name.bytes, "key")) {
            out->key = text.bytes;
        } else if (is_text && kit_is(name.bytes, "topic") && kit_topic_is_good(text.bytes) &&
                   text.bytes.size <= KIT_TOPIC_MAX) {
            out->topic = text.bytes;
        } else {
            kit_refuse(self, "a question has 'topic' (a topic's name), 'key' (text) and 'value'; entry %u is else",
                       (unsigned)i + 1);
            return false;
        }
    }
    if (item.type != WEIR_VALUE_STR && item.type != WEIR_VALUE_MAP) {
        kit_refuse(self, "ask a key as text, or a map of 'topic', 'key' and 'value'");
        return false;
    }
    if (out->key.size <= KIT_KEY_MAX)
        return true;
    kit_refuse(self, "a key of %zu bytes; at most %d", out->key.size, (int)KIT_KEY_MAX);
    return false;
}

/* A question about what is kept by topic and key: where none was named it is the only one that `to` can mean. */
static inline bool kit_question_state(struct weir_self *self, const struct weir_message *message, struct weir_bytes to,
                                      struct weir_message *out)
{
    if (!kit_question(self, message, out))
        return false;
    if (out->topic.size == 0 && to.size > 0 && memchr(to.data, '{', to.size) == NULL)
        out->topic = to;
    if (out->topic.size > 0)
        return true;
    kit_refuse(self, "of which topic? Name one that it emits to: {\"topic\": ..., \"key\": ...}");
    return false;
}

/* A question about a record that might come. */
static inline bool kit_question_record(struct weir_self *self, const struct weir_message *message,
                                       struct weir_message *out)
{
    if (!kit_question(self, message, out))
        return false;
    if (out->topic.size > 0)
        return true;
    kit_refuse(self, "a record of which topic? {\"topic\": ..., \"key\": ..., \"value\": ...}");
    return false;
}

/* Replies with what was written, and gives its memory (weir_alloc; NULL: there was none) back. */
static inline enum weir_actor_result kit_reply(struct weir_self *self, struct weir_writer *writer)
{
    enum weir_actor_result result = writer->data == NULL
                                        ? kit_refuse(self, "no memory for the reply: raise memory_bytes_max")
                                    : writer->is_full ? kit_refuse(self, "the reply is too large")
                                                      : weir_reply(self, weir_bytes_of(writer->data, writer->size));
    weir_free(self, writer->data);
    return result;
}
static inline struct weir_writer kit_reply_begin(struct weir_self *self, size_t capacity)
{
    struct weir_writer writer = {weir_alloc(self, capacity), 0, capacity, false};
    writer.is_full = writer.data == NULL;
    return writer;
}

#endif
