/* The thread that waits for all children; processes.h says what for.
 *
 *   1. `lock` guards the table and what processes.h calls the watcher's. It is held over no bell.
 *   2. A bell runs on the watcher's thread, outside the lock; `ringing` says whose. process_remove waits until it is
 * not its own, unless it is called from inside that bell, after which the watcher touches the process no more.
 *   3. A child's bell is an eventfd that is never read: edge-triggered epoll tells of each write.
 *   4. Time is looked at in ticks, and ticks come only while a child has something to answer.
 *   5. When the spawner ends, its children have ended, and the watcher starts another one: at once, but for one that
 *      ended soon after its start. Until then no process can be added. */
#include "actors/plugin/processes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "actors/plugin/child.h"
#include "actors/plugin/plugin_limits.h"

/* A tick is a fourth of the shortest budget, so that an endless loop is found out well before twice the budget; within
 * these, so that ticks cost little and long budgets are kept, too. */
#define TICK_NS_MIN (2 * NS_PER_MS)
#define TICK_NS_MAX (100 * NS_PER_MS)
/* Ticks go on for so long when nobody has anything to answer, so that a child that is asked now and then does not cost
 * a wake-up of the watcher each time. */
#define TICK_LINGER_NS NS_PER_S
#define EVENTS_MAX 64
/* Far more than a child that keeps the rules of its ring can come to, and done with in milliseconds. */
#define RINGS_FOR_NOTHING_MAX 1000
/* A spawner that lives so long is a good one. After one that does not, the next one comes after a pause, twice as long
 * each time: what ends it, ends it again, and each start costs some milliseconds. */
#define SPAWNER_GOOD_NS NS_PER_S
#define SPAWNER_PAUSE_NS_MIN (10 * NS_PER_MS)
#define SPAWNER_PAUSE_NS_MAX (5 * NS_PER_S)
/* Not the ids of children, which count from 1. */
#define ID_SPAWNER UINT64_MAX
#define ID_CONTROL (UINT64_MAX - 1)

static struct {
    bool has_main;           /* written by processes_main, before there is any thread */
    struct spawner *spawner; /* NULL: it is gone, and the next one starts at again_ns */
    uint64_t started_ns, pause_ns, again_ns;
    int epoll, control; /* control: an eventfd that ends the thread or starts the ticks */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t rung;
    struct process *ringing;
    struct process *table[SPAWNER_CHILDREN_MAX];
    uint64_t next_id;
    _Atomic bool is_stopping; /* written by processes_close, read by the watcher; relaxed: the eventfd orders them */
    _Atomic bool is_ticking;  /* set by actors and the watcher, cleared by the watcher: see ticks_run */
    uint64_t tick_ns, busy_ns;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER, .epoll = -1, .control = -1};

static bool is_watcher(void) { return all.has_thread && pthread_equal(pthread_self(), all.thread) != 0; }

static struct process *process_find(uint64_t id)
{
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (all.table[i] != NULL && all.table[i]->id == id)
            return all.table[i];
    }
    return NULL;
}

/* With the lock held, which is given away meanwhile. */
static void process_ring(struct process *process, uint64_t now_ns)
{
    struct plugin_bell bell = process->bell;
    process->rung_ns = now_ns;
    all.ringing = process;
    pthread_mutex_unlock(&all.lock);
    bell.ring(bell.context);
    pthread_mutex_lock(&all.lock);
    all.ringing = NULL;
    pthread_cond_broadcast(&all.rung);
}

static void process_end_set(struct process *process, const struct process_end *end)
{
    if (atomic_load_explicit(&process->has_ended, memory_order_relaxed))
        return;
    process->end = *end;
    process->end.is_late = process->is_late;
    process->end.is_loud = process->is_loud;
    atomic_store_explicit(&process->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&process->has_ended, true, memory_order_release);
}

/* ------------------------------------------------------------------------------- on the watcher's thread */

static bool epoll_add(int fd, uint64_t id, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.u64 = id}};
    return epoll_ctl(all.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void spawner_again(uint64_t now_ns)
{
    char why[PLUGIN_TEXT_SIZE] = "it cannot be waited for";
    all.started_ns = now_ns;
    if (spawner_open(&all.spawner, why, sizeof why) == WEIR_OK &&
        epoll_add(spawner_fd(all.spawner), ID_SPAWNER, EPOLLIN)) {
        log_info("plugin.spawner_started", "pid=%d", (int)spawner_pid(all.spawner));
        return;
    }
    spawner_close(&all.spawner);
    all.pause_ns = all.pause_ns * 2 < SPAWNER_PAUSE_NS_MAX ? all.pause_ns * 2 : SPAWNER_PAUSE_NS_MAX;
    all.again_ns = now_ns + all.pause_ns;
    log_error("plugin.spawner_failed", "again_ms=%llu what=\"%s\"", (unsigned long long)(all.pause_ns / NS_PER_MS),
              why);
}

static void spawner_gone(uint64_t now_ns)
{
    struct process_end end = {.error = ESRCH};
    bool was_good = now_ns - all.started_ns >= SPAWNER_GOOD_NS;
    log_error("plugin.spawner_gone",
              "what=\"the process that starts plugins has ended, and its children with it: another one "
              "is started\"");
    (void)epoll_ctl(all.epoll, EPOLL_CTL_DEL, spawner_fd(all.spawner), NULL);
    spawner_close(&all.spawner);
    if (was_good)
        all.pause_ns = SPAWNER_PAUSE_NS_MIN;
    else if ((all.pause_ns *= 2) > SPAWNER_PAUSE_NS_MAX)
        all.pause_ns = SPAWNER_PAUSE_NS_MAX;
    all.again_ns = now_ns + all.pause_ns;
    /* Before the bells: who is told starts anew. */
    if (was_good)
        spawner_again(now_ns);
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (all.table[i] != NULL) {
            process_end_set(all.table[i], &end);
            process_ring(all.table[i], now_ns);
        }
    }
}

static void spawner_events(void)
{
    struct spawner_event event;
    enum weir_error error;
    while ((error = spawner_next(all.spawner, &event)) == WEIR_OK) {
        struct process *process = process_find(event.id);
        if (process == NULL)
            continue;
        /* What happens in a start that takes long is worth a look, too: its actor is rung to tell of the process. */
        if (event.kind == SPAWNER_STARTED)
            atomic_store_explicit(&process->pid, event.pid, memory_order_relaxed);
        else
            process_end_set(process, &(struct process_end){.error = event.kind == SPAWNER_FAILED ? event.error : 0,
                                                           .status = event.status});
        process_ring(process, clock_now_ns());
    }
    if (error == WEIR_CLOSED)
        spawner_gone(clock_now_ns());
}

/* Looks after one child; true when it has something to answer. */
static bool process_tick(struct process *process, uint64_t now_ns)
{
    /* Pairs with the release in host_process.c: since_ns is at least as new. */
    if (atomic_load_explicit(&process->waiting, memory_order_acquire) == 0 ||
        atomic_load_explicit(&process->has_ended, memory_order_relaxed))
        return false;
    uint64_t budget_ns = atomic_load_explicit(&process->budget_ns, memory_order_relaxed);
    uint64_t tick_ns = budget_ns / 4 < TICK_NS_MIN ? TICK_NS_MIN : budget_ns / 4;
    if (tick_ns < all.tick_ns)
        all.tick_ns = tick_ns;
    /* In this order: whoever sees what an actor has taken (head) sees that it is draining, or that it is so no more,
     * and then also since_ns as of then. */
    uint64_t head = atomic_load_explicit(&process->ring->own->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&process->ring->other->tail, memory_order_acquire);
    bool is_draining = atomic_load_explicit(&process->is_draining, memory_order_acquire);
    uint64_t since_ns = atomic_load_explicit(&process->since_ns, memory_order_acquire);
    if (is_draining || head != tail) {
        /* A child wakes the broker once for many answers; what it is stuck in now may be the next one's input. */
        if (now_ns - process->rung_ns >= tick_ns)
            process_ring(process, now_ns);
    } else if (now_ns > since_ns && now_ns - since_ns >= budget_ns && !process->is_late) {
        process->is_late = true;
        spawner_kill(all.spawner, process->id);
    }
    return true;
}

static void ticks_run(uint64_t now_ns)
{
    all.tick_ns = TICK_NS_MAX;
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (all.table[i] != NULL && process_tick(all.table[i], now_ns))
            all.busy_ns = now_ns;
    }
    if (now_ns - all.busy_ns < TICK_LINGER_NS)
        return;
    /* An actor stores `waiting`, then exchanges is_ticking, as is done here, and then `waiting` is read once more. Of
     * two exchanges the later one sees the earlier one's value and all before it: either the actor sees that there are
     * no ticks any more, or it is seen here that something waits. */
    (void)atomic_exchange_explicit(&all.is_ticking, false, memory_order_acq_rel);
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (all.table[i] != NULL && atomic_load_explicit(&all.table[i]->waiting, memory_order_acquire) > 0)
            atomic_store_explicit(&all.is_ticking, true, memory_order_release);
    }
}

static void control_take(void)
{
    uint64_t count = 0;
    ssize_t size = read(all.control, &count, sizeof count);
    (void)size;
    all.busy_ns = clock_now_ns();
}

/* A child's bell. One that rings in a loop would keep this thread and its actor busy for ever: a child rings when it
 * has written or taken something since, and of two such rings the first may show what both are about. */
static void bell_take(struct process *process, uint64_t now_ns)
{
    bool has_moved = channel_has_moved(process->ring, &process->moved);
    process->rings_for_nothing = has_moved ? 0 : process->rings_for_nothing + 1;
    if (process->rings_for_nothing == RINGS_FOR_NOTHING_MAX && all.spawner != NULL) {
        process->is_loud = true;
        spawner_kill(all.spawner, process->id);
    }
    if (process->rings_for_nothing < RINGS_FOR_NOTHING_MAX)
        process_ring(process, now_ns);
}

static void event_take(uint64_t id, uint64_t now_ns)
{
    if (id == ID_CONTROL) {
        control_take();
    } else if (id == ID_SPAWNER) {
        if (all.spawner != NULL)
            spawner_events();
    } else {
        struct process *process = process_find(id);
        if (process != NULL)
            bell_take(process, now_ns);
    }
}

static int wait_until(uint64_t at_ns, uint64_t now_ns)
{
    return at_ns > now_ns ? (int)((at_ns - now_ns) / NS_PER_MS) + 1 : 0;
}

static void *watcher_run(void *unused)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t tick_at_ns = 0;
    (void)unused;
    (void)pthread_setname_np(pthread_self(), "plugins");
    pthread_mutex_lock(&all.lock);
    while (!atomic_load_explicit(&all.is_stopping, memory_order_relaxed)) {
        bool is_ticking = atomic_load_explicit(&all.is_ticking, memory_order_relaxed);
        uint64_t now_ns = clock_now_ns();
        if (is_ticking && now_ns >= tick_at_ns) {
            ticks_run(now_ns);
            tick_at_ns = now_ns + all.tick_ns;
        }
        if (all.spawner == NULL && now_ns >= all.again_ns)
            spawner_again(now_ns);
        int wait_ms = is_ticking ? wait_until(tick_at_ns, now_ns) : -1;
        if (all.spawner == NULL && (wait_ms < 0 || wait_until(all.again_ns, now_ns) < wait_ms))
            wait_ms = wait_until(all.again_ns, now_ns);
        pthread_mutex_unlock(&all.lock);
        int count = epoll_wait(all.epoll, events, EVENTS_MAX, wait_ms);
        pthread_mutex_lock(&all.lock);
        now_ns = count > 0 ? clock_now_ns() : 0;
        for (int i = 0; i < count; i++)
            event_take(events[i].data.u64, now_ns);
    }
    pthread_mutex_unlock(&all.lock);
    return NULL;
}

/* --------------------------------------------------------------------------------------- from elsewhere */

void processes_main(int argc, char *const argv[])
{
    spawner_main(argc, argv, child_prepare, child_main);
    all.has_main = true;
}

enum weir_error processes_open(char *why, size_t why_size)
{
    REQUIRE(all.has_main && all.spawner == NULL);
    all.started_ns = clock_now_ns();
    all.pause_ns = SPAWNER_PAUSE_NS_MIN;
    return spawner_open(&all.spawner, why, why_size);
}

/* The thread starts with the first child: a broker without plugins has none. With the lock held. */
static enum weir_error watcher_ensure(void)
{
    if (all.has_thread)
        return WEIR_OK;
    if (all.epoll < 0)
        all.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (all.control < 0) {
        all.control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (all.epoll < 0 || all.control < 0 || !epoll_add(all.control, ID_CONTROL, EPOLLIN) ||
            !epoll_add(spawner_fd(all.spawner), ID_SPAWNER, EPOLLIN))
            return WEIR_IO;
    }
    all.tick_ns = TICK_NS_MAX;
    all.has_thread = pthread_create(&all.thread, NULL, watcher_run, NULL) == 0;
    return all.has_thread ? WEIR_OK : WEIR_NO_MEMORY;
}

static void control_ring(void)
{
    const uint64_t one = 1;
    ssize_t size = write(all.control, &one, sizeof one);
    (void)size;
}

void processes_close(void)
{
    if (all.has_thread) {
        atomic_store_explicit(&all.is_stopping, true, memory_order_relaxed);
        control_ring();
        pthread_join(all.thread, NULL);
    }
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++)
        REQUIRE(all.table[i] == NULL);
    if (all.epoll >= 0)
        close(all.epoll);
    if (all.control >= 0)
        close(all.control);
    all.epoll = all.control = -1;
    all.has_thread = false;
    atomic_store_explicit(&all.is_stopping, false, memory_order_relaxed);
    atomic_store_explicit(&all.is_ticking, false, memory_order_relaxed);
    spawner_close(&all.spawner);
}

enum weir_error process_add(struct process *process, const int fds[SPAWNER_FDS])
{
    size_t place = 0;
    pthread_mutex_lock(&all.lock);
    enum weir_error error = all.spawner == NULL ? WEIR_AGAIN : watcher_ensure();
    while (place < SPAWNER_CHILDREN_MAX && all.table[place] != NULL)
        place++;
    if (error == WEIR_OK && place == SPAWNER_CHILDREN_MAX)
        error = WEIR_FULL;
    if (error == WEIR_OK) {
        process->id = ++all.next_id;
        process->bell_fd = fds[SPAWNER_FD_BELL];
        if (!epoll_add(process->bell_fd, process->id, EPOLLIN | EPOLLET))
            error = WEIR_IO;
        else if (spawner_spawn(all.spawner, process->id, fds) == WEIR_OK)
            all.table[place] = process;
        else
            error = WEIR_AGAIN; /* it has ended, as the watcher will see */
        if (error == WEIR_AGAIN)
            (void)epoll_ctl(all.epoll, EPOLL_CTL_DEL, process->bell_fd, NULL);
    }
    pthread_mutex_unlock(&all.lock);
    return error;
}

void process_remove(struct process *process)
{
    pthread_mutex_lock(&all.lock);
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        if (all.table[i] == process)
            all.table[i] = NULL;
    }
    (void)epoll_ctl(all.epoll, EPOLL_CTL_DEL, process->bell_fd, NULL);
    if (!atomic_load_explicit(&process->has_ended, memory_order_relaxed) && all.spawner != NULL)
        spawner_kill(all.spawner, process->id);
    while (all.ringing == process && !is_watcher())
        pthread_cond_wait(&all.rung, &all.lock);
    pthread_mutex_unlock(&all.lock);
    close(process->bell_fd);
}

void process_kill(struct process *process)
{
    pthread_mutex_lock(&all.lock);
    if (!atomic_load_explicit(&process->has_ended, memory_order_relaxed) && all.spawner != NULL)
        spawner_kill(all.spawner, process->id);
    pthread_mutex_unlock(&all.lock);
}

void processes_watch_time(void)
{
    /* See ticks_run. */
    if (!atomic_exchange_explicit(&all.is_ticking, true, memory_order_acq_rel))
        control_ring();
}

int processes_spawner_pid(void)
{
    pthread_mutex_lock(&all.lock);
    int pid = all.spawner == NULL ? -1 : (int)spawner_pid(all.spawner);
    pthread_mutex_unlock(&all.lock);
    return pid;
}
