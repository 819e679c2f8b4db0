/* The topics a plugin knows, by name, by mark (their index) and by feed. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/topic/map_tree.h"

#define PLACES_FIRST 16u

static uint32_t *name_bucket(const struct places *places, struct view name)
{
    return &places->name_buckets[map_hash(name, 0) & (places->capacity - 1)];
}

static uint32_t *feed_bucket(const struct places *places, uint32_t feed)
{
    return &places->feed_buckets[(feed * UINT32_C(0x9e3779b1)) & (places->capacity - 1)];
}

struct place *place_at(struct plugin *plugin, uint32_t index)
{
    REQUIRE(index < plugin->places.used && !msg_is_none(plugin->places.items[index].name));
    return &plugin->places.items[index];
}

struct view place_name(struct plugin *plugin, uint32_t index)
{
    const struct place *place = place_at(plugin, index);
    return view_of(place->name_text, place->name_size);
}

uint32_t place_find(const struct plugin *plugin, struct view name)
{
    const struct places *places = &plugin->places;
    uint32_t index = *name_bucket(places, name);
    while (index != PLACE_NONE) {
        const struct place *place = &places->items[index];
        if (view_is_same(view_of(place->name_text, place->name_size), name))
            break;
        index = place->name_next;
    }
    return index;
}

uint32_t place_find_feed(const struct plugin *plugin, uint32_t feed)
{
    const struct places *places = &plugin->places;
    uint32_t index = *feed_bucket(places, feed);
    while (index != PLACE_NONE && places->items[index].feed != feed)
        index = places->items[index].feed_next;
    return index;
}

static void places_index(struct plugin *plugin)
{
    struct places *places = &plugin->places;
    for (uint32_t index = 0; index < places->used; index++) {
        struct place *place = &places->items[index];
        if (msg_is_none(place->name))
            continue;
        uint32_t *bucket = name_bucket(places, view_of(place->name_text, place->name_size));
        place->name_next = *bucket;
        *bucket = index;
        if (place->feed == 0)
            continue;
        bucket = feed_bucket(places, place->feed);
        place->feed_next = *bucket;
        *bucket = index;
    }
}

static enum weir_error places_resize(struct plugin *plugin, uint32_t capacity)
{
    struct places *places = &plugin->places, old = *places;
    weir_msg block, buckets;
    enum weir_error error = arena_alloc(plugin->arena, capacity * sizeof(struct place), plugin->budget, &block);
    if (error)
        return error;
    error = arena_alloc(plugin->arena, 2 * capacity * sizeof(uint32_t), plugin->budget, &buckets);
    if (error) {
        arena_drop(plugin->arena, block);
        return error;
    }
    places->block = block;
    places->buckets_block = buckets;
    places->items = arena_data(plugin->arena, block);
    places->name_buckets = arena_data(plugin->arena, buckets);
    places->feed_buckets = places->name_buckets + capacity;
    places->capacity = capacity;
    memset(places->name_buckets, 0xff, 2 * capacity * sizeof(uint32_t));
    if (old.used > 0)
        memcpy(places->items, old.items, old.used * sizeof *old.items);
    places_index(plugin);
    arena_drop(plugin->arena, old.block);
    arena_drop(plugin->arena, old.buckets_block);
    return WEIR_OK;
}

enum weir_error places_init(struct plugin *plugin)
{
    plugin->places = (struct places){.free_first = PLACE_NONE};
    return places_resize(plugin, PLACES_FIRST);
}

void places_fini(struct plugin *plugin)
{
    for (uint32_t index = 0; index < plugin->places.used; index++) {
        outgoing_fini(plugin, &plugin->places.items[index]);
        arena_drop(plugin->arena, plugin->places.items[index].name);
    }
    arena_drop(plugin->arena, plugin->places.block);
    arena_drop(plugin->arena, plugin->places.buckets_block);
    plugin->places = (struct places){.free_first = PLACE_NONE};
}

static void unlink_from(struct places *places, uint32_t *bucket, uint32_t index, bool is_feed)
{
    while (*bucket != index)
        bucket = is_feed ? &places->items[*bucket].feed_next : &places->items[*bucket].name_next;
    *bucket = is_feed ? places->items[index].feed_next : places->items[index].name_next;
}

void place_feed_set(struct plugin *plugin, uint32_t index, uint32_t feed)
{
    struct places *places = &plugin->places;
    struct place *place = place_at(plugin, index);
    if (place->feed == feed)
        return;
    if (place->feed != 0)
        unlink_from(places, feed_bucket(places, place->feed), index, true);
    place->feed = feed;
    if (feed == 0)
        return;
    uint32_t *bucket = feed_bucket(places, feed);
    place->feed_next = *bucket;
    *bucket = index;
}

/* Nobody needs it: no input, no emission, and nothing that is still in the mailbox can bear its mark. */
static bool is_spare(const struct plugin *plugin, const struct place *place)
{
    if (msg_is_none(place->name) || place->refs > 0 || place->feed != 0 || (place->is_own && !place->is_gone))
        return false;
    return !place->is_own || plugin->taken > place->gone_at + MAILBOX_MAX;
}

static void place_free(struct plugin *plugin, uint32_t index)
{
    struct places *places = &plugin->places;
    struct place *place = &places->items[index];
    unlink_from(places, name_bucket(places, place_name(plugin, index)), index, false);
    outgoing_fini(plugin, place);
    arena_drop(plugin->arena, place->name);
    *place = (struct place){.name_next = places->free_first};
    places->free_first = index;
    places->count--;
}

/* Before the table grows: gives up what is spare, unless that is little. */
static void places_sweep(struct plugin *plugin)
{
    for (uint32_t index = 0; index < plugin->places.used; index++)
        if (is_spare(plugin, &plugin->places.items[index]))
            place_free(plugin, index);
}

static enum weir_error place_index_take(struct plugin *plugin, uint32_t *out)
{
    struct places *places = &plugin->places;
    if (places->free_first == PLACE_NONE && places->used == places->capacity)
        places_sweep(plugin);
    if (places->count >= places->capacity / 4 * 3 ||
        (places->free_first == PLACE_NONE && places->used == places->capacity)) {
        if (places->capacity >= PLUGIN_PLACES_MAX)
            return WEIR_FULL;
        enum weir_error error = places_resize(plugin, places->capacity * 2);
        if (error)
            return error;
    }
    if (places->free_first != PLACE_NONE) {
        *out = places->free_first;
        places->free_first = places->items[*out].name_next;
        return WEIR_OK;
    }
    *out = places->used++;
    places->items[*out] = (struct place){.feed = 0};
    return WEIR_OK;
}

enum weir_error place_ensure(struct plugin *plugin, struct view name, uint32_t *out)
{
    uint32_t index = place_find(plugin, name);
    weir_msg block;
    if (index != PLACE_NONE) {
        *out = index;
        return WEIR_OK;
    }
    enum weir_error error = arena_alloc(plugin->arena, name.size, plugin->budget, &block);
    if (error)
        return error;
    error = place_index_take(plugin, &index);
    if (error) {
        arena_drop(plugin->arena, block);
        return error;
    }
    uint8_t *text = arena_data(plugin->arena, block);
    memcpy(text, name.data, name.size);
    uint32_t *bucket = name_bucket(&plugin->places, name);
    plugin->places.items[index] =
        (struct place){.name = block, .name_text = text, .name_size = (uint16_t)name.size, .name_next = *bucket};
    *bucket = index;
    plugin->places.count++;
    *out = index;
    return WEIR_OK;
}

void place_gone(struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    plugin->places.own_count -= place->is_own && !place->is_gone;
    place->topic = WEIR_ACTOR_NONE;
    place->is_asked = false;
    place->is_gone = true;
    place->gone_at = plugin->taken;
}
