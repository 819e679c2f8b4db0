/* Timers. See timers.h. A timer's slot lives while it is armed or its message waits; the generation in
 * its handle and in its message tells a late one. The lock is held for heap work only, never while
 * messages are pushed or workers woken. */
#include "actors/runtime/timers.h"

#include <stdlib.h>
#include <string.h>

#include "actors/base/clock.h"
#include "actors/runtime/orders.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"
#include "actors/runtime/threads.h"

#define TIMERS_MAX (UINT32_C(1) << 24)
#define NOT_IN_HEAP UINT32_MAX
/* Timers fired under one hold of the lock: whoever arms or cancels one meanwhile waits for so many. */
enum { FIRE_BATCH = 16, HEAP_CHILDREN = 4 };
/* About what firing one costs; and which part of the time that a worker spent on turns it then spends on firing, where
 * more are due than one batch: a small one, as each makes a turn for somebody, and whoever has nothing to do with
 * timers waits for all of those. The bound is for turns that lasted because the system ran somebody else. */
#define FIRE_NS 1000
#define FIRE_PART 4
#define FIRE_BATCHES_MAX 16
/* A one-shot timer whose actor's control lane is full tries again after this. */
#define RETRY_NS NS_PER_MS

/* All under the timers' lock. */
struct timer {
    uint32_t link;
    uint32_t generation;     /* never 0 */
    uint32_t next, previous; /* of the same actor */
    uint32_t incident;       /* for a delayed restart */
    bool is_live;
    bool is_waiting; /* fired; its message has not been handled */
    bool is_restart;
    weir_actor to;
    uint64_t period_ns;
    uint64_t word;
};

_Static_assert(sizeof(struct timer) <= 64, "a timer is one slot");
_Static_assert(sizeof(struct timer_entry) * HEAP_CHILDREN == 64, "siblings are one cache line");

static struct timer *timer_at(const struct timers *timers, uint32_t index) { return slots_at(timers->slots, index); }

enum weir_error timers_init(struct timers *timers, struct arena *arena)
{
    lock_init(&timers->lock);
    atomic_init(&timers->next_ns, UINT64_MAX);
    return slots_create(arena, sizeof(struct timer), TIMERS_MAX, &timers->slots);
}

void timers_fini(struct timers *timers)
{
    if (timers->slots)
        slots_cache_flush(timers->slots, &timers->cache);
    slots_destroy(&timers->slots);
    free(timers->heap_memory);
    free(timers->positions);
    pthread_mutex_destroy(&timers->lock);
}

static void heap_place(struct timers *timers, uint32_t position, struct timer_entry entry)
{
    timers->heap[position] = entry;
    timers->positions[entry.timer] = position;
}

static void heap_up(struct timers *timers, uint32_t position, struct timer_entry entry)
{
    while (position > 0) {
        uint32_t parent = (position - 1) / HEAP_CHILDREN;
        if (timers->heap[parent].deadline_ns <= entry.deadline_ns)
            break;
        heap_place(timers, position, timers->heap[parent]);
        position = parent;
    }
    heap_place(timers, position, entry);
}

static void heap_down(struct timers *timers, uint32_t position, struct timer_entry entry)
{
    for (;;) {
        uint32_t first = position * HEAP_CHILDREN + 1;
        if (first >= timers->count)
            break;
        uint32_t least = first;
        for (uint32_t child = first + 1; child < first + HEAP_CHILDREN && child < timers->count; child++) {
            if (timers->heap[child].deadline_ns < timers->heap[least].deadline_ns)
                least = child;
        }
        if (entry.deadline_ns <= timers->heap[least].deadline_ns)
            break;
        heap_place(timers, position, timers->heap[least]);
        position = least;
    }
    heap_place(timers, position, entry);
}

static void next_publish(struct timers *timers)
{
    uint64_t next = timers->count ? timers->heap[0].deadline_ns : UINT64_MAX;
    if (next != atomic_load_explicit(&timers->next_ns, memory_order_relaxed))
        atomic_store_explicit(&timers->next_ns, next, memory_order_seq_cst);
}

/* Entries to leave out so that the children of one parent, from the heap's second entry on, are one cache line. */
static size_t heap_shift(const struct timer_entry *memory)
{
    size_t beyond = (uintptr_t)(memory + 1) % 64;
    return (64 - beyond) % 64 / sizeof *memory;
}

/* Room for one more than are live, so that arming a live timer again cannot fail. */
static enum weir_error heap_reserve(struct timers *timers)
{
    if (timers->live < timers->capacity)
        return WEIR_OK;
    uint32_t capacity = timers->capacity ? timers->capacity * 2 : 1024;
    size_t shift_before = timers->capacity ? (size_t)(timers->heap - timers->heap_memory) : 0;
    /* realloc moves pages of a large block instead of copying them; aligned_alloc could not. */
    struct timer_entry *memory = realloc(timers->heap_memory, (capacity + HEAP_CHILDREN) * sizeof *memory);
    if (!memory)
        return WEIR_NO_MEMORY;
    size_t shift = heap_shift(memory);
    if (shift != shift_before)
        memmove(memory + shift, memory + shift_before, timers->count * sizeof *memory);
    timers->heap_memory = memory;
    timers->heap = memory + shift;
    timers->capacity = capacity;
    return WEIR_OK;
}

/* A place for the position of that slot. */
static enum weir_error positions_reserve(struct timers *timers, uint32_t index)
{
    if (index < timers->positions_count)
        return WEIR_OK;
    uint32_t count = timers->positions_count ? timers->positions_count : 1024;
    while (count <= index)
        count *= 2;
    uint32_t *positions = realloc(timers->positions, count * sizeof *positions);
    if (!positions)
        return WEIR_NO_MEMORY;
    timers->positions = positions;
    timers->positions_count = count;
    return WEIR_OK;
}

static void heap_push(struct timers *timers, uint32_t index, uint64_t deadline_ns)
{
    ENSURE(timers->count < timers->capacity);
    heap_up(timers, timers->count++, (struct timer_entry){.deadline_ns = deadline_ns, .timer = index});
}

static void heap_remove(struct timers *timers, uint32_t position)
{
    timers->positions[timers->heap[position].timer] = NOT_IN_HEAP;
    struct timer_entry last = timers->heap[--timers->count];
    if (position == timers->count)
        return;
    heap_down(timers, position, last);
    heap_up(timers, timers->positions[last.timer], last);
}

static weir_timer timer_handle(const struct timer *timer, uint32_t index)
{
    return (weir_timer){((uint64_t)timer->generation << 32) | index};
}

static struct timer *timer_find(const struct timers *timers, uint64_t bits)
{
    uint32_t index = (uint32_t)bits;
    if (index == 0 || index > timers->slot_last)
        return NULL;
    struct timer *timer = timer_at(timers, index);
    return timer->is_live && timer->generation == (uint32_t)(bits >> 32) ? timer : NULL;
}

static void actor_list_add(struct timers *timers, struct actor *actor, uint32_t index)
{
    struct timer *timer = timer_at(timers, index);
    timer->previous = 0;
    timer->next = atomic_load_explicit(&actor->timers, memory_order_relaxed);
    if (timer->next)
        timer_at(timers, timer->next)->previous = index;
    /* Sequentially consistent with the closing of the mailbox: see timers_end_actor. */
    atomic_store_explicit(&actor->timers, index, memory_order_seq_cst);
}

static void timer_end(struct timers *timers, struct actor *actor, uint32_t index)
{
    struct timer *timer = timer_at(timers, index);
    if (timers->positions[index] != NOT_IN_HEAP)
        heap_remove(timers, timers->positions[index]);
    if (timer->next)
        timer_at(timers, timer->next)->previous = timer->previous;
    if (timer->previous)
        timer_at(timers, timer->previous)->next = timer->next;
    else
        atomic_store_explicit(&actor->timers, timer->next, memory_order_relaxed);
    timer->is_live = false;
    if (++timer->generation == 0)
        timer->generation = 1;
    timers->live--;
    slots_free(timers->slots, &timers->cache, index);
}

/* A live timer's actor has not been freed: that ends its timers first, under the lock. */
static struct actor *timer_actor(struct runtime *runtime, const struct timer *timer)
{
    struct actor *actor = actor_find(runtime, timer->to);
    INVARIANT(actor != NULL);
    return actor;
}

static enum weir_error timer_arm(struct runtime *runtime, const struct timer *like, uint64_t delay_ns, weir_timer *out)
{
    struct timers *timers = &runtime->timers;
    struct actor *actor = actor_find(runtime, like->to);
    uint32_t index = 0;
    if (!actor)
        return WEIR_STALE;
    enum weir_error error = heap_reserve(timers);
    if (!error)
        error = slots_alloc(timers->slots, &timers->cache, &index);
    if (!error && (error = positions_reserve(timers, index)) != WEIR_OK)
        slots_free(timers->slots, &timers->cache, index);
    if (error)
        return error;
    struct timer *timer = timer_at(timers, index);
    uint32_t generation = timer->generation ? timer->generation : 1;
    *timer = *like;
    timer->generation = generation;
    timer->is_live = true;
    timers->live++;
    if (index > timers->slot_last)
        timers->slot_last = index;
    actor_list_add(timers, actor, index);
    uint64_t now = runtime_now_ns(runtime);
    heap_push(timers, index, delay_ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + delay_ns);
    /* The actor may have ended since the look at its handle, or the slot may serve another one. */
    if (mailbox_is_closed(atomic_load_explicit(&actor->mailbox, memory_order_seq_cst)) ||
        actor_find(runtime, like->to) != actor) {
        timer_end(timers, actor, index);
        return WEIR_STALE;
    }
    *out = timer_handle(timer, index);
    return WEIR_OK;
}

static enum weir_error timer_start_like(struct runtime *runtime, const struct timer *like, uint64_t delay_ns,
                                        weir_timer *out)
{
    struct timers *timers = &runtime->timers;
    if (!actor_is_live(runtime, like->to)) /* as far as can be seen without the lock */
        return WEIR_STALE;
    pthread_mutex_lock(&timers->lock);
    uint64_t before = atomic_load_explicit(&timers->next_ns, memory_order_relaxed);
    enum weir_error error = timer_arm(runtime, like, delay_ns, out);
    next_publish(timers);
    bool is_earlier = atomic_load_explicit(&timers->next_ns, memory_order_relaxed) < before;
    pthread_mutex_unlock(&timers->lock);
    if (is_earlier)
        park_timer_moved(runtime);
    return error;
}

enum weir_error timer_start(struct runtime *runtime, weir_actor to, uint64_t delay_ns, uint64_t period_ns,
                            uint64_t word, weir_timer *out)
{
    struct timer like = {.to = to, .period_ns = period_ns, .word = word};
    return timer_start_like(runtime, &like, delay_ns, out);
}

enum weir_error timers_restart_later(struct runtime *runtime, weir_actor actor, uint32_t incident, uint64_t delay_ns)
{
    struct timer like = {.to = actor, .is_restart = true, .incident = incident};
    weir_timer out;
    return timer_start_like(runtime, &like, delay_ns, &out);
}

void timer_cancel(struct runtime *runtime, weir_timer handle)
{
    struct timers *timers = &runtime->timers;
    pthread_mutex_lock(&timers->lock);
    struct timer *timer = timer_find(timers, handle.bits);
    if (timer)
        timer_end(timers, timer_actor(runtime, timer), (uint32_t)handle.bits);
    next_publish(timers);
    pthread_mutex_unlock(&timers->lock);
}

bool timers_claim(struct timers *timers, struct actor *actor, uint64_t bits)
{
    pthread_mutex_lock(&timers->lock);
    struct timer *timer = timer_find(timers, bits);
    bool is_valid = timer && timer->is_waiting;
    if (is_valid) {
        timer->is_waiting = false;
        if (timer->period_ns == 0)
            timer_end(timers, actor, (uint32_t)bits);
    }
    pthread_mutex_unlock(&timers->lock);
    return is_valid;
}

void timers_end_actor(struct timers *timers, struct actor *actor)
{
    /* Sequentially consistent with actor_list_add: the mailbox was closed before this read, and whoever arms
     * a timer looks at the mailbox after adding it. One of the two ends the timer. */
    if (atomic_load_explicit(&actor->timers, memory_order_seq_cst) == 0)
        return;
    pthread_mutex_lock(&timers->lock);
    uint32_t index;
    while ((index = atomic_load_explicit(&actor->timers, memory_order_relaxed)) != 0)
        timer_end(timers, actor, index);
    next_publish(timers);
    pthread_mutex_unlock(&timers->lock);
}

struct due {
    weir_timer handle;
    weir_actor to;
    uint64_t word;
    uint32_t incident;
    bool is_restart;
};

/* Takes one due timer off the heap and puts a periodic one back for its next beat. False: skip this beat. */
static bool fire_one(struct runtime *runtime, uint64_t now_ns, struct due *due)
{
    struct timers *timers = &runtime->timers;
    struct timer_entry entry = timers->heap[0];
    struct timer *timer = timer_at(timers, entry.timer);
    heap_remove(timers, 0);
    *due = (struct due){.handle = timer_handle(timer, entry.timer),
                        .to = timer->to,
                        .word = timer->word,
                        .incident = timer->incident,
                        .is_restart = timer->is_restart};
    bool is_behind = timer->is_waiting;
    timer->is_waiting = true;
    if (timer->is_restart) {
        timer_end(timers, timer_actor(runtime, timer), entry.timer);
    } else if (timer->period_ns) {
        uint64_t late = (now_ns - entry.deadline_ns) / timer->period_ns; /* beats missed altogether */
        heap_push(timers, entry.timer, entry.deadline_ns + (late + 1) * timer->period_ns);
    }
    return !is_behind;
}

/* The message could not be pushed: its lane or the memory is full. */
static void fire_later(struct timers *timers, const struct due *due, uint64_t now_ns)
{
    pthread_mutex_lock(&timers->lock);
    struct timer *timer = timer_find(timers, due->handle.bits);
    if (timer && timer->is_waiting) {
        timer->is_waiting = false;
        if (timers->positions[(uint32_t)due->handle.bits] == NOT_IN_HEAP)
            heap_push(timers, (uint32_t)due->handle.bits, now_ns + RETRY_NS);
        next_publish(timers);
    }
    pthread_mutex_unlock(&timers->lock);
}

static void fire_message(struct runtime *runtime, struct caller *caller, const struct due *due, uint64_t now_ns)
{
    if (due->is_restart) {
        /* STALE: it ended meanwhile, and with it the reason. */
        (void)!orders_restart(runtime, caller, due->to, due->incident);
        return;
    }
    struct message message = {.tag = MESSAGE_TIMER, .word = {due->word, due->handle.bits}};
    enum weir_error error =
        caller_post(runtime, caller, WEIR_ACTOR_NONE, due->to, &message, ENVELOPE_CONTROL, MAILBOX_CONTROL_RUNTIME_MAX);
    if (error == WEIR_FULL || error == WEIR_NO_MEMORY)
        fire_later(&runtime->timers, due, now_ns);
}

void timers_fire(struct runtime *runtime, struct caller *caller, uint64_t now_ns, uint64_t spent_ns)
{
    struct timers *timers = &runtime->timers;
    struct due due[FIRE_BATCH];
    uint32_t looked = FIRE_BATCH;
    uint64_t batches_max = 1 + spent_ns / FIRE_PART / (FIRE_BATCH * FIRE_NS);
    if (batches_max > FIRE_BATCHES_MAX)
        batches_max = FIRE_BATCHES_MAX;
    for (uint64_t batch = 0; looked == FIRE_BATCH && batch < batches_max; batch++) {
        uint32_t count = 0;
        looked = 0;
        pthread_mutex_lock(&timers->lock);
        while (looked < FIRE_BATCH && timers->count > 0 && timers->heap[0].deadline_ns <= now_ns) {
            count += fire_one(runtime, now_ns, &due[count]);
            looked++;
        }
        next_publish(timers);
        pthread_mutex_unlock(&timers->lock);
        for (uint32_t i = 0; i < count; i++)
            fire_message(runtime, caller, &due[i], now_ns);
    }
}
