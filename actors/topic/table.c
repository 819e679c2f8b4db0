/* A hash table that grows by one bucket an entry, see table.h. In the topic's turn. */
#include "actors/topic/table.h"

#include <string.h>

#include "actors/base/assert.h"

#define BUCKETS_MIN 8u

void table_init(struct table *table, struct arena *arena, struct budget *budget)
{
    *table = (struct table){.arena = arena, .budget = budget};
}

void table_fini(struct table *table)
{
    arena_drop(table->arena, table->block);
    *table = (struct table){.arena = table->arena, .budget = table->budget};
}

enum weir_error table_reserve(struct table *table)
{
    if (table->bucket_count < table->capacity)
        return WEIR_OK;
    uint32_t capacity = table->capacity ? table->capacity * 2 : BUCKETS_MIN;
    weir_msg block;
    enum weir_error error = arena_alloc(table->arena, capacity * sizeof table->buckets[0], table->budget, &block);
    if (error)
        return table->capacity > 0 ? WEIR_OK : WEIR_NO_MEMORY;
    struct table_node **buckets = arena_data(table->arena, block);
    if (table->bucket_count > 0)
        memcpy(buckets, table->buckets, table->bucket_count * sizeof buckets[0]);
    arena_drop(table->arena, table->block);
    table->block = block;
    table->buckets = buckets;
    table->capacity = capacity;
    return WEIR_OK;
}

/* Of the buckets that a full round would have, those that are not there yet are still in their lower halves. */
static struct table_node **bucket_of(const struct table *table, uint64_t hash)
{
    uint32_t round = 1;
    while (round < table->bucket_count)
        round *= 2;
    uint64_t at = hash & (round - 1);
    return &table->buckets[at < table->bucket_count ? at : hash & (round / 2 - 1)];
}

/* The next bucket comes into being, and takes its share of the one it was in. */
static void table_split(struct table *table)
{
    uint32_t added = table->bucket_count, round = 1;
    while (round <= added)
        round *= 2;
    struct table_node **from = added > 0 ? &table->buckets[added - round / 2] : NULL;
    struct table_node **to = &table->buckets[added];
    table->bucket_count++;
    *to = NULL;
    while (from != NULL && *from != NULL) {
        struct table_node *node = *from;
        if ((node->hash & (round - 1)) != added) {
            from = &node->next;
            continue;
        }
        *from = node->next;
        *to = node;
        to = &node->next;
        *to = NULL;
    }
}

void table_add(struct table *table, struct table_node *node, uint64_t hash)
{
    if (table->bucket_count < table->capacity)
        table_split(table);
    REQUIRE(table->bucket_count > 0);
    struct table_node **bucket = bucket_of(table, hash);
    *node = (struct table_node){.next = *bucket, .hash = hash};
    *bucket = node;
    table->count++;
}

void table_remove(struct table *table, struct table_node *node)
{
    struct table_node **at = bucket_of(table, node->hash);
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    table->count--;
}

struct table_node *table_first(const struct table *table, uint64_t hash)
{
    return table->bucket_count == 0 ? NULL : *bucket_of(table, hash);
}
