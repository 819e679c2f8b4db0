/* When topics near the bound on their memory, retained updates are what can be given up: every topic whose ring takes
 * more than half its share is asked to halve it, the idle ones too, since they would keep theirs for ever. In the
 * directory's turns. */
#include "actors/topic/directory_state.h"
#include "actors/topic/state.h"

static bool ring_is_large(const struct topic_entry *entry, size_t size)
{
    pthread_mutex_lock(&entry->shared->lock);
    bool is_large = entry->shared->ring_bytes > size;
    pthread_mutex_unlock(&entry->shared->lock);
    return is_large;
}

static size_t trim_size(const struct directory *directory)
{
    size_t half_share = directory->state_bytes_max / 2 / (directory->topic_count + 1);
    if (half_share < RING_TRIM_SIZE_MIN)
        return RING_TRIM_SIZE_MIN;
    return half_share < RING_TRIM_SIZE_MAX ? half_share : RING_TRIM_SIZE_MAX;
}

void directory_trim_step(struct turn *turn, struct directory *directory)
{
    struct message trim = {.tag = TOPIC_TRIM};
    for (uint32_t left = DIRECTORY_STEP_MAX; left > 0 && directory->trim_next < directory->topics.used; left--) {
        const struct topic_entry *entry = directory_topic_at(directory, directory->trim_next++);
        if (entry != NULL && ring_is_large(entry, directory->trim_size))
            (void)!turn_control(turn, entry->actor, &trim); /* one that has no room for it is asked the next time */
    }
    struct message more = {.tag = DIRECTORY_TRIM};
    if (directory->trim_next >= directory->topics.used || turn_control(turn, directory->actor, &more) != WEIR_OK) {
        directory->trim_next = INDEX_NONE;
        directory->trim_told = 0;
    }
}

void directory_trim_begin(struct turn *turn, struct directory *directory)
{
    directory->trim_told++;
    if (directory->trim_next != INDEX_NONE)
        return; /* under way */
    /* Where there is little to be given up, looking for it all the time would take more than the records. */
    if ((size_t)directory->trim_told * RING_TRIM_LOOKS < directory->topic_count)
        return;
    directory->trim_next = 0;
    directory->trim_size = trim_size(directory);
    directory_trim_step(turn, directory);
}
