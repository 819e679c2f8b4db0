/* The registry. See runtime.h. A name whose actor has ended is as good as free: it is not found, and
 * registry_add takes it over. */
#include "actors/runtime/registry.h"

#include <stdlib.h>
#include <string.h>

#include "actors/runtime/state.h"
#include "actors/runtime/threads.h"

/* Names in a runtime at most, each part: 16 parts of a million. */
#define REGISTRY_PART_MAX (UINT32_C(1) << 20)

struct registry_entry {
    struct registry_entry *next;
    uint64_t hash;
    weir_actor actor;
    size_t size;
    char name[];
};

/* FNV-1a with a final mix, since both the lowest and the highest bits are used. */
static uint64_t name_hash(const char *name, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return hash ^ (hash >> 29);
}

void registry_init(struct registry *registry)
{
    for (int i = 0; i < REGISTRY_PARTS; i++)
        lock_init(&registry->parts[i].lock);
}

void registry_fini(struct registry *registry)
{
    for (int i = 0; i < REGISTRY_PARTS; i++) {
        struct registry_part *part = &registry->parts[i];
        for (uint32_t b = 0; b < part->buckets_count; b++) {
            struct registry_entry *entry = part->buckets[b];
            while (entry) {
                struct registry_entry *next = entry->next;
                free(entry);
                entry = next;
            }
        }
        free(part->buckets);
        pthread_mutex_destroy(&part->lock);
    }
}

static struct registry_part *part_of(struct runtime *runtime, uint64_t hash)
{
    return &runtime->registry.parts[hash >> 60];
}

/* Where the entry's pointer is, or where a new one belongs. Part locked; NULL while it has no buckets. */
static struct registry_entry **slot_of(struct registry_part *part, uint64_t hash, const char *name, size_t size)
{
    if (part->buckets_count == 0)
        return NULL;
    struct registry_entry **slot = &part->buckets[hash & (part->buckets_count - 1)];
    while (*slot && !((*slot)->hash == hash && (*slot)->size == size && memcmp((*slot)->name, name, size) == 0))
        slot = &(*slot)->next;
    return slot;
}

static enum weir_error part_grow(struct registry_part *part)
{
    if (part->count < part->buckets_count)
        return WEIR_OK;
    if (part->count == REGISTRY_PART_MAX)
        return WEIR_FULL;
    uint32_t count = part->buckets_count ? part->buckets_count * 2 : 16;
    struct registry_entry **buckets = calloc(count, sizeof(struct registry_entry *));
    if (!buckets)
        return WEIR_NO_MEMORY;
    for (uint32_t b = 0; b < part->buckets_count; b++) {
        struct registry_entry *entry = part->buckets[b];
        while (entry) {
            struct registry_entry *next = entry->next;
            entry->next = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
            entry = next;
        }
    }
    free(part->buckets);
    part->buckets = buckets;
    part->buckets_count = count;
    return WEIR_OK;
}

static enum weir_error entry_add(struct registry_part *part, uint64_t hash, const char *name, size_t size,
                                 weir_actor actor)
{
    enum weir_error error = part_grow(part);
    if (error)
        return error;
    struct registry_entry *entry = malloc(sizeof *entry + size);
    if (!entry)
        return WEIR_NO_MEMORY;
    entry->hash = hash;
    entry->actor = actor;
    entry->size = size;
    memcpy(entry->name, name, size);
    struct registry_entry **slot = slot_of(part, hash, name, size);
    entry->next = *slot;
    *slot = entry;
    part->count++;
    return WEIR_OK;
}

enum weir_error registry_add(struct runtime *runtime, const char *name, size_t size, weir_actor actor)
{
    if (size > REGISTRY_NAME_SIZE_MAX)
        return WEIR_TOO_BIG;
    uint64_t hash = name_hash(name, size);
    struct registry_part *part = part_of(runtime, hash);
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&part->lock);
    struct registry_entry **slot = slot_of(part, hash, name, size);
    if (!slot || !*slot)
        error = entry_add(part, hash, name, size, actor);
    else if (actor_is_live(runtime, (*slot)->actor))
        error = WEIR_EXISTS;
    else
        (*slot)->actor = actor;
    pthread_mutex_unlock(&part->lock);
    return error;
}

void registry_remove(struct runtime *runtime, const char *name, size_t size)
{
    uint64_t hash = name_hash(name, size);
    struct registry_part *part = part_of(runtime, hash);
    pthread_mutex_lock(&part->lock);
    struct registry_entry **slot = slot_of(part, hash, name, size);
    if (slot && *slot) {
        struct registry_entry *entry = *slot;
        *slot = entry->next;
        part->count--;
        free(entry);
    }
    pthread_mutex_unlock(&part->lock);
}

enum weir_error registry_find(struct runtime *runtime, const char *name, size_t size, weir_actor *out)
{
    uint64_t hash = name_hash(name, size);
    struct registry_part *part = part_of(runtime, hash);
    enum weir_error error = WEIR_NOT_FOUND;
    pthread_mutex_lock(&part->lock);
    struct registry_entry **slot = slot_of(part, hash, name, size);
    if (slot && *slot && actor_is_live(runtime, (*slot)->actor)) {
        *out = (*slot)->actor;
        error = WEIR_OK;
    }
    pthread_mutex_unlock(&part->lock);
    return error;
}
