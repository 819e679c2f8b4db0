/* The topics that a connection follows, in an open-addressing table. In the connection's turns. */
#include "broker/gateway/follows.h"

#include "actors/base/assert.h"
#include "broker/gateway/connection.h"

enum {
    CAPACITY_FIRST = 2,
    GROWTH_PART = 8, /* a table grows by this part of itself, so that little of it is empty */
    WINDOW_MIN = 1024,
    WINDOW_MAX = 256 * 1024,
    WINDOW_LENT = 4096,
    LENT_OUTBOXES = 64, /* 16,384 feeds with an outbox of 1 MiB; rings keep as much for each of them for a thousand */
};

/* Where a feed's place is, or as soon behind it as there is one free: the upper half of the product spreads any numbers
 * over any capacity. */
static uint32_t place_of(const struct follows *follows, uint32_t id)
{
    uint32_t hash = (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
    return (uint32_t)((uint64_t)hash * follows->capacity >> 32);
}

static uint32_t place_next(const struct follows *follows, uint32_t at) { return ++at == follows->capacity ? 0 : at; }

/* How far behind `from` a place is, around the end. */
static uint32_t distance(const struct follows *follows, uint32_t from, uint32_t at)
{
    return at >= from ? at - from : at + follows->capacity - from;
}

struct followed *follows_find(const struct follows *follows, uint32_t id)
{
    if (follows->count == 0 || id == 0)
        return NULL;
    for (uint32_t at = place_of(follows, id);; at = place_next(follows, at)) {
        if (follows->places[at].id == id)
            return &follows->places[at];
        if (follows->places[at].id == 0)
            return NULL;
    }
}

void follows_ahead(const struct follows *follows, uint32_t id)
{
    if (follows->count > 0)
        __builtin_prefetch(&follows->places[place_of(follows, id)], 1);
}

static struct followed *place_vacant(struct follows *follows, uint32_t id)
{
    uint32_t at = place_of(follows, id);
    while (follows->places[at].id != 0)
        at = place_next(follows, at);
    return &follows->places[at];
}

/* What of a block's room there is anyway; much more only where the block is whole slabs, which are there as far as they
 * are written to. */
static uint32_t capacity_fit(size_t room, uint32_t capacity)
{
    size_t fit = room / sizeof(struct followed);
    return fit <= capacity + capacity / 2 ? (uint32_t)fit : capacity;
}

static bool follows_resize(struct connection *connection, struct follows *follows, uint32_t capacity)
{
    struct follows resized = {.count = follows->count, .granted = follows->granted};
    size_t size = capacity * sizeof *resized.places;
    if (arena_alloc(connection->arena, size, connection->budget, &resized.block) != WEIR_OK)
        return false;
    resized.capacity = capacity_fit(arena_capacity(connection->arena, resized.block), capacity);
    resized.places = arena_data(connection->arena, resized.block);
    memset(resized.places, 0, resized.capacity * sizeof *resized.places);
    for (uint32_t i = 0; i < follows->capacity; i++)
        if (follows->places[i].id != 0)
            *place_vacant(&resized, follows->places[i].id) = follows->places[i];
    arena_drop(connection->arena, follows->block);
    *follows = resized;
    return true;
}

/* At most four fifths full, so that looking is short. */
static bool follows_reserve(struct connection *connection, struct follows *follows)
{
    uint32_t capacity = follows->capacity;
    if ((follows->count + 1) * UINT64_C(5) <= capacity * UINT64_C(4))
        return true;
    uint32_t grown = capacity + 1 + capacity / GROWTH_PART;
    return follows_resize(connection, follows, grown < CAPACITY_FIRST ? CAPACITY_FIRST : grown);
}

struct followed *follows_ensure(struct connection *connection, struct follows *follows, uint32_t id)
{
    REQUIRE(id != 0);
    struct followed *followed = follows_find(follows, id);
    if (followed != NULL)
        return followed;
    if (!follows_reserve(connection, follows))
        return NULL;
    followed = place_vacant(follows, id);
    *followed = (struct followed){.id = id};
    follows->count++;
    return followed;
}

/* Closes the hole at `at` by moving back what would no longer be found behind it. */
static void places_close(struct follows *follows, uint32_t at)
{
    uint32_t hole = at;
    for (uint32_t i = place_next(follows, at); follows->places[i].id != 0; i = place_next(follows, i)) {
        uint32_t home = place_of(follows, follows->places[i].id);
        bool is_between = distance(follows, home, i) < distance(follows, hole, i);
        if (is_between)
            continue;
        follows->places[hole] = follows->places[i];
        hole = i;
    }
    follows->places[hole] = (struct followed){.id = 0};
}

static void followed_drop(struct follows *follows, struct followed *followed)
{
    follows->count--;
    follows->granted -= followed->granted;
    places_close(follows, (uint32_t)(followed - follows->places));
}

/* After many have gone the table gives most of itself back, if there is memory for a smaller one. */
static void follows_shrink(struct connection *connection, struct follows *follows)
{
    if (follows->count == 0) {
        arena_drop(connection->arena, follows->block);
        *follows = (struct follows){.count = 0};
    } else if (follows->count < follows->capacity / 8) {
        (void)follows_resize(connection, follows, follows->count * 2);
    }
}

void follows_remove(struct connection *connection, struct follows *follows, struct followed *followed)
{
    followed_drop(follows, followed);
    follows_shrink(connection, follows);
}

void follows_remove_owner(struct connection *connection, struct follows *follows, uint32_t owner)
{
    /* Removing moves later ones into the same place, or, around the end, ones that were looked at. */
    for (uint32_t i = 0; i < follows->capacity;) {
        if (follows->places[i].id != 0 && follows->places[i].owner == owner)
            followed_drop(follows, &follows->places[i]);
        else
            i++;
    }
    follows_shrink(connection, follows);
}

void follows_fini(struct connection *connection, struct follows *follows)
{
    arena_drop(connection->arena, follows->block);
    *follows = (struct follows){.count = 0};
}

size_t follow_window(size_t outbox_bytes, size_t feed_count)
{
    size_t window = outbox_bytes / (feed_count == 0 ? 1 : feed_count);
    if (window < WINDOW_MIN)
        return WINDOW_MIN;
    return window > WINDOW_MAX ? WINDOW_MAX : window;
}

size_t follow_window_lent(const struct follows *follows, size_t outbox_bytes)
{
    size_t window = follow_window(outbox_bytes, follows->count);
    bool is_lent = window < WINDOW_LENT && follows->granted + WINDOW_LENT <= (int64_t)outbox_bytes * LENT_OUTBOXES;
    return is_lent ? WINDOW_LENT : window;
}

static void followed_grant(struct follows *follows, struct followed *followed, int32_t size)
{
    followed->granted += size;
    follows->granted += size;
}

void followed_begin(struct follows *follows, struct followed *followed, uint32_t credit)
{
    followed_grant(follows, followed, (int32_t)credit - followed->granted);
}

void followed_rendered(struct connection *connection, struct follows *follows, struct followed *followed,
                       weir_actor topic, size_t size, size_t window)
{
    followed_grant(follows, followed, -(int32_t)size);
    int64_t missing = (int64_t)window - followed->granted;
    if (missing < (int64_t)window / 2)
        return;
    struct message message = {.tag = TOPIC_CREDIT, .detail = followed->id, .word = {(uint64_t)missing}};
    enum weir_error error = turn_control(connection->turn, topic, &message);
    if (error == WEIR_OK)
        followed_grant(follows, followed, (int32_t)missing);
    else if (error != WEIR_STALE) /* a feed without credit would stand still for good: better none than that */
        connection_refuse(connection, REFUSAL_MEMORY, error, "the broker has no memory for the connection's credit");
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
