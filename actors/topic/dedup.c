/* Windows of publishers' numbers, see dedup.h. In the topic's turn. */
#include "actors/topic/dedup.h"

#include "actors/base/assert.h"
#include "actors/topic/map_tree.h"
#include "actors/topic/topic_limits.h"

#define WINDOW_MIN 8u

void dedup_init(struct dedup *dedup, struct arena *arena, struct budget *budget, uint32_t publishers_max,
                uint32_t window_max, uint64_t seed)
{
    *dedup = (struct dedup){.arena = arena, .budget = budget, .seed = seed};
    dedup->publishers_max = publishers_max ? publishers_max : DEDUP_PUBLISHERS_DEFAULT;
    dedup->window_max = window_max ? window_max : DEDUP_RECORDS_DEFAULT;
    table_init(&dedup->table, arena, budget);
}

static void lru_unlink(struct dedup *dedup, struct dedup_publisher *publisher)
{
    *(publisher->newer ? &publisher->newer->older : &dedup->newest) = publisher->older;
    *(publisher->older ? &publisher->older->newer : &dedup->oldest) = publisher->newer;
}

static void lru_push(struct dedup *dedup, struct dedup_publisher *publisher)
{
    publisher->newer = NULL;
    publisher->older = dedup->newest;
    *(dedup->newest ? &dedup->newest->newer : &dedup->oldest) = publisher;
    dedup->newest = publisher;
}

static void publisher_forget(struct dedup *dedup, struct dedup_publisher *publisher)
{
    lru_unlink(dedup, publisher);
    table_remove(&dedup->table, &publisher->node);
    arena_drop(dedup->arena, publisher->window);
    arena_drop(dedup->arena, publisher->self);
}

void dedup_clear(struct dedup *dedup)
{
    while (dedup->oldest != NULL)
        publisher_forget(dedup, dedup->oldest);
    if (dedup->arena != NULL)
        table_fini(&dedup->table);
}

static struct dedup_publisher *publisher_find(const struct dedup *dedup, struct view name, uint64_t hash)
{
    for (struct table_node *node = table_first(&dedup->table, hash); node != NULL; node = node->next) {
        struct dedup_publisher *publisher = (struct dedup_publisher *)node;
        if (node->hash == hash && view_is_same(view_of(publisher->name, publisher->name_size), name))
            return publisher;
    }
    return NULL;
}

/* A block from the budget; those silent for longest give theirs back for it, all but `kept`. */
static enum weir_error block_alloc(struct dedup *dedup, size_t size, const struct dedup_publisher *kept, weir_msg *out)
{
    enum weir_error error = arena_alloc(dedup->arena, size, dedup->budget, out);
    for (int i = 0; error == WEIR_NO_MEMORY && i < DEDUP_RELIEF_MAX; i++) {
        if (dedup->oldest == NULL || dedup->oldest == kept)
            break;
        publisher_forget(dedup, dedup->oldest);
        error = arena_alloc(dedup->arena, size, dedup->budget, out);
    }
    return error ? WEIR_NO_MEMORY : WEIR_OK;
}

enum weir_error dedup_ensure(struct dedup *dedup, struct view name, struct dedup_publisher **out)
{
    uint64_t hash = map_hash(name, dedup->seed);
    struct dedup_publisher *publisher = publisher_find(dedup, name, hash);
    weir_msg block;
    if (publisher != NULL) {
        lru_unlink(dedup, publisher);
        lru_push(dedup, publisher);
        *out = publisher;
        return WEIR_OK;
    }
    enum weir_error error = table_reserve(&dedup->table);
    if (!error)
        error = block_alloc(dedup, sizeof *publisher + name.size, NULL, &block);
    if (error)
        return error;
    if (dedup->table.count >= dedup->publishers_max)
        publisher_forget(dedup, dedup->oldest);
    publisher = arena_data(dedup->arena, block);
    *publisher = (struct dedup_publisher){.self = block, .name_size = (uint32_t)name.size};
    memcpy(publisher->name, name.data, name.size);
    table_add(&dedup->table, &publisher->node, hash);
    lru_push(dedup, publisher);
    *out = publisher;
    return WEIR_OK;
}

static struct dedup_entry *entry_at(const struct dedup_publisher *publisher, uint32_t index)
{
    return &publisher->entries[(publisher->first + index) & (publisher->capacity - 1)];
}

/* How many entries have lower numbers. The newest are asked for most. */
static uint32_t entries_below(const struct dedup_publisher *publisher, uint64_t number)
{
    uint32_t low = 0, high = publisher->count;
    if (high == 0 || entry_at(publisher, high - 1)->number < number)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(publisher, middle)->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum dedup_answer dedup_find(const struct dedup_publisher *publisher, uint64_t number, uint64_t hash, uint64_t *seq)
{
    if (number < publisher->known_from)
        return DEDUP_FORGOTTEN;
    uint32_t at = entries_below(publisher, number);
    if (at == publisher->count || entry_at(publisher, at)->number != number)
        return DEDUP_NEW;
    *seq = entry_at(publisher, at)->seq;
    return entry_at(publisher, at)->hash == hash ? DEDUP_KNOWN : DEDUP_OTHER;
}

enum weir_error dedup_reserve(struct dedup *dedup, struct dedup_publisher *publisher)
{
    if (publisher->count < publisher->capacity || publisher->count >= dedup->window_max)
        return WEIR_OK;
    uint32_t capacity = publisher->capacity ? publisher->capacity * 2 : WINDOW_MIN;
    weir_msg block;
    enum weir_error error = block_alloc(dedup, capacity * sizeof publisher->entries[0], publisher, &block);
    if (error)
        return error;
    struct dedup_entry *entries = arena_data(dedup->arena, block);
    for (uint32_t i = 0; i < publisher->count; i++)
        entries[i] = *entry_at(publisher, i);
    arena_drop(dedup->arena, publisher->window);
    publisher->window = block;
    publisher->entries = entries;
    publisher->capacity = capacity;
    publisher->first = 0;
    return WEIR_OK;
}

void dedup_commit(struct dedup *dedup, struct dedup_publisher *publisher, const struct dedup_entry *entry)
{
    REQUIRE(publisher->capacity > 0 && entry->number >= publisher->known_from);
    if (publisher->count == dedup->window_max || publisher->count == publisher->capacity) {
        /* The oldest is forgotten, and with it all that is older; that may be the one that came late itself. */
        uint64_t oldest = entry_at(publisher, 0)->number;
        publisher->known_from = 1 + (entry->number < oldest ? entry->number : oldest);
        if (entry->number < oldest)
            return;
        publisher->first = (publisher->first + 1) & (publisher->capacity - 1);
        publisher->count--;
    }
    /* Numbers come in order but for those that were held back; these find their place among the newer. */
    uint32_t at = entries_below(publisher, entry->number);
    publisher->count++;
    for (uint32_t i = publisher->count - 1; i > at; i--)
        *entry_at(publisher, i) = *entry_at(publisher, i - 1);
    *entry_at(publisher, at) = *entry;
}
