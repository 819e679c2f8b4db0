/* When topics near the bound on their memory, retained updates are what can be given up: every topic is asked to halve
 * its ring, the idle ones too, since they would keep theirs for ever. In the directory's turns. */
#include "actors/topic/directory_state.h"
#include "actors/topic/state.h"

static bool ring_is_large(const struct topic_entry *entry)
{
    pthread_mutex_lock(&entry->shared->lock);
    bool is_large = entry->shared->ring_bytes > RING_TRIM_SIZE_MIN;
    pthread_mutex_unlock(&entry->shared->lock);
    return is_large;
}

void directory_trim_step(struct turn *turn, struct directory *directory)
{
    struct message trim = {.tag = TOPIC_TRIM};
    for (uint32_t left = DIRECTORY_STEP_MAX; left > 0 && directory->trim_next < directory->topics.used; left--) {
        const struct topic_entry *entry = directory_topic_at(directory, directory->trim_next++);
        if (entry != NULL && ring_is_large(entry))
            (void)!turn_control(turn, entry->actor, &trim); /* one that has no room for it is asked the next time */
    }
    struct message more = {.tag = DIRECTORY_TRIM};
    if (directory->trim_next >= directory->topics.used || turn_control(turn, directory->actor, &more) != WEIR_OK)
        directory->trim_next = INDEX_NONE;
}

void directory_trim_begin(struct turn *turn, struct directory *directory)
{
    if (directory->trim_next != INDEX_NONE)
        return; /* under way */
    directory->trim_next = 0;
    directory_trim_step(turn, directory);
}
