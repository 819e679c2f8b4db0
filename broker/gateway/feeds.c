/* The topics that a connection follows, in an open-addressing table. In the connection's turns. */
#include "broker/gateway/feeds.h"

#include "actors/base/assert.h"
#include "broker/gateway/connection.h"

enum { PLACES_FIRST = 8, WINDOW_MIN = 1024, WINDOW_MAX = 256 * 1024 };

static uint32_t place_of(const struct feeds *feeds, uint32_t id)
{
    return (uint32_t)(((uint64_t)id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (feeds->capacity - 1);
}

struct feed *feeds_find(const struct feeds *feeds, uint32_t id)
{
    if (feeds->count == 0 || id == 0)
        return NULL;
    for (uint32_t at = place_of(feeds, id);; at = (at + 1) & (feeds->capacity - 1)) {
        if (feeds->places[at].id == id)
            return &feeds->places[at];
        if (feeds->places[at].id == 0)
            return NULL;
    }
}

static struct feed *place_vacant(struct feeds *feeds, uint32_t id)
{
    uint32_t at = place_of(feeds, id);
    while (feeds->places[at].id != 0)
        at = (at + 1) & (feeds->capacity - 1);
    return &feeds->places[at];
}

/* At most half full, so that looking is short. */
static bool feeds_grow(struct connection *connection, struct feeds *feeds)
{
    struct feeds grown = {.capacity = feeds->capacity == 0 ? PLACES_FIRST : feeds->capacity * 2, .count = feeds->count};
    size_t size = grown.capacity * sizeof *grown.places;
    if (arena_alloc(connection->arena, size, connection->budget, &grown.block) != WEIR_OK)
        return false;
    grown.places = arena_data(connection->arena, grown.block);
    memset(grown.places, 0, size);
    for (uint32_t i = 0; i < feeds->capacity; i++)
        if (feeds->places[i].id != 0)
            *place_vacant(&grown, feeds->places[i].id) = feeds->places[i];
    arena_drop(connection->arena, feeds->block);
    *feeds = grown;
    return true;
}

struct feed *feeds_ensure(struct connection *connection, struct feeds *feeds, uint32_t id)
{
    REQUIRE(id != 0);
    struct feed *feed = feeds_find(feeds, id);
    if (feed != NULL)
        return feed;
    if (feeds->count * 2 >= feeds->capacity && !feeds_grow(connection, feeds))
        return NULL;
    feed = place_vacant(feeds, id);
    *feed = (struct feed){.id = id};
    feeds->count++;
    return feed;
}

/* Closes the hole at `at` by moving back what would no longer be found behind it. */
static void places_close(struct feeds *feeds, uint32_t at)
{
    uint32_t mask = feeds->capacity - 1, hole = at;
    for (uint32_t i = (at + 1) & mask; feeds->places[i].id != 0; i = (i + 1) & mask) {
        uint32_t home = place_of(feeds, feeds->places[i].id);
        bool is_between = ((i - home) & mask) < ((i - hole) & mask);
        if (is_between)
            continue;
        feeds->places[hole] = feeds->places[i];
        hole = i;
    }
    feeds->places[hole] = (struct feed){.id = 0};
}

void feeds_remove(struct connection *connection, struct feeds *feeds, struct feed *feed)
{
    arena_drop(connection->arena, feed->begin);
    feeds->count--;
    places_close(feeds, (uint32_t)(feed - feeds->places));
}

void feeds_remove_owner(struct connection *connection, struct feeds *feeds, uint32_t owner)
{
    /* Removing moves later ones into the same place, or, around the end, ones that were looked at. */
    for (uint32_t i = 0; i < feeds->capacity;) {
        if (feeds->places[i].id != 0 && feeds->places[i].owner == owner)
            feeds_remove(connection, feeds, &feeds->places[i]);
        else
            i++;
    }
}

void feeds_fini(struct connection *connection, struct feeds *feeds)
{
    for (uint32_t i = 0; i < feeds->capacity; i++)
        arena_drop(connection->arena, feeds->places[i].begin);
    arena_drop(connection->arena, feeds->block);
    *feeds = (struct feeds){.count = 0};
}

size_t feed_window(size_t outbox_bytes, size_t feed_count)
{
    size_t window = outbox_bytes / (feed_count == 0 ? 1 : feed_count);
    if (window < WINDOW_MIN)
        return WINDOW_MIN;
    return window > WINDOW_MAX ? WINDOW_MAX : window;
}

void feed_came(struct feed *feed, size_t size)
{
    feed->granted -= (int64_t)size;
    feed->waiting += (int64_t)size;
}

void feed_rendered(struct connection *connection, struct feed *feed, size_t size, size_t window)
{
    feed->waiting -= (int64_t)size;
    int64_t missing = (int64_t)window - feed->granted - feed->waiting;
    if (missing < (int64_t)window / 2)
        return;
    struct message message = {
        .tag = TOPIC_CREDIT, .detail = feed->id, .word = {feed->slot, (uint64_t)missing}};
    /* Where its control lane is full the next bytes ask again; a topic that has ended needs none. */
    if (turn_control(connection->turn, feed->topic, &message) == WEIR_OK)
        feed->granted += missing;
}

bool pair_next(struct view *items, struct view *pair)
{
    struct view before = *items, key, value;
    /* Stored values were checked when they came; merging may only make them deeper by what was allowed. */
    if (items_next(items, UINT8_MAX, &key, &value) != WEIR_OK)
        return false;
    *pair = view_of(before.data, (size_t)(items->data - before.data));
    return true;
}
