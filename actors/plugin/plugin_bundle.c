/* Records for one topic, gathered in the block that is sent. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#define BUNDLE_FIRST ((size_t)256)
#define BUNDLE_SLICES_FIRST 8u
#define KEY_HEAD_MAX 3

/* The shortest head of a str, of at most KEY_SIZE_MAX bytes. */
static size_t key_head(struct view key, uint8_t out[KEY_HEAD_MAX])
{
    if (key.size < 32) {
        out[0] = (uint8_t)(0xa0 | key.size);
        return 1;
    }
    out[0] = key.size < 256 ? 0xd9 : 0xda;
    out[1] = key.size < 256 ? (uint8_t)key.size : (uint8_t)(key.size >> 8);
    out[2] = (uint8_t)key.size;
    return key.size < 256 ? 2 : 3;
}

static enum weir_error slices_grow(struct plugin *plugin, struct bundle *bundle)
{
    uint32_t capacity = bundle->slice_capacity ? 2 * bundle->slice_capacity : BUNDLE_SLICES_FIRST;
    const size_t size = sizeof *bundle->slices;
    enum weir_error error =
        arena_grow(plugin->arena, &bundle->slice_block, bundle->count * size, capacity * size, plugin->budget);
    if (error)
        return error;
    bundle->slices = arena_data(plugin->arena, bundle->slice_block);
    bundle->slice_capacity = capacity;
    return WEIR_OK;
}

/* Room for one record more, of so many bytes. The first block is as large as the last message was. */
static enum weir_error bundle_reserve(struct plugin *plugin, struct bundle *bundle, size_t more)
{
    size_t wanted = bundle->size + more, size = bundle->capacity ? 2 * bundle->capacity : bundle->wanted;
    enum weir_error error = bundle->count < bundle->slice_capacity ? WEIR_OK : slices_grow(plugin, bundle);
    if (error || wanted <= bundle->capacity)
        return error;
    size = size > PLUGIN_GATHER_BYTES ? PLUGIN_GATHER_BYTES : size;
    size = size > wanted ? size : wanted;
    size = size > BUNDLE_FIRST ? size : BUNDLE_FIRST;
    error = arena_grow(plugin->arena, &bundle->block, bundle->size, size, plugin->budget);
    if (error)
        return error;
    bundle->data = arena_data(plugin->arena, bundle->block);
    bundle->capacity = size;
    return WEIR_OK;
}

bool bundle_has_room(const struct bundle *bundle, const struct brought_item *item)
{
    size_t size = item->key.size + item->value.size + KEY_HEAD_MAX;
    return bundle->count == 0 ||
           (msg_is_none(bundle->lent) && bundle->count < TOPIC_BATCH_MAX && bundle->size + size <= PLUGIN_GATHER_BYTES);
}

bool bundle_lend(struct plugin *plugin, struct bundle *bundle, weir_msg block, const struct record_slice *slice)
{
    bool is_first = bundle->count == 0;
    if (!is_first && (bundle->lent.bits != block.bits || bundle->count == TOPIC_BATCH_MAX))
        return false;
    if ((bundle->count == bundle->slice_capacity && slices_grow(plugin, bundle) != WEIR_OK) ||
        (is_first && arena_hold(plugin->arena, block) != WEIR_OK))
        return false;
    bundle->lent = block;
    bundle->slices[bundle->count] = *slice;
    bundle->slices[bundle->count++].step = 0;
    bundle->size += slice->key_size + slice->value_size;
    return true;
}

struct record_slice bundle_take_back(struct plugin *plugin, struct bundle *bundle, const uint8_t **data)
{
    struct record_slice slice = bundle->slices[--bundle->count];
    bundle->size -= slice.key_size + slice.value_size + slice.step;
    *data = msg_is_none(bundle->lent) ? bundle->data : arena_data(plugin->arena, bundle->lent);
    if (bundle->count == 0) { /* whoever lent it has a reference, too */
        arena_drop(plugin->arena, bundle->lent);
        bundle->lent = WEIR_MSG_NONE;
        bundle->has_merged = false;
    }
    return slice;
}

enum weir_error bundle_add(struct plugin *plugin, struct bundle *bundle, const struct brought_item *item)
{
    struct view key = item->key, value = item->value;
    uint8_t head[KEY_HEAD_MAX];
    size_t head_size = item->has_key ? key_head(key, head) : 0, key_size = head_size + key.size;
    enum weir_error error = bundle_reserve(plugin, bundle, key_size + value.size);
    if (error)
        return error;
    uint8_t *data = bundle->data + bundle->size;
    uint32_t update_size = item->update_size > 0 ? item->update_size : (uint32_t)value.size;
    bundle->slices[bundle->count++] = (struct record_slice){.key_offset = (uint32_t)bundle->size,
                                                            .key_size = (uint32_t)key_size,
                                                            .value_offset = (uint32_t)(bundle->size + key_size),
                                                            .value_size = update_size,
                                                            .step = (uint32_t)value.size - update_size};
    bundle->has_merged = bundle->has_merged || item->update_size > 0;
    for (size_t i = 0; i < head_size; i++)
        data[i] = head[i];
    if (key.size > 0)
        memcpy(data + head_size, key.data, key.size);
    memcpy(data + key_size, value.data, value.size);
    bundle->size += key_size + value.size;
    return WEIR_OK;
}

/* The block that was gathered in goes as it is, unless most of it is empty. */
static enum weir_error bundle_block(struct plugin *plugin, const struct bundle *bundle, weir_msg *out)
{
    *out = msg_is_none(bundle->lent) ? bundle->block : bundle->lent;
    if (!msg_is_none(bundle->lent) || bundle->capacity <= 2 * bundle->size + 4 * BUNDLE_FIRST)
        return arena_hold(plugin->arena, *out);
    enum weir_error error = arena_alloc(plugin->arena, bundle->size, plugin->budget, out);
    if (!error)
        memcpy(arena_data(plugin->arena, *out), bundle->data, bundle->size);
    return error;
}

enum weir_error bundle_message(struct plugin *plugin, const struct bundle *bundle, struct message *message)
{
    enum weir_error error = bundle_block(plugin, bundle, &message->hold[0]);
    if (error)
        return error;
    message->detail = bundle->count;
    if (bundle->count == 1 && !bundle->has_merged) {
        message->word[0] = TOPIC_WORD(bundle->slices[0].key_offset, bundle->slices[0].key_size);
        message->word[1] = TOPIC_WORD(bundle->slices[0].value_offset, bundle->slices[0].value_size);
        return WEIR_OK;
    }
    size_t size = bundle->count * sizeof bundle->slices[0];
    error = arena_alloc(plugin->arena, size, plugin->budget, &message->hold[1]);
    if (error) {
        arena_drop(plugin->arena, message->hold[0]);
        message->hold[0] = WEIR_MSG_NONE;
        message->detail = 0;
        return error;
    }
    memcpy(arena_data(plugin->arena, message->hold[1]), bundle->slices, size);
    message->word[1] = bundle->has_merged ? TOPIC_MERGED : 0;
    return WEIR_OK;
}

void bundle_forget(struct plugin *plugin, struct bundle *bundle)
{
    /* A block that was sent is the topic's to read. */
    if (!msg_is_none(bundle->block) && !arena_is_unshared(plugin->arena, bundle->block)) {
        arena_drop(plugin->arena, bundle->block);
        bundle->block = WEIR_MSG_NONE;
        bundle->capacity = 0;
    }
    if (msg_is_none(bundle->lent))
        bundle->wanted = bundle->size;
    arena_drop(plugin->arena, bundle->lent);
    bundle->lent = WEIR_MSG_NONE;
    bundle->count = 0;
    bundle->size = 0;
    bundle->has_merged = false;
}

void bundle_fini(struct plugin *plugin, struct bundle *bundle)
{
    arena_drop(plugin->arena, bundle->lent);
    arena_drop(plugin->arena, bundle->block);
    arena_drop(plugin->arena, bundle->slice_block);
    *bundle = (struct bundle){.count = 0};
}
