/* A hash table of nodes that stand in their owners' structures: it finds, and owns nothing. It grows by one bucket an
 * entry (linear hashing), so that no step takes longer with its size but for the copy of the bucket array when that is
 * full. Used by the topic's turn only. */
#ifndef ACTORS_TOPIC_TABLE_H
#define ACTORS_TOPIC_TABLE_H

#include "actors/memory/arena.h"

struct table_node {
    struct table_node *next;
    uint64_t hash;
};

struct table {
    struct arena *arena;
    struct budget *budget;
    weir_msg block;
    struct table_node **buckets; /* in block */
    uint32_t capacity;           /* buckets there is room for */
    uint32_t bucket_count, count;
};

void table_init(struct table *table, struct arena *arena, struct budget *budget);
/* The nodes are their owners'. */
void table_fini(struct table *table);
/* After this one table_add cannot fail. WEIR_NO_MEMORY only for an empty table: a full one serves on, more slowly. */
WEIR_MUST_USE enum weir_error table_reserve(struct table *table);
void table_add(struct table *table, struct table_node *node, uint64_t hash);
void table_remove(struct table *table, struct table_node *node);
/* The first of the nodes in the bucket of that hash, which the caller compares; NULL: none. */
struct table_node *table_first(const struct table *table, uint64_t hash);

#endif
