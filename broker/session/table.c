/* A session's subscriptions, found by the client's numbers and by the broker's. However many there are, taking, finding
 * and ending one looks at few. In the connection's turns. */
#include "actors/base/assert.h"
#include "broker/session/state.h"

#define PLACE_NONE UINT32_MAX

enum { GROWTH_PART = 8 }; /* a table grows by this part of itself, so that little of it is empty */

uint32_t subscription_internal(const struct session *session, const struct subscription *subscription)
{
    uint32_t place = (uint32_t)(subscription - session->subscriptions.places);
    return (uint32_t)subscription->generation << SUBSCRIPTION_PLACE_BITS | place;
}

struct subscription *subscription_find(const struct session *session, uint32_t internal)
{
    const struct subscriptions *table = &session->subscriptions;
    uint32_t place = internal & ((1u << SUBSCRIPTION_PLACE_BITS) - 1);
    if (place >= table->capacity)
        return NULL;
    struct subscription *subscription = &table->places[place];
    bool is_it = subscription->state != SUBSCRIPTION_FREE && subscription_internal(session, subscription) == internal;
    return is_it ? subscription : NULL;
}

static uint32_t *bucket_of(const struct subscriptions *table, uint32_t sub)
{
    return &table->buckets[(uint32_t)((sub * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (table->bucket_count - 1)];
}

struct subscription *subscription_of_client(const struct session *session, uint32_t sub)
{
    const struct subscriptions *table = &session->subscriptions;
    if (table->count == 0)
        return NULL;
    for (uint32_t at = *bucket_of(table, sub); at != PLACE_NONE; at = table->places[at].next)
        if (table->places[at].sub == sub)
            return &table->places[at];
    return NULL;
}

static void bucket_add(struct subscriptions *table, uint32_t place)
{
    uint32_t *bucket = bucket_of(table, table->places[place].sub);
    table->places[place].next = *bucket;
    *bucket = place;
}

/* As many places as fit into the block, whose size is one of few; where it is whole slabs, which are there as far as
 * they are written to, no more than wanted. */
static uint32_t places_fit(size_t room, uint32_t wanted, uint32_t bucket_count)
{
    size_t fit = (room - bucket_count * sizeof(uint32_t)) / sizeof(struct subscription);
    if (fit > wanted + wanted / 2)
        return wanted;
    return fit < 1u << SUBSCRIPTION_PLACE_BITS ? (uint32_t)fit : 1u << SUBSCRIPTION_PLACE_BITS;
}

/* A full table's places with room for more behind them. */
static bool table_grow(struct connection *connection, struct subscriptions *table)
{
    struct subscriptions grown = {.count = table->count, .bucket_count = 1, .free = PLACE_NONE};
    uint32_t wanted = table->capacity + 1 + table->capacity / GROWTH_PART;
    if (wanted > 1u << SUBSCRIPTION_PLACE_BITS)
        wanted = 1u << SUBSCRIPTION_PLACE_BITS;
    while (grown.bucket_count < wanted / 2)
        grown.bucket_count *= 2;
    size_t size = wanted * sizeof *grown.places + grown.bucket_count * sizeof *grown.buckets;
    if (wanted == table->capacity || arena_alloc(connection->arena, size, connection->budget, &grown.block) != WEIR_OK)
        return false;
    grown.capacity = places_fit(arena_capacity(connection->arena, grown.block), wanted, grown.bucket_count);
    grown.places = arena_data(connection->arena, grown.block);
    size_t places_size = grown.capacity * sizeof *grown.places;
    grown.buckets = (uint32_t *)(void *)((uint8_t *)grown.places + places_size);
    memset(grown.places, 0, places_size);
    memset(grown.buckets, 0xff, grown.bucket_count * sizeof *grown.buckets);
    if (table->capacity > 0)
        memcpy(grown.places, table->places, table->capacity * sizeof *table->places);
    for (uint32_t i = 0; i < table->capacity; i++)
        bucket_add(&grown, i);
    for (uint32_t i = grown.capacity; i-- > table->capacity;) {
        grown.places[i].next = grown.free;
        grown.free = i;
    }
    arena_drop(connection->arena, table->block);
    *table = grown;
    return true;
}

static void counters_set(struct connection *connection)
{
    const struct session *session = session_of(connection);
    atomic_store_explicit(&connection->counters.subscriptions, session->subscriptions.count, memory_order_relaxed);
    atomic_store_explicit(&connection->counters.feeds, session->follows.count, memory_order_relaxed);
}

struct subscription *subscription_take(struct connection *connection, uint32_t sub)
{
    struct subscriptions *table = &session_of(connection)->subscriptions;
    if (table->count == table->capacity && !table_grow(connection, table))
        return NULL;
    uint32_t place = table->free;
    struct subscription *subscription = &table->places[place];
    INVARIANT(place < table->capacity && subscription->state == SUBSCRIPTION_FREE);
    table->free = subscription->next;
    *subscription =
        (struct subscription){.sub = sub, .state = SUBSCRIPTION_ASKED, .generation = subscription->generation};
    bucket_add(table, place);
    table->count++;
    counters_set(connection);
    return subscription;
}

void subscription_feed_ended(struct subscription *subscription, uint32_t feed)
{
    if (subscription->state != SUBSCRIPTION_ENDING && subscription->feed == feed && !subscription->has_more)
        subscription->feed = 0;
}

/* Most have one feed, which is found at once. */
void subscription_feeds_forget(struct connection *connection, struct subscription *subscription)
{
    struct session *session = session_of(connection);
    uint32_t internal = subscription_internal(session, subscription);
    if (subscription->state == SUBSCRIPTION_ENDING || subscription->feed == 0)
        return;
    struct followed *only = subscription->has_more ? NULL : follows_find(&session->follows, subscription->feed);
    if (only != NULL)
        follows_remove(connection, &session->follows, only);
    else
        follows_remove_owner(connection, &session->follows, internal);
    subscription->feed = 0;
    subscription->has_more = 0;
}

void subscription_free(struct connection *connection, struct subscription *subscription)
{
    struct subscriptions *table = &session_of(connection)->subscriptions;
    subscription_feeds_forget(connection, subscription);
    uint32_t place = (uint32_t)(subscription - table->places), *link = bucket_of(table, subscription->sub);
    while (*link != place)
        link = &table->places[*link].next;
    *link = subscription->next;
    subscription->state = SUBSCRIPTION_FREE;
    subscription->generation++;
    subscription->next = table->free;
    table->free = place;
    table->count--;
    counters_set(connection);
}

void session_subscriptions_fini(struct connection *connection)
{
    struct session *session = session_of(connection);
    arena_drop(connection->arena, session->subscriptions.block);
    session->subscriptions = (struct subscriptions){.count = 0};
}
