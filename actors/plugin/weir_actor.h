/* weir_actor.h: what a Weir plugin is, and what it may ask of the broker. The only header a plugin needs; C11 and C++.
 *
 * A plugin is a shared object with one exported constant, weir_actor_plugin. The broker runs it as an actor: one call
 * at a time, messages in order, supervised. The same .so runs in either host: `process` (the default: a sandboxed child
 * whose crash costs nobody else anything) or `thread` (inside the broker: its crash is the broker's crash).
 *
 * Roles: fold
 *   `kind: plugin:NAME` on a topic rule. Records published to such a topic go to the plugin, not to the topic's state;
 *   what the plugin emits to that topic, [key, value] pairs, is the state: a map that subscribers get as snapshot and
 *   updates. A nil value removes a key. Who falls behind and conflates (policy conflate, interval_ms) gets of each key
 *   the newest value alone, unless the plugin says what the updates of a key come to: weir_emit_merged.
 *
 * Roles: processor
 *   Follows the topics of its patterns and emits records to topics.
 *
 * What is handled exactly once, and what is not
 *   What a plugin emits and arms while it handles a message takes effect when handle returns
 *   WEIR_ACTOR_OK, all of it; else none of it. After a crash the broker starts the plugin again, gives it its last
 *   snapshot (restore) and the messages since (handle, attempt counts up for the one that was in hand). What those had
 *   brought about already is not done again: emissions of messages that had succeeded are dropped when they are
 *   handled again. So handle must depend on state and message alone (time_ms is in the message), and what it does
 * outside (files, sockets) may happen twice. A message that keeps failing goes to $dead/TOPIC with its bytes, cause and
 * attempts.
 *
 * Memory: bytes handed to a plugin are borrowed until the call returns (weir_hold keeps a message longer); bytes
 * that a plugin hands over are copied. A plugin may use malloc; in the `thread` host only weir_alloc is held against
 * its memory budget.
 *
 * Blocking: a call that lasts longer than the instance's time budget fails (process host: the child is killed; thread
 * host: reported only, since a thread cannot be ended).
 *
 * Versions: the broker runs a plugin of the same WEIR_ACTOR_ABI_MAJOR and of an equal or lower _MINOR.
 *   1.0  2026-11-29  the first
 *   1.1  2026-11-30  a fold gets WEIR_MESSAGE_RESET when a topic of its own is cleared; one of 1.0 does not
 *   1.2  2026-11-30  WEIR_MESSAGE_ASK and weir_reply; one of before is not asked, and whoever asks it is told so
 *   1.3  2026-11-30  weir_emit_merged: what the updates of a key come to, for those who missed some
 */
#ifndef WEIR_ACTOR_H
#define WEIR_ACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_ACTOR_ABI_MAJOR 1
#define WEIR_ACTOR_ABI_MINOR 3

/* What init, handle, snapshot and restore return. */
enum weir_actor_result {
    WEIR_ACTOR_OK = 0,
    WEIR_ACTOR_REFUSED = 1, /* handle: this message is not acceptable (say why with weir_fail); it was not handled, the
                               state is as before; a fold's publisher, or whoever asks, is answered bad-request. Not
                               tried again. */
    WEIR_ACTOR_FAILED = 2,  /* something is wrong; the instance is restarted and the message tried again */
};

enum weir_actor_role { WEIR_ACTOR_FOLD = 1, WEIR_ACTOR_PROCESSOR = 2 };

/* Borrowed bytes. Text is UTF-8 and not terminated. */
struct weir_bytes {
    const void *data;
    size_t size;
};

enum weir_message_kind {
    WEIR_MESSAGE_RECORD = 1, /* published to `topic`; processor: its place is (epoch, seq) */
    WEIR_MESSAGE_ENTRY = 2,  /* processor: a pair of a topic's snapshot, which comes before its updates */
    WEIR_MESSAGE_RESET = 3,  /* processor: what was known of `topic` no longer holds; entries follow. fold: an operator
                                clears `topic`: forget what is kept of it; refused: it is not cleared */
    WEIR_MESSAGE_TIMER = 4,  /* weir_timer_set; `number` is its id */
    WEIR_MESSAGE_ASK = 5,    /* somebody asks `value`, and waits for weir_reply. fold: `topic`, if one was asked. A
                                message as any other: it may change state and emit, and is tried again after a crash */
};

struct weir_message {
    uint32_t kind;           /* enum weir_message_kind */
    uint32_t attempt;        /* 1; more after a failure with this message in hand */
    struct weir_bytes topic; /* empty: of none */
    struct weir_bytes key;   /* its text; data NULL: no key */
    struct weir_bytes value; /* one msgpack value; a removal is nil (one byte, 0xc0) */
    uint64_t epoch, seq;
    uint64_t number;
    uint64_t time_ms; /* since 1970, when the broker took it in; the same when it is handled again */
};

/* ------------------------------------------------------------------------------------------ msgpack values */

enum weir_value_type {
    WEIR_VALUE_NIL,
    WEIR_VALUE_BOOL,
    WEIR_VALUE_INT,    /* negative: i */
    WEIR_VALUE_UINT,   /* u */
    WEIR_VALUE_DOUBLE, /* floats of both sizes: d */
    WEIR_VALUE_STR,    /* bytes */
    WEIR_VALUE_BIN,    /* bytes */
    WEIR_VALUE_EXT,    /* bytes; u: its type, as an octet */
    WEIR_VALUE_ARRAY,  /* count elements follow */
    WEIR_VALUE_MAP,    /* count pairs follow, key and value in turn */
};

/* One item of a value. Containers are followed by what is in them. */
struct weir_item {
    uint32_t type; /* enum weir_value_type */
    uint32_t count;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
    } as;
    struct weir_bytes bytes;
};

/* Goes through a value item by item; every length is checked. Start with {value, false}. */
struct weir_reader {
    struct weir_bytes rest;
    bool is_bad; /* it ended too early or is malformed; sticks */
};

/* Builds a value in the caller's memory; what does not fit sets is_full and writes nothing more. */
struct weir_writer {
    void *data;
    size_t size, capacity;
    bool is_full;
};

/* ------------------------------------------------------------------------------------------------- verbs */

struct weir_self;

/* A table rather than symbols, so that a plugin links to nothing. Use the functions below. */
struct weir_verbs {
    uint32_t size; /* of this table as the host knows it: newer verbs are at its end */
    enum weir_actor_result (*emit)(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                   struct weir_bytes value);
    enum weir_actor_result (*timer)(struct weir_self *self, uint64_t id, uint64_t delay_ms, uint64_t period_ms);
    void (*timer_cancel)(struct weir_self *self, uint64_t id);
    void (*log)(struct weir_self *self, int level, const char *text);
    void (*fail)(struct weir_self *self, const char *text);
    const struct weir_message *(*hold)(struct weir_self *self, const struct weir_message *message);
    void (*release)(struct weir_self *self, const struct weir_message *held);
    void *(*alloc)(struct weir_self *self, size_t size);
    void (*free)(struct weir_self *self, void *memory);
    bool (*read)(struct weir_reader *reader, struct weir_item *out);
    bool (*skip)(struct weir_reader *reader, struct weir_bytes *out);
    void (*write)(struct weir_writer *writer, const struct weir_item *item);
    enum weir_actor_result (*reply)(struct weir_self *self, struct weir_bytes value); /* 1.2 */
    enum weir_actor_result (*emit_merged)(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                          struct weir_bytes update, struct weir_bytes merged); /* 1.3 */
};

/* The instance that is called; the rest of it is the host's. */
struct weir_self {
    const struct weir_verbs *verbs;
    uint32_t role; /* enum weir_actor_role: the one it was started in, before init is called */
};

/* ------------------------------------------------------------------------------------------------ plugin */

struct weir_actor_plugin {
    uint32_t abi_major, abi_minor;
    uint32_t size;  /* of this struct */
    uint32_t roles; /* enum weir_actor_role, or-ed */
    const char *name, *version, *about;
    /* config: its block in the broker's configuration as one msgpack value (nil: none). *state is handed to every other
     * call. Not OK: the instance does not start. */
    enum weir_actor_result (*init)(struct weir_self *self, struct weir_bytes config, void **state);
    /* Must leave the state as it was unless it returns OK. */
    enum weir_actor_result (*handle)(struct weir_self *self, void *state, const struct weir_message *message);
    /* Optional, with restore: the state as one msgpack value, taken now and then, for restarts and reloads. is_full is
     * no failure: it is called again with more room, up to snapshot_bytes_max. Without: a restart begins with nothing.
     */
    enum weir_actor_result (*snapshot)(struct weir_self *self, void *state, struct weir_writer *out);
    enum weir_actor_result (*restore)(struct weir_self *self, void *state, struct weir_bytes snapshot);
    /* Optional: gives back what init made. Not called after a crash. */
    void (*stop)(struct weir_self *self, void *state);
};

#if defined(__GNUC__)
#define WEIR_ACTOR_EXPORT __attribute__((visibility("default")))
#else
#define WEIR_ACTOR_EXPORT
#endif

/* Every plugin defines it: const struct weir_actor_plugin weir_actor_plugin = {WEIR_ACTOR_HEAD(roles), ...}; */
extern WEIR_ACTOR_EXPORT const struct weir_actor_plugin weir_actor_plugin;
#define WEIR_ACTOR_HEAD(roles) \
    WEIR_ACTOR_ABI_MAJOR, WEIR_ACTOR_ABI_MINOR, (uint32_t)sizeof(struct weir_actor_plugin), (roles)

/* --------------------------------------------------------------------------------- what a plugin calls */

/* fold: topic is the message's, or another one of the fold's own. processor: one of the topics that its configuration
 * lets it emit to. key: text, data NULL for none; value: exactly one msgpack value. FAILED: not allowed, too
 * large, or beyond the emissions of one message; weir_fail has been called with the reason. */
static inline enum weir_actor_result weir_emit(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                               struct weir_bytes value)
{
    return self->verbs->emit(self, topic, key, value);
}

/* fold: as weir_emit, where an update is worth something by itself (a window's count, a step, an event) and the newest
 * one does not stand for those before it. `update` is what subscribers that keep up are told; `merged` is what all
 * updates of the key have come to with it (their sum, their number, the last few of them), and is the key's entry in
 * the topic's state. Whoever did not see each update gets that: who asks or joins, as an entry; who conflates, in the
 * place of the newest update. So nobody who falls behind loses what the merged form keeps, and the broker never waits
 * for the plugin to merge. Subscribers have to tell the two forms apart: give them different fields, or both the same
 * meaning. Both: exactly one value and not nil; key: there must be one. Counts as an emission of their sizes together.
 * FAILED: as weir_emit, and of a processor. */
static inline enum weir_actor_result weir_emit_merged(struct weir_self *self, struct weir_bytes topic,
                                                      struct weir_bytes key, struct weir_bytes update,
                                                      struct weir_bytes merged)
{
    return self->verbs->emit_merged(self, topic, key, update, merged);
}

/* Answers the WEIR_MESSAGE_ASK in hand: exactly one msgpack value, once. It goes out when handle has returned OK and
 * what that emitted to topics of a fold's own is folded; none if it returns anything else. An ask that is handled and
 * not replied to is answered with an error. Counts as an emission does. FAILED: nobody asks, a second reply, no value,
 * too large; weir_fail has been called with the reason. */
static inline enum weir_actor_result weir_reply(struct weir_self *self, struct weir_bytes value)
{
    return self->verbs->reply(self, value);
}

/* Sends this instance a WEIR_MESSAGE_TIMER after delay_ms, and then every period_ms (0: once). An id that is armed is
 * armed anew. Timers end with the instance: init or restore arms them again. */
static inline enum weir_actor_result weir_timer_set(struct weir_self *self, uint64_t id, uint64_t delay_ms,
                                                    uint64_t period_ms)
{
    return self->verbs->timer(self, id, delay_ms, period_ms);
}
static inline void weir_timer_cancel(struct weir_self *self, uint64_t id) { self->verbs->timer_cancel(self, id); }

enum weir_log_level { WEIR_LOG_DEBUG, WEIR_LOG_INFO, WEIR_LOG_WARNING, WEIR_LOG_ERROR };
/* A line in the broker's log, cut at 255 bytes. */
static inline void weir_log(struct weir_self *self, enum weir_log_level level, const char *text)
{
    self->verbs->log(self, (int)level, text);
}

/* Says why this call is about to return REFUSED or FAILED; for the log, the quarantine and the publisher. Cut at 255.
 */
static inline void weir_fail(struct weir_self *self, const char *text) { self->verbs->fail(self, text); }

/* Keeps a message, all that it points to included, beyond the call: the one that is returned, until it is released.
 * NULL: beyond the memory budget. */
static inline const struct weir_message *weir_hold(struct weir_self *self, const struct weir_message *message)
{
    return self->verbs->hold(self, message);
}
static inline void weir_release(struct weir_self *self, const struct weir_message *held)
{
    self->verbs->release(self, held);
}

/* malloc and free that count against the instance's memory budget in either host. NULL: beyond it. */
static inline void *weir_alloc(struct weir_self *self, size_t size) { return self->verbs->alloc(self, size); }
static inline void weir_free(struct weir_self *self, void *memory) { self->verbs->free(self, memory); }

static inline struct weir_bytes weir_bytes_of(const void *data, size_t size)
{
    struct weir_bytes bytes;
    bytes.data = data;
    bytes.size = size;
    return bytes;
}

/* The next item; false at the end and for what is malformed (is_bad). */
static inline bool weir_read(struct weir_self *self, struct weir_reader *reader, struct weir_item *out)
{
    return self->verbs->read(reader, out);
}
/* Steps over one whole value, whose encoded bytes are `out` (may be NULL). */
static inline bool weir_skip(struct weir_self *self, struct weir_reader *reader, struct weir_bytes *out)
{
    return self->verbs->skip(reader, out);
}
static inline void weir_write(struct weir_self *self, struct weir_writer *writer, const struct weir_item *item)
{
    self->verbs->write(writer, item);
}

#ifdef __cplusplus
}
#endif

#endif
