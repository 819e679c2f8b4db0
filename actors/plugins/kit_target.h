/* Where a plugin emits to: templates such as "stats/{topic}" or "{topic.1}/{value.host}", and the (topic, key) pair
 * that state is kept by. Copy it beside kit.h. */
#ifndef ACTORS_PLUGINS_KIT_TARGET_H
#define ACTORS_PLUGINS_KIT_TARGET_H

#include "actors/plugins/kit.h"

/* What names and keys may have (clients/PROTOCOL.md): room for both, and the size of the first. */
enum { KIT_TOPIC_MAX = 255, KIT_KEY_MAX = 1024, KIT_ID_MAX = 1 + KIT_TOPIC_MAX + KIT_KEY_MAX };

/* Segment `index` of a topic, from 0. */
static inline bool kit_segment(struct weir_bytes topic, unsigned long index, struct weir_bytes *out)
{
    const char *at = (const char *)topic.data, *end = at + topic.size;
    for (;;) {
        const char *slash = (const char *)memchr(at, '/', (size_t)(end - at));
        const char *stop = slash != NULL ? slash : end;
        if (index-- == 0) {
            *out = weir_bytes_of(at, (size_t)(stop - at));
            return true;
        }
        if (slash == NULL)
            return false;
        at = slash + 1;
    }
}

/* "topic", "topic.N", "key", "value" or "value.PATH" of a message, as text. */
static inline bool kit_variable(struct weir_self *self, struct weir_bytes name, const struct weir_message *message,
                                char number[KIT_NUMBER_TEXT_MAX], struct weir_bytes *out)
{
    const char *text = (const char *)name.data;
    struct weir_bytes field;
    if (kit_is(name, "topic") || kit_is(name, "key")) {
        *out = *text == 't' ? message->topic : message->key;
        return out->data != NULL;
    }
    if (name.size == 7 && memcmp(text, "topic.", 6) == 0 && text[6] >= '0' && text[6] <= '9')
        return kit_segment(message->topic, (unsigned long)(text[6] - '0'), out);
    if (name.size >= 5 && memcmp(text, "value", 5) == 0 && (name.size == 5 || text[5] == '.')) {
        size_t skip = name.size == 5 ? 5 : 6;
        return kit_field(self, message->value, weir_bytes_of(text + skip, name.size - skip), &field) &&
               kit_text(self, field, number, KIT_NUMBER_TEXT_MAX, out);
    }
    return false;
}

/* Whether a template can be expanded at all. False with weir_fail called. */
static inline bool kit_template_check(struct weir_self *self, const char *where, struct weir_bytes text)
{
    if (text.size == 0)
        return true; /* and there may be no bytes to point to */
    const char *at = (const char *)text.data, *end = at + text.size;
    while (at < end) {
        if (*at != '{') {
            at++;
            continue;
        }
        const char *close = (const char *)memchr(at, '}', (size_t)(end - at));
        struct weir_bytes name = weir_bytes_of(at + 1, close != NULL ? (size_t)(close - at) - 1 : 0);
        const char *inner = (const char *)name.data;
        bool is_known = kit_is(name, "topic") || kit_is(name, "key") || kit_is(name, "value") ||
                        (name.size == 7 && memcmp(inner, "topic.", 6) == 0 && inner[6] >= '0' && inner[6] <= '9') ||
                        (name.size > 6 && memcmp(inner, "value.", 6) == 0);
        if (close == NULL || !is_known) {
            kit_fail(self,
                     "%s: '%.*s': in braces may stand {topic}, {topic.0} to {topic.9}, {key}, {value} and {value.PATH}",
                     where, text.size < 60 ? (int)text.size : 60, (const char *)text.data);
            return false;
        }
        at = close + 1;
    }
    return true;
}

/* Expands a template into buffer (capacity bytes). False with weir_fail called: the message lacks what it names, or the
 * text would be too long. */
static inline bool kit_expand(struct weir_self *self, struct weir_bytes text, const struct weir_message *message,
                              char *buffer, size_t capacity, struct weir_bytes *out)
{
    const char *at = (const char *)text.data, *end = at + text.size;
    size_t size = 0;
    while (at < end) {
        char number[KIT_NUMBER_TEXT_MAX];
        const char *close = *at == '{' ? (const char *)memchr(at, '}', (size_t)(end - at)) : NULL;
        struct weir_bytes piece = weir_bytes_of(at, 1);
        if (close != NULL &&
            !kit_variable(self, weir_bytes_of(at + 1, (size_t)(close - at) - 1), message, number, &piece)) {
            kit_refuse(self, "the message has no %.*s, which '%.*s' names", (int)(close - at) + 1, at, (int)text.size,
                       (const char *)text.data);
            return false;
        }
        if (piece.size > capacity - size) {
            kit_refuse(self, "'%.*s' would become longer than %zu bytes", (int)text.size, (const char *)text.data,
                       capacity);
            return false;
        }
        if (piece.size > 0)
            memcpy(buffer + size, piece.data, piece.size);
        size += piece.size;
        at = close != NULL ? close + 1 : at + 1;
    }
    *out = weir_bytes_of(buffer, size);
    return true;
}

/* Whether text is the name of a topic that anybody may publish to: no empty segment, no wildcard, no NUL, not the
 * broker's own. */
static inline bool kit_topic_is_good(struct weir_bytes topic)
{
    const char *at = (const char *)topic.data, *end = at + topic.size;
    char before = '/';
    if (topic.size == 0 || *at == '$')
        return false;
    for (; at < end; before = *at++) {
        if (*at == '+' || *at == '#' || *at == '\0' || (*at == '/' && before == '/'))
            return false;
    }
    return before != '/';
}

/* Where what comes of a message goes to: the template's topic, or without one the message's own. False with weir_fail
 * called: what a publisher writes must not fail the plugin, so that what makes no topic is refused here. */
static inline bool kit_target(struct weir_self *self, struct weir_bytes to, const struct weir_message *message,
                              char buffer[KIT_TOPIC_MAX], struct weir_bytes *out)
{
    *out = message->topic;
    if (to.size == 0)
        return true;
    if (!kit_expand(self, to, message, buffer, KIT_TOPIC_MAX, out))
        return false;
    if (kit_topic_is_good(*out))
        return true;
    kit_refuse(self, "'%.*s' becomes '%.*s', which names no topic", (int)to.size, (const char *)to.data, (int)out->size,
               (const char *)out->data);
    return false;
}

/* The check of `to` that every plugin makes at init: a fold emits to its own topic, a processor has to be told. */
static inline bool kit_target_check(struct weir_self *self, struct weir_bytes to)
{
    if (self->role == WEIR_ACTOR_PROCESSOR && to.size == 0) {
        kit_fail(self,
                 "config: 'to' is missing: a processor has to be told the topic it emits to, such as stats/{topic}");
        return false;
    }
    if (self->role == WEIR_ACTOR_FOLD && to.size > 0) {
        kit_fail(self, "config: 'to' is for processors: a fold emits to the topic that the record came to");
        return false;
    }
    return kit_template_check(self, "config: 'to'", to);
}

/* The key that a record's state is kept by: the text at `by`, else its own key, else "all". False with weir_fail
 * called.
 */
static inline bool kit_group(struct weir_self *self, struct weir_bytes by, const struct weir_message *message,
                             char number[KIT_NUMBER_TEXT_MAX], struct weir_bytes *out)
{
    struct weir_bytes field;
    *out = message->key.data != NULL ? message->key : kit_of("all");
    if (by.size > 0 &&
        (!kit_field(self, message->value, by, &field) || !kit_text(self, field, number, KIT_NUMBER_TEXT_MAX, out))) {
        kit_refuse(self, "the value has no text or number at '%.*s' to group it by", (int)by.size,
                   (const char *)by.data);
        return false;
    }
    if (out->size > KIT_KEY_MAX) {
        kit_refuse(self, "a key of %zu bytes; at most %d", out->size, (int)KIT_KEY_MAX);
        return false;
    }
    return true;
}

/* (topic, key) as one id, and back. */
static inline struct weir_bytes kit_id(char buffer[KIT_ID_MAX], struct weir_bytes topic, struct weir_bytes key)
{
    buffer[0] = (char)(uint8_t)topic.size;
    if (topic.size > 0)
        memcpy(buffer + 1, topic.data, topic.size);
    if (key.size > 0)
        memcpy(buffer + 1 + topic.size, key.data, key.size);
    return weir_bytes_of(buffer, 1 + topic.size + key.size);
}
static inline struct weir_bytes kit_id_topic(struct weir_bytes id)
{
    return weir_bytes_of((const char *)id.data + 1, *(const uint8_t *)id.data);
}
static inline struct weir_bytes kit_id_key(struct weir_bytes id)
{
    size_t topic_size = *(const uint8_t *)id.data;
    return weir_bytes_of((const char *)id.data + 1 + topic_size, id.size - 1 - topic_size);
}
/* Whether this message clears a fold's topic: what is kept of it is to be forgotten. */
static inline bool kit_clears(const struct weir_self *self, const struct weir_message *message)
{
    return message->kind == WEIR_MESSAGE_RESET && self->role == WEIR_ACTOR_FOLD;
}

/* Whether bytes of a snapshot are an id. */
static inline bool kit_id_is_whole(struct weir_bytes id)
{
    return id.size >= 1 && id.size <= KIT_ID_MAX && *(const uint8_t *)id.data < id.size;
}

#endif
