/* What other threads may ask of the directory. Each topic is looked at under the lock of names, a short read lock, and
 * its own; the callbacks of topics run under neither. */
#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"
#include "clients/wire/name.h"

enum weir_error directory_find(struct directory *directory, struct view name, weir_actor *out)
{
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    pthread_rwlock_rdlock(&directory->names);
    uint32_t index = directory_topic_find(directory, name);
    if (index != INDEX_NONE)
        *out = directory_topic_at(directory, index)->actor;
    pthread_rwlock_unlock(&directory->names);
    return index == INDEX_NONE ? WEIR_NOT_FOUND : WEIR_OK;
}

/* The entry at an index if it matches; under the lock. */
static const struct topic_entry *entry_matching(const struct directory *directory, uint32_t index, struct view pattern)
{
    const struct topic_entry *entry = directory_topic_at(directory, index);
    if (entry == NULL || !pattern_matches(pattern, topic_entry_name(entry)))
        return NULL;
    return entry;
}

static uint32_t index_end(struct directory *directory)
{
    pthread_rwlock_rdlock(&directory->names);
    uint32_t end = directory->topics.used;
    pthread_rwlock_unlock(&directory->names);
    return end;
}

void directory_topics_each(struct directory *directory, struct view pattern,
                           bool (*each)(const struct topic_status *status, void *context), void *context)
{
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    uint32_t end = index_end(directory);
    bool goes_on = true;
    for (uint32_t i = 0; i < end && goes_on; i++) {
        struct topic_status status;
        pthread_rwlock_rdlock(&directory->names);
        const struct topic_entry *entry = entry_matching(directory, i, pattern);
        if (entry != NULL)
            topic_shared_status(directory->runtime, entry->shared, &status);
        pthread_rwlock_unlock(&directory->names);
        if (entry != NULL)
            goes_on = each(&status, context);
    }
}

void directory_feeds_each(struct directory *directory, struct view pattern,
                          bool (*each)(const struct feed_status *status, void *context), void *context)
{
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    uint32_t end = index_end(directory);
    bool goes_on = true;
    for (uint32_t i = 0; i < end && goes_on; i++) {
        pthread_rwlock_rdlock(&directory->names);
        const struct topic_entry *entry = entry_matching(directory, i, pattern);
        if (entry != NULL)
            goes_on = topic_shared_feeds_each(entry->shared, each, context);
        pthread_rwlock_unlock(&directory->names);
    }
}

void directory_status(struct directory *directory, struct directory_status *out)
{
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    struct budget_usage usage;
    budget_usage(directory->state_budget, &usage);
    pthread_rwlock_rdlock(&directory->names);
    *out = (struct directory_status){.topics = directory->topic_count,
                                     .topics_max = directory->topics.capacity,
                                     .subscriptions = atomic_load_explicit(&directory->sub_count, memory_order_relaxed),
                                     .feeds = atomic_load_explicit(&directory->link_count, memory_order_relaxed),
                                     .state_bytes = usage.bytes_used,
                                     .state_bytes_max = directory->state_bytes_max,
                                     .state_bytes_peak = usage.bytes_peak,
                                     .published = directory->published_gone,
                                     .refused = directory->refused_gone,
                                     .duplicates = directory->duplicates_gone,
                                     .dead = directory->dead_gone,
                                     .joins_waiting =
                                         atomic_load_explicit(&directory->admission.waiting, memory_order_relaxed)};
    for (uint32_t i = 0; i < directory->topics.used; i++) {
        const struct topic_entry *entry = directory_topic_at(directory, i);
        if (entry == NULL)
            continue;
        pthread_mutex_lock(&entry->shared->lock);
        out->published += entry->shared->published;
        out->refused += entry->shared->refused;
        out->duplicates += entry->shared->duplicates;
        out->dead += entry->shared->dead;
        pthread_mutex_unlock(&entry->shared->lock);
    }
    pthread_rwlock_unlock(&directory->names);
}
