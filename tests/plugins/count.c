/* Counts records by key. As a fold it emits [key, count] to the record's topic, as a processor to TOPIC/count. A record
 * whose value is nil forgets its key. Asked for a key it replies with its count. config: nil, or {"start": N}: what
 * counting begins with. */
#include "weir_actor.h"

#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 4096

struct entry {
    char *key;
    size_t size;
    uint64_t count;
};

struct state {
    struct entry entries[KEYS_MAX];
    size_t used;
    uint64_t start;
};

static bool is_text(struct weir_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

static enum weir_actor_result count_init(struct weir_self *self, struct weir_bytes config, void **out)
{
    struct weir_reader reader = {config, false};
    struct weir_item item, number;
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return WEIR_ACTOR_FAILED;
    *out = state;
    if (!weir_read(self, &reader, &item) || item.type == WEIR_VALUE_NIL)
        return WEIR_ACTOR_OK;
    if (item.type != WEIR_VALUE_MAP || item.count != 1 || !weir_read(self, &reader, &item) ||
        !is_text(item.bytes, "start") || !weir_read(self, &reader, &number) || number.type != WEIR_VALUE_UINT) {
        weir_fail(self, "config: {start: a number} is all that there may be");
        free(state);
        return WEIR_ACTOR_FAILED;
    }
    state->start = number.as.u;
    return WEIR_ACTOR_OK;
}

static struct entry *entry_ensure(struct state *state, struct weir_bytes key)
{
    for (size_t index = 0; index < state->used; index++) {
        if (state->entries[index].size == key.size && memcmp(state->entries[index].key, key.data, key.size) == 0)
            return &state->entries[index];
    }
    if (state->used == KEYS_MAX)
        return NULL;
    struct entry *entry = &state->entries[state->used];
    *entry = (struct entry){malloc(key.size + 1), key.size, state->start};
    if (entry->key == NULL)
        return NULL;
    memcpy(entry->key, key.data, key.size);
    state->used++;
    return entry;
}

static enum weir_actor_result count_emit(struct weir_self *self, const struct weir_message *message, uint64_t count,
                                         bool is_removal)
{
    char topic[512];
    uint8_t value[16];
    struct weir_bytes out = message->topic;
    struct weir_writer writer = {value, 0, sizeof value, false};
    struct weir_item item = {.type = is_removal ? WEIR_VALUE_NIL : WEIR_VALUE_UINT, .as = {.u = count}};
    weir_write(self, &writer, &item);
    if (message->seq != 0 && out.size + 6 <= sizeof topic) { /* a processor's record has its place in a topic */
        memcpy(topic, out.data, out.size);
        memcpy(topic + out.size, "/count", 6);
        out = weir_bytes_of(topic, out.size + 6);
    }
    return weir_emit(self, out, message->key, weir_bytes_of(writer.data, writer.size));
}

static enum weir_actor_result count_reply(struct weir_self *self, const struct state *state, struct weir_bytes asked)
{
    uint8_t value[16];
    struct weir_writer writer = {value, 0, sizeof value, false};
    struct weir_item count = {.type = WEIR_VALUE_UINT, .as = {.u = state->start}}, key;
    struct weir_reader reader = {asked, false};
    if (!weir_read(self, &reader, &key) || key.type != WEIR_VALUE_STR) {
        weir_fail(self, "ask for a key");
        return WEIR_ACTOR_REFUSED;
    }
    for (size_t index = 0; index < state->used; index++) {
        const struct entry *entry = &state->entries[index];
        if (entry->size == key.bytes.size && memcmp(entry->key, key.bytes.data, entry->size) == 0)
            count.as.u = entry->count;
    }
    weir_write(self, &writer, &count);
    return weir_reply(self, weir_bytes_of(writer.data, writer.size));
}

static enum weir_actor_result count_handle(struct weir_self *self, void *context, const struct weir_message *message)
{
    struct state *state = context;
    if (message->kind == WEIR_MESSAGE_RESET && self->role == WEIR_ACTOR_FOLD) {
        for (size_t index = 0; index < state->used; index++)
            state->entries[index].count = state->start;
        return WEIR_ACTOR_OK;
    }
    if (message->kind == WEIR_MESSAGE_ASK)
        return count_reply(self, state, message->value);
    if (message->kind != WEIR_MESSAGE_RECORD && message->kind != WEIR_MESSAGE_ENTRY)
        return WEIR_ACTOR_OK;
    if (message->key.data == NULL) {
        weir_fail(self, "a record without a key cannot be counted");
        return WEIR_ACTOR_REFUSED;
    }
    struct entry *entry = entry_ensure(state, message->key);
    if (entry == NULL) {
        weir_fail(self, "too many keys");
        return WEIR_ACTOR_REFUSED;
    }
    bool is_removal = ((const uint8_t *)message->value.data)[0] == 0xc0;
    enum weir_actor_result result = count_emit(self, message, entry->count + 1, is_removal);
    if (result == WEIR_ACTOR_OK)
        entry->count = is_removal ? state->start : entry->count + 1;
    return result;
}

static enum weir_actor_result count_snapshot(struct weir_self *self, void *context, struct weir_writer *out)
{
    const struct state *state = context;
    struct weir_item map = {.type = WEIR_VALUE_MAP, .count = (uint32_t)state->used};
    weir_write(self, out, &map);
    for (size_t index = 0; index < state->used; index++) {
        const struct entry *entry = &state->entries[index];
        struct weir_item key = {.type = WEIR_VALUE_STR, .bytes = {entry->key, entry->size}};
        struct weir_item count = {.type = WEIR_VALUE_UINT, .as = {.u = entry->count}};
        weir_write(self, out, &key);
        weir_write(self, out, &count);
    }
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result count_restore(struct weir_self *self, void *context, struct weir_bytes snapshot)
{
    struct state *state = context;
    struct weir_reader reader = {snapshot, false};
    struct weir_item map, key, count;
    if (!weir_read(self, &reader, &map) || map.type != WEIR_VALUE_MAP)
        return WEIR_ACTOR_FAILED;
    for (uint32_t index = 0; index < map.count; index++) {
        if (!weir_read(self, &reader, &key) || key.type != WEIR_VALUE_STR || !weir_read(self, &reader, &count) ||
            count.type != WEIR_VALUE_UINT)
            return WEIR_ACTOR_FAILED;
        struct entry *entry = entry_ensure(state, key.bytes);
        if (entry == NULL)
            return WEIR_ACTOR_FAILED;
        entry->count = count.as.u;
    }
    return WEIR_ACTOR_OK;
}

static void count_stop(struct weir_self *self, void *context)
{
    struct state *state = context;
    (void)self;
    for (size_t index = 0; index < state->used; index++)
        free(state->entries[index].key);
    free(state);
}

const struct weir_actor_plugin weir_actor_plugin = {
    WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD | WEIR_ACTOR_PROCESSOR),
    .name = "count",
    .version = "1.0",
    .about = "counts records by key",
    .init = count_init,
    .handle = count_handle,
    .snapshot = count_snapshot,
    .restore = count_restore,
    .stop = count_stop,
};
