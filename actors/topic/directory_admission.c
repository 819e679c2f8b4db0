/* Feeds that wait for their snapshot's admission: a queue for each subscriber, and the subscribers in turn, so that one
 * with ten thousand feeds costs another's single one the wait for one snapshot. In the directory's turns. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/directory_state.h"

static struct subscriber *owner_at(const struct directory *directory, uint32_t index)
{
    return index_pool_at(&directory->subscribers, index);
}

static struct feed_wait *wait_at(const struct directory *directory, uint32_t link_index)
{
    return index_pool_at(&directory->waits, directory_link_at(directory, link_index)->wait);
}

static void owner_append(struct directory *directory, uint32_t index)
{
    struct subscriber *owner = owner_at(directory, index);
    owner->turn_next = INDEX_NONE;
    owner->turn_prev = directory->admit_last;
    if (directory->admit_last == INDEX_NONE)
        directory->admit_first = index;
    else
        owner_at(directory, directory->admit_last)->turn_next = index;
    directory->admit_last = index;
}

static void owner_remove(struct directory *directory, uint32_t index)
{
    const struct subscriber *owner = owner_at(directory, index);
    if (owner->turn_prev == INDEX_NONE)
        directory->admit_first = owner->turn_next;
    else
        owner_at(directory, owner->turn_prev)->turn_next = owner->turn_next;
    if (owner->turn_next == INDEX_NONE)
        directory->admit_last = owner->turn_prev;
    else
        owner_at(directory, owner->turn_next)->turn_prev = owner->turn_prev;
}

/* WEIR_NO_MEMORY, WEIR_FULL: it cannot wait. */
static enum weir_error wait_begin(struct directory *directory, uint32_t index, uint32_t owner_index, uint64_t cost)
{
    struct subscriber *owner = owner_at(directory, owner_index);
    uint64_t cost_kib = cost / 1024 + 1;
    uint32_t wait_index;
    enum weir_error error = index_pool_take(&directory->waits, &wait_index);
    if (error)
        return error;
    *(struct feed_wait *)index_pool_at(&directory->waits, wait_index) =
        (struct feed_wait){.kib = cost_kib < UINT32_MAX ? (uint32_t)cost_kib : UINT32_MAX,
                           .owner = owner_index,
                           .next = INDEX_NONE,
                           .prev = owner->wait_last};
    directory_link_at(directory, index)->wait = wait_index;
    if (owner->wait_last == INDEX_NONE) {
        owner->wait_first = index;
        owner_append(directory, owner_index);
    } else {
        wait_at(directory, owner->wait_last)->next = index;
    }
    owner->wait_last = index;
    atomic_fetch_add_explicit(&directory->admission.waiting, 1, memory_order_relaxed);
    return WEIR_OK;
}

void directory_wait_end(struct directory *directory, uint32_t index)
{
    struct feed_link *link = directory_link_at(directory, index);
    if (link->wait == INDEX_NONE)
        return;
    const struct feed_wait *wait = wait_at(directory, index);
    struct subscriber *owner = owner_at(directory, wait->owner);
    if (wait->prev == INDEX_NONE)
        owner->wait_first = wait->next;
    else
        wait_at(directory, wait->prev)->next = wait->next;
    if (wait->next == INDEX_NONE)
        owner->wait_last = wait->prev;
    else
        wait_at(directory, wait->next)->prev = wait->prev;
    if (owner->wait_first == INDEX_NONE)
        owner_remove(directory, wait->owner);
    index_pool_give(&directory->waits, link->wait);
    link->wait = INDEX_NONE;
    atomic_fetch_sub_explicit(&directory->admission.waiting, 1, memory_order_relaxed);
}

void directory_waits_end(struct directory *directory, const struct subscriber *owner)
{
    while (owner->wait_first != INDEX_NONE)
        directory_wait_end(directory, owner->wait_first);
}

/* False: the topic has no room to be told. */
static bool admitted_tell(struct turn *turn, const struct directory *directory, const struct feed_link *link)
{
    struct message admitted = {.tag = TOPIC_ADMITTED, .detail = link->feed};
    return turn_control(turn, directory_topic_at(directory, link->topic)->actor, &admitted) != WEIR_FULL;
}

/* The first of the subscriber whose turn it is. False: there is not enough for it now, or no room to tell its topic. */
static bool admit_one(struct turn *turn, struct directory *directory)
{
    uint32_t owner_index = directory->admit_first, index = owner_at(directory, owner_index)->wait_first;
    uint64_t bytes = (uint64_t)wait_at(directory, index)->kib * 1024;
    if (!admission_take(&directory->admission, turn_now_ns(turn), bytes) ||
        !admitted_tell(turn, directory, directory_link_at(directory, index)))
        return false;
    directory_wait_end(directory, index);
    if (owner_at(directory, owner_index)->wait_first != INDEX_NONE) {
        owner_remove(directory, owner_index);
        owner_append(directory, owner_index);
    }
    return true;
}

void directory_admit_step(struct turn *turn, struct directory *directory)
{
    for (int i = 0; i < DIRECTORY_STEP_MAX && directory->admit_first != INDEX_NONE; i++)
        if (!admit_one(turn, directory))
            break;
    if (directory->admit_first == INDEX_NONE || directory->has_admit_timer)
        return;
    weir_timer timer;
    uint64_t now_ns = turn_now_ns(turn), due_ns = admission_due_ns(&directory->admission);
    uint64_t delay_ns = due_ns > now_ns + ADMISSION_PAUSE_MIN_NS ? due_ns - now_ns : ADMISSION_PAUSE_MIN_NS;
    directory->has_admit_timer = timer_start(directory->runtime, directory->actor, delay_ns, 0, 0, &timer) == WEIR_OK;
}

void directory_admit(struct turn *turn, struct directory *directory, const struct message *message)
{
    uint32_t index = directory_link_find(directory, message);
    if (index == INDEX_NONE || directory_link_at(directory, index)->wait != INDEX_NONE)
        return; /* undone meanwhile; or it asks again */
    const struct feed_link *link = directory_link_at(directory, index);
    const struct sub *sub = directory_sub_at(directory, directory_link_sub(directory, index));
    if (sub->subscriber == INDEX_NONE)
        return; /* its subscription is being undone */
    /* Where it cannot wait, the snapshot comes too early rather than never. */
    if (wait_begin(directory, index, sub->subscriber, message->word[1]))
        (void)!admitted_tell(turn, directory, link);
    directory_admit_step(turn, directory);
}
