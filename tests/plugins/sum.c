/* Adds up by key: emits each number as it is, and as its merged form the sum of its key's. Text as value is what it
 * emits as the merged form of 0, whatever that may be: "nil", "nothing", "null" (no bytes at all), "two" (values),
 * "large"; and "both" is a blob of BLOB_SIZE bytes as update and as merged form. No snapshot. */
#include "weir_actor.h"

#include <string.h>

#define KEYS_MAX 64
#define KEY_SIZE 16
#define BLOB_SIZE 4096

struct state {
    struct {
        char key[KEY_SIZE];
        size_t size;
        uint64_t sum;
    } keys[KEYS_MAX];
    size_t used;
};

static enum weir_actor_result sum_init(struct weir_self *self, struct weir_bytes config, void **out)
{
    (void)config;
    *out = weir_alloc(self, sizeof(struct state));
    if (*out == NULL)
        return WEIR_ACTOR_FAILED;
    memset(*out, 0, sizeof(struct state));
    return WEIR_ACTOR_OK;
}

static uint64_t *sum_ensure(struct state *state, struct weir_bytes key)
{
    for (size_t i = 0; i < state->used; i++) {
        if (state->keys[i].size == key.size && memcmp(state->keys[i].key, key.data, key.size) == 0)
            return &state->keys[i].sum;
    }
    if (state->used == KEYS_MAX || key.size > KEY_SIZE)
        return NULL;
    memcpy(state->keys[state->used].key, key.data, key.size);
    state->keys[state->used].size = key.size;
    return &state->keys[state->used++].sum;
}

/* What the broker must not take. */
static struct weir_bytes merged_broken(struct weir_bytes name)
{
    static const uint8_t values[2] = {0xc0, 0xc0};
    static uint8_t large[1 << 21];
    if (name.size == 3 && memcmp(name.data, "nil", 3) == 0)
        return weir_bytes_of(values, 1);
    if (name.size == 3 && memcmp(name.data, "two", 3) == 0)
        return weir_bytes_of(values, 2);
    if (name.size == 4 && memcmp(name.data, "null", 4) == 0)
        return weir_bytes_of(NULL, 1);
    return weir_bytes_of(large, name.size == 5 ? sizeof large : 0);
}

static enum weir_actor_result both_emit(struct weir_self *self, const struct weir_message *message)
{
    static const uint8_t blob[BLOB_SIZE] = {0xc5, (BLOB_SIZE - 3) >> 8, (BLOB_SIZE - 3) & 0xff}; /* bin 16 */
    struct weir_bytes bytes = weir_bytes_of(blob, sizeof blob);
    return weir_emit_merged(self, message->topic, message->key, bytes, bytes);
}

static enum weir_actor_result sum_handle(struct weir_self *self, void *context, const struct weir_message *message)
{
    struct weir_reader reader = {message->value, false};
    struct weir_item item, sum = {.type = WEIR_VALUE_UINT};
    uint8_t memory[16], zero = 0;
    struct weir_writer writer = {memory, 0, sizeof memory, false};
    if (message->kind != WEIR_MESSAGE_RECORD && message->kind != WEIR_MESSAGE_ENTRY)
        return WEIR_ACTOR_OK;
    uint64_t *of_key = sum_ensure(context, message->key);
    if (of_key == NULL || !weir_read(self, &reader, &item)) {
        weir_fail(self, "too many keys, or too long a one");
        return WEIR_ACTOR_REFUSED;
    }
    if (item.type == WEIR_VALUE_NIL)
        *of_key = 0;
    if (item.type == WEIR_VALUE_NIL)
        return weir_emit(self, message->topic, message->key, message->value);
    if (item.type == WEIR_VALUE_STR && item.bytes.size == 4 && memcmp(item.bytes.data, "both", 4) == 0)
        return both_emit(self, message);
    if (item.type == WEIR_VALUE_STR)
        return weir_emit_merged(self, message->topic, message->key, weir_bytes_of(&zero, 1), merged_broken(item.bytes));
    sum.as.u = *of_key + item.as.u;
    weir_write(self, &writer, &sum);
    enum weir_actor_result result =
        weir_emit_merged(self, message->topic, message->key, message->value, weir_bytes_of(memory, writer.size));
    *of_key = result == WEIR_ACTOR_OK ? sum.as.u : *of_key;
    return result;
}

const struct weir_actor_plugin weir_actor_plugin = {
    WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD | WEIR_ACTOR_PROCESSOR),
    .name = "sum",
    .version = "1.0",
    .about = "adds up by key",
    .init = sum_init,
    .handle = sum_handle,
};
