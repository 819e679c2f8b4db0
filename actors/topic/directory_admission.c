/* Feeds that wait for their snapshot's admission: a queue for each subscriber, and the subscribers in turn, so that one
 * with ten thousand feeds costs another's single one the wait for one snapshot. In the directory's turns. */
#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/topic/directory_state.h"

static struct subscriber *owner_at(const struct directory *directory, uint32_t index)
{
    return directory->subscribers.items[index];
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

static void wait_begin(struct directory *directory, uint32_t index, uint32_t owner_index, uint64_t cost)
{
    struct feed_link *link = directory_link_at(directory, index);
    struct subscriber *owner = owner_at(directory, owner_index);
    uint64_t cost_kib = cost / 1024 + 1;
    link->wait_kib = cost_kib < UINT32_MAX ? (uint32_t)cost_kib : UINT32_MAX;
    link->wait_owner = owner_index;
    link->wait_next = INDEX_NONE;
    link->wait_prev = owner->wait_last;
    if (owner->wait_last == INDEX_NONE) {
        owner->wait_first = index;
        owner_append(directory, owner_index);
    } else {
        directory_link_at(directory, owner->wait_last)->wait_next = index;
    }
    owner->wait_last = index;
    atomic_fetch_add_explicit(&directory->admission.waiting, 1, memory_order_relaxed);
}

void directory_wait_end(struct directory *directory, uint32_t index)
{
    struct feed_link *link = directory_link_at(directory, index);
    if (link->wait_kib == 0)
        return;
    struct subscriber *owner = owner_at(directory, link->wait_owner);
    link->wait_kib = 0;
    if (link->wait_prev == INDEX_NONE)
        owner->wait_first = link->wait_next;
    else
        directory_link_at(directory, link->wait_prev)->wait_next = link->wait_next;
    if (link->wait_next == INDEX_NONE)
        owner->wait_last = link->wait_prev;
    else
        directory_link_at(directory, link->wait_next)->wait_prev = link->wait_prev;
    if (owner->wait_first == INDEX_NONE)
        owner_remove(directory, link->wait_owner);
    atomic_fetch_sub_explicit(&directory->admission.waiting, 1, memory_order_relaxed);
}

void directory_waits_end(struct directory *directory, const struct subscriber *owner)
{
    while (owner->wait_first != INDEX_NONE)
        directory_wait_end(directory, owner->wait_first);
}

/* The first of the subscriber whose turn it is. False: there is not enough for it now, or no room to tell its topic. */
static bool admit_one(struct turn *turn, struct directory *directory)
{
    uint32_t owner_index = directory->admit_first, index = owner_at(directory, owner_index)->wait_first;
    const struct feed_link *link = directory_link_at(directory, index);
    if (!admission_take(&directory->admission, turn_now_ns(turn), (uint64_t)link->wait_kib * 1024))
        return false;
    struct message admitted = {.tag = TOPIC_ADMITTED, .detail = link->feed};
    if (turn_control(turn, directory_topic_at(directory, link->topic)->actor, &admitted) == WEIR_FULL)
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
    if (index == INDEX_NONE || directory_link_at(directory, index)->wait_kib != 0)
        return; /* undone meanwhile; or it asks again */
    const struct sub *sub = directory_sub_at(directory, directory_link_at(directory, index)->sub);
    if (sub->subscriber == INDEX_NONE)
        return; /* its subscription is being undone */
    wait_begin(directory, index, sub->subscriber, message->word[1]);
    directory_admit_step(turn, directory);
}
