/* The plugin `dedup`: lets each record through once, within a bounded window of records and time. README.md of the
 * folder above says how it is used. */
#include "actors/plugins/kit_ask.h"
#include "actors/plugins/kit_config.h"
#include "actors/plugins/kit_table.h"

enum {
    FORM = 1,
    /* What tells records apart is kept as it is up to so many bytes, else as its hash: a window must not hold values.
     */
    MARK_MAX = 256,
    HASH_SIZE = 16,
};

struct seen {
    struct kit_entry entry; /* by topic and mark */
    uint64_t time_ms;       /* when it came first */
};

struct dedup {
    struct weir_bytes kept, to, by; /* the configuration; texts are parts of it. by: none is the whole value */
    uint64_t count_max, within_ms;
    bool refuses_repeats, takes_entries, skips_missing;
    struct kit_table window; /* in the order in which they came first */
};

static enum weir_actor_result dedup_settings(struct weir_self *self, struct dedup *dedup)
{
    struct weir_bytes missing = {NULL, 0};
    const struct kit_key keys[] = {
        {"to", KIT_TEXT, &dedup->to, 1, KIT_TOPIC_MAX, false},
        {"by", KIT_TEXT, &dedup->by, 1, 255, false},
        {"count_max", KIT_UINT, &dedup->count_max, 1, 10000000, false},
        {"within_ms", KIT_UINT, &dedup->within_ms, 0, 2592000000.0, false},
        {"refuse_repeats", KIT_BOOL, &dedup->refuses_repeats, 0, 0, false},
        {"missing", KIT_TEXT, &missing, 0, 0, false},
        {"entries", KIT_BOOL, &dedup->takes_entries, 0, 0, false},
    };
    if (!kit_config(self, "config", dedup->kept, keys, sizeof keys / sizeof *keys) ||
        !kit_target_check(self, dedup->to) || !kit_template_check(self, "config: 'by'", dedup->by))
        return WEIR_ACTOR_FAILED;
    if (dedup->by.size > 0 && memchr(dedup->by.data, '{', dedup->by.size) == NULL)
        return kit_fail(self, "config: 'by' names nothing of the record: write {key}, {value.id} or {key}/{value.id}");
    if (missing.size > 0 && !kit_is(missing, "skip") && !kit_is(missing, "refuse"))
        return kit_fail(self, "config: 'missing' is '%.*s', but must be skip or refuse", (int)missing.size,
                        (const char *)missing.data);
    dedup->skips_missing = missing.size > 0 ? kit_is(missing, "skip") : self->role != WEIR_ACTOR_FOLD;
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result dedup_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    struct dedup *dedup = weir_alloc(self, sizeof *dedup);
    if (dedup == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    memset(dedup, 0, sizeof *dedup);
    dedup->count_max = 10000;
    dedup->takes_entries = true;
    dedup->kept = kit_keep(self, config);
    if (dedup->kept.data == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    enum weir_actor_result result = dedup_settings(self, dedup);
    if (result != WEIR_ACTOR_OK)
        return result;
    if (!kit_table_init(self, &dedup->window, (uint32_t)dedup->count_max))
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    *state = dedup;
    return WEIR_ACTOR_OK;
}

/* What tells a record from others: the key and the whole value, or what `by` expands to. False with weir_fail called.
 */
static bool mark_make(struct weir_self *self, const struct dedup *dedup, const struct weir_message *message,
                      char memory[KIT_KEY_MAX], struct weir_bytes *out)
{
    struct weir_bytes key = dedup->by.size > 0 ? weir_bytes_of(NULL, 0) : message->key;
    *out = message->value;
    if (dedup->by.size > 0 && !kit_expand(self, dedup->by, message, memory, KIT_KEY_MAX, out))
        return false;
    if (2 + key.size + out->size <= MARK_MAX) {
        char *at = memory;
        if (dedup->by.size > 0)
            return true;
        /* The size of the key first, so that no key and value read like others. */
        *at++ = (char)(uint8_t)key.size;
        if (key.size > 0)
            memcpy(at, key.data, key.size);
        memcpy(at + key.size, out->data, out->size);
        *out = weir_bytes_of(memory, 1 + key.size + out->size);
        return true;
    }
    /* 128 bits of hash, the key's in both halves, with seeds of our own: a snapshot carries them to other processes. */
    uint64_t words[2];
    for (int i = 0; i < 2; i++)
        words[i] = kit_hash(kit_hash((uint64_t)i + 1, key), *out);
    memcpy(memory, words, HASH_SIZE);
    *out = weir_bytes_of(memory, HASH_SIZE);
    return true;
}

static void window_expire(struct weir_self *self, struct dedup *dedup, uint64_t now_ms)
{
    while (dedup->within_ms > 0 && dedup->window.oldest != NULL) {
        const struct seen *oldest = (const struct seen *)dedup->window.oldest;
        if (oldest->time_ms + dedup->within_ms > now_ms)
            return;
        kit_table_remove(self, &dedup->window, dedup->window.oldest);
    }
}

static enum weir_actor_result record_take(struct weir_self *self, struct dedup *dedup,
                                          const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], mark_memory[KIT_KEY_MAX], id_memory[KIT_ID_MAX];
    struct weir_bytes topic, mark;
    if (self->role == WEIR_ACTOR_FOLD && message->key.data == NULL)
        return kit_refuse(self, "the record has no key, and a fold keeps values by key");
    if (!kit_target(self, dedup->to, message, topic_memory, &topic))
        return WEIR_ACTOR_REFUSED;
    if (!mark_make(self, dedup, message, mark_memory, &mark))
        return dedup->skips_missing ? WEIR_ACTOR_OK : WEIR_ACTOR_REFUSED;
    struct weir_bytes id = kit_id(id_memory, topic, mark);
    window_expire(self, dedup, message->time_ms);
    const struct seen *before = (const struct seen *)kit_table_find(&dedup->window, id);
    if (before != NULL && dedup->refuses_repeats)
        return kit_refuse(self, "a repeat of the record of %llu ms before",
                          (unsigned long long)(message->time_ms - before->time_ms));
    if (before != NULL)
        return WEIR_ACTOR_OK;
    if (kit_table_is_full(&dedup->window))
        kit_table_remove(self, &dedup->window, dedup->window.oldest);
    struct seen *seen = (struct seen *)kit_table_add(self, &dedup->window, id, sizeof *seen);
    if (seen == NULL)
        return kit_fail(self, "no memory for one more record: raise memory_bytes_max, or lower count_max");
    seen->time_ms = message->time_ms;
    return weir_emit(self, topic, message->key, message->value);
}

static void topic_forget(struct weir_self *self, struct dedup *dedup, struct weir_bytes topic)
{
    for (struct kit_entry *entry = dedup->window.oldest, *newer = NULL; entry != NULL; entry = newer) {
        newer = entry->newer;
        if (kit_same(kit_id_topic(entry->id), topic))
            kit_table_remove(self, &dedup->window, entry);
    }
}

/* Of a record: whether it is known, and since when; without one, how many are. */
static enum weir_actor_result ask_take(struct weir_self *self, const struct dedup *dedup,
                                       const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], mark_memory[KIT_KEY_MAX], id_memory[KIT_ID_MAX];
    struct weir_message record;
    struct weir_bytes topic, mark;
    struct weir_writer reply = kit_reply_begin(self, 64);
    if (kit_is_nil(message->value)) {
        kit_put_map(self, &reply, 2);
        kit_put_text(self, &reply, "count");
        kit_put_uint(self, &reply, dedup->window.count);
        kit_put_text(self, &reply, "count_max");
        kit_put_uint(self, &reply, dedup->count_max);
        return kit_reply(self, &reply);
    }
    if (!kit_question_record(self, message, &record) || !kit_target(self, dedup->to, &record, topic_memory, &topic) ||
        !mark_make(self, dedup, &record, mark_memory, &mark)) {
        weir_free(self, reply.data);
        return WEIR_ACTOR_REFUSED;
    }
    const struct seen *seen = (const struct seen *)kit_table_find(&dedup->window, kit_id(id_memory, topic, mark));
    bool is_known = seen != NULL && (dedup->within_ms == 0 || seen->time_ms + dedup->within_ms > message->time_ms);
    kit_put_map(self, &reply, is_known ? 2 : 1);
    kit_put_text(self, &reply, "known");
    kit_put_bool(self, &reply, is_known);
    if (is_known) {
        kit_put_text(self, &reply, "time_ms");
        kit_put_uint(self, &reply, seen->time_ms);
    }
    return kit_reply(self, &reply);
}

static enum weir_actor_result dedup_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    struct dedup *dedup = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, dedup, message);
    case WEIR_MESSAGE_ENTRY: return dedup->takes_entries ? record_take(self, dedup, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_RESET:
        if (kit_clears(self, message))
            topic_forget(self, dedup, message->topic);
        return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_TIMER: return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_ASK: return ask_take(self, dedup, message);
    default: return WEIR_ACTOR_OK;
    }
}

/* [1, [id, time_ms, ...]], oldest first. */
static enum weir_actor_result dedup_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    const struct dedup *dedup = state;
    kit_put_array(self, out, 2);
    kit_put_uint(self, out, FORM);
    kit_put_array(self, out, dedup->window.count * 2);
    for (const struct kit_entry *entry = dedup->window.oldest; entry != NULL && !out->is_full; entry = entry->newer) {
        kit_put_bin(self, out, entry->id);
        kit_put_uint(self, out, ((const struct seen *)entry)->time_ms);
    }
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result dedup_restore(struct weir_self *self, void *state, struct weir_bytes snapshot)
{
    struct dedup *dedup = state;
    struct weir_reader reader = {snapshot, false};
    if (kit_want_array(self, &reader) != 2 || kit_want_uint(self, &reader) != FORM)
        return kit_fail(self, "this is no snapshot of dedup 1.0");
    uint32_t count = kit_want_array(self, &reader) / 2;
    for (uint32_t i = 0; i < count && !reader.is_bad; i++) {
        struct weir_bytes id = kit_want_bin(self, &reader);
        uint64_t time_ms = kit_want_uint(self, &reader);
        /* A window that has become smaller keeps the newest. */
        if (reader.is_bad || count - i > dedup->count_max)
            continue;
        struct seen *seen = kit_table_find(&dedup->window, id) == NULL
                                ? (struct seen *)kit_table_add(self, &dedup->window, id, sizeof *seen)
                                : NULL;
        if (seen == NULL)
            return kit_fail(self, "the snapshot's record %u cannot be taken: malformed, or beyond memory_bytes_max",
                            (unsigned)i + 1);
        seen->time_ms = time_ms;
    }
    return reader.is_bad ? kit_fail(self, "the snapshot is malformed") : WEIR_ACTOR_OK;
}

static void dedup_stop(struct weir_self *self, void *state)
{
    struct dedup *dedup = state;
    kit_table_fini(self, &dedup->window);
    weir_free(self, (void *)(uintptr_t)dedup->kept.data);
    weir_free(self, dedup);
}

KIT_PLUGIN(dedup, "lets each record through once, within a window of records and time");
