/* Hashes of records that are named by an index: children by their actor, plans by what they say. Called by tree.c and
 * plan.c, under the tree's lock. */
#include "actors/supervise/tree.h"

#include <string.h>

/* Buckets to begin with. */
#define BUCKETS_MIN 64

static uint32_t *bucket_of(const struct supervision *tree, const struct index_table *table, uint32_t hash)
{
    uint32_t *buckets = arena_data(tree->arena, table->block);
    return &buckets[hash & (table->buckets - 1)];
}

static void chain(const struct supervision *tree, const struct index_table *table, const struct index_kind *kind,
                  uint32_t index)
{
    uint32_t *bucket = bucket_of(tree, table, kind->hash(tree, index));
    *kind->next(tree, index) = *bucket;
    *bucket = index;
}

/* Doubles the buckets. When there is no memory for it, it is tried again with the next record. */
static enum weir_error grow(struct supervision *tree, struct index_table *table, const struct index_kind *kind)
{
    struct index_table grown = {.buckets = table->buckets ? table->buckets * 2 : BUCKETS_MIN, .count = table->count};
    enum weir_error error = arena_alloc(tree->arena, grown.buckets * sizeof(uint32_t), NULL, &grown.block);
    if (error)
        return table->buckets ? WEIR_OK : error;
    memset(arena_data(tree->arena, grown.block), 0, grown.buckets * sizeof(uint32_t));
    for (uint32_t i = 0; i < table->buckets; i++) {
        for (uint32_t index = *bucket_of(tree, table, i), next; index; index = next) {
            next = *kind->next(tree, index);
            chain(tree, &grown, kind, index);
        }
    }
    arena_drop(tree->arena, table->block);
    *table = grown;
    return WEIR_OK;
}

enum weir_error tree_index_add(struct supervision *tree, struct index_table *table, const struct index_kind *kind,
                               uint32_t index)
{
    if (table->count >= (uint64_t)table->buckets * kind->load) {
        enum weir_error error = grow(tree, table, kind);
        if (error)
            return error;
    }
    chain(tree, table, kind, index);
    table->count++;
    return WEIR_OK;
}

void tree_index_remove(struct supervision *tree, struct index_table *table, const struct index_kind *kind,
                       uint32_t index)
{
    uint32_t *at = bucket_of(tree, table, kind->hash(tree, index));
    while (*at != index) {
        INVARIANT(*at != 0);
        at = kind->next(tree, *at);
    }
    *at = *kind->next(tree, index);
    table->count--;
}

uint32_t tree_index_first(const struct supervision *tree, const struct index_table *table, uint32_t hash)
{
    return table->buckets ? *bucket_of(tree, table, hash) : 0;
}
