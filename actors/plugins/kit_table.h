/* A bounded table from bytes to entries that also keeps their order, for plugins that hold something for each key. Its
 * memory is the instance's (weir_alloc). Copy it beside kit.h.
 *
 * An entry is a struct of yours that begins with struct kit_entry. The order is that of adding and touching, never that
 * of hashes, so that snapshots and sweeps are the same in every run. */
#ifndef ACTORS_PLUGINS_KIT_TABLE_H
#define ACTORS_PLUGINS_KIT_TABLE_H

#include "actors/plugins/kit.h"

struct kit_entry {
    struct kit_entry *chain; /* of the same bucket */
    struct kit_entry *older, *newer;
    uint64_t hash;
    struct weir_bytes id; /* behind the struct that this begins */
};

struct kit_table {
    struct kit_entry **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count, max;
    struct kit_entry *oldest, *newest;
    uint64_t seed;
};

enum { KIT_BUCKETS_FIRST = 64 };

static inline uint64_t kit_rotate(uint64_t word, unsigned by) { return word << by | word >> (64 - by); }

static inline void kit_sip_round(uint64_t v[4])
{
    v[0] += v[1], v[2] += v[3];
    v[1] = kit_rotate(v[1], 13) ^ v[0], v[3] = kit_rotate(v[3], 16) ^ v[2];
    v[0] = kit_rotate(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = kit_rotate(v[1], 17) ^ v[2], v[3] = kit_rotate(v[3], 21) ^ v[0];
    v[2] = kit_rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with fewer rounds, as in hash tables of
 * Rust and Python): keys are chosen by strangers. */
static inline uint64_t kit_hash(uint64_t seed, struct weir_bytes bytes)
{
    uint64_t v[4] = {seed ^ UINT64_C(0x736f6d6570736575), seed ^ UINT64_C(0x646f72616e646f6d),
                     seed ^ UINT64_C(0x6c7967656e657261), seed ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = (const uint8_t *)bytes.data;
    size_t left = bytes.size;
    uint64_t word = 0;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        v[3] ^= word;
        kit_sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    if (left > 0)
        memcpy(&word, at, left);
    word |= (uint64_t)bytes.size << 56;
    v[3] ^= word;
    kit_sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        kit_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Not more than max entries. False: beyond the memory budget. */
static inline bool kit_table_init(struct weir_self *self, struct kit_table *table, uint32_t max)
{
    memset(table, 0, sizeof *table);
    table->buckets = (struct kit_entry **)weir_alloc(self, KIT_BUCKETS_FIRST * sizeof *table->buckets);
    if (table->buckets == NULL)
        return false;
    memset(table->buckets, 0, KIT_BUCKETS_FIRST * sizeof *table->buckets);
    table->bucket_count = KIT_BUCKETS_FIRST;
    table->max = max;
    /* Where the table lies is as unguessable as the system makes it, and nothing that is emitted depends on it. */
    table->seed = (uint64_t)(uintptr_t)table->buckets * UINT64_C(0x9e3779b97f4a7c15);
    return true;
}

static inline struct kit_entry *kit_table_find(const struct kit_table *table, struct weir_bytes id)
{
    uint64_t hash = kit_hash(table->seed, id);
    struct kit_entry *entry = table->buckets[hash & (table->bucket_count - 1)];
    while (entry != NULL && (entry->hash != hash || !kit_same(entry->id, id)))
        entry = entry->chain;
    return entry;
}

static inline void kit_order_append(struct kit_table *table, struct kit_entry *entry)
{
    entry->older = table->newest;
    entry->newer = NULL;
    if (table->newest != NULL)
        table->newest->newer = entry;
    else
        table->oldest = entry;
    table->newest = entry;
}

static inline void kit_order_remove(struct kit_table *table, struct kit_entry *entry)
{
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        table->oldest = entry->newer;
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        table->newest = entry->older;
}

/* Makes it the newest. */
static inline void kit_table_touch(struct kit_table *table, struct kit_entry *entry)
{
    kit_order_remove(table, entry);
    kit_order_append(table, entry);
}

/* Twice the buckets, as long as there is memory for them: with fewer the table is slower, not wrong. */
static inline void kit_table_grow(struct weir_self *self, struct kit_table *table)
{
    uint32_t count = table->bucket_count * 2;
    struct kit_entry **buckets = (struct kit_entry **)weir_alloc(self, count * sizeof *buckets);
    if (buckets == NULL)
        return;
    memset(buckets, 0, count * sizeof *buckets);
    for (struct kit_entry *entry = table->oldest; entry != NULL; entry = entry->newer) {
        entry->chain = buckets[entry->hash & (count - 1)];
        buckets[entry->hash & (count - 1)] = entry;
    }
    weir_free(self, table->buckets);
    table->buckets = buckets;
    table->bucket_count = count;
}

/* Adds what is not there yet, zeroed, as the newest. NULL: there are max entries (see kit_table_is_full), or the memory
 * budget is used up. */
static inline struct kit_entry *kit_table_add(struct weir_self *self, struct kit_table *table, struct weir_bytes id,
                                              size_t struct_size)
{
    struct kit_entry *entry = NULL;
    if (table->count >= table->max)
        return NULL;
    if (table->count >= table->bucket_count)
        kit_table_grow(self, table);
    entry = (struct kit_entry *)weir_alloc(self, struct_size + id.size);
    if (entry == NULL)
        return NULL;
    memset(entry, 0, struct_size);
    if (id.size > 0)
        memcpy((char *)entry + struct_size, id.data, id.size);
    entry->id = weir_bytes_of((char *)entry + struct_size, id.size);
    entry->hash = kit_hash(table->seed, id);
    entry->chain = table->buckets[entry->hash & (table->bucket_count - 1)];
    table->buckets[entry->hash & (table->bucket_count - 1)] = entry;
    kit_order_append(table, entry);
    table->count++;
    return entry;
}

static inline bool kit_table_is_full(const struct kit_table *table) { return table->count >= table->max; }

/* Takes it out and gives it back; what it points to is the caller's to free before. */
static inline void kit_table_remove(struct weir_self *self, struct kit_table *table, struct kit_entry *entry)
{
    struct kit_entry **link = &table->buckets[entry->hash & (table->bucket_count - 1)];
    while (*link != entry)
        link = &(*link)->chain;
    *link = entry->chain;
    kit_order_remove(table, entry);
    table->count--;
    weir_free(self, entry);
}

/* Frees entries (see kit_table_remove) and table. */
static inline void kit_table_fini(struct weir_self *self, struct kit_table *table)
{
    while (table->oldest != NULL)
        kit_table_remove(self, table, table->oldest);
    weir_free(self, table->buckets);
    memset(table, 0, sizeof *table);
}

#endif
