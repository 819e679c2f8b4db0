/* The threads that wait for sockets. Called by listeners, handshakes and pipes; see poller.h for who may what where. */
#include "clients/sp/poller.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    POLLERS_MAX = 4,
    PROCESSORS_EACH = 4, /* what comes alone is handled where it came: one thread keeps that many workers busy */
    BATCH_MAX = 64,
};

struct sp_poller {
    int descriptor; /* of epoll; constant after start, as bell and thread */
    int bell;       /* an eventfd that ends a wait */
    pthread_t thread;
    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t job_done; /* running changed */
    struct sp_job *first, *last;
    const struct sp_job *running;
    /* The poller's thread only. */
    struct sp_alarm *alarms;
    struct sp_source ringing; /* the bell's */
};

static struct sp_poller pollers[POLLERS_MAX];
static pthread_mutex_t pollers_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned pollers_count; /* under pollers_lock; 0 until there are some, constant then */
static _Thread_local const struct sp_poller *poller_here;

bool sp_poller_is_here(const struct sp_poller *poller) { return poller_here == poller; }

/* ------------------------------------------------------------------------------------------- watching */

enum weir_error sp_poller_watch(struct sp_poller *poller, int descriptor, uint32_t events, struct sp_source *source)
{
    struct epoll_event wanted = {.events = events, .data.ptr = source};
    if (epoll_ctl(poller->descriptor, EPOLL_CTL_ADD, descriptor, &wanted) == 0)
        return WEIR_OK;
    ENSURE(errno == ENOMEM || errno == ENOSPC);
    return WEIR_NO_MEMORY;
}

void sp_poller_change(struct sp_poller *poller, int descriptor, uint32_t events, struct sp_source *source)
{
    struct epoll_event wanted = {.events = events, .data.ptr = source};
    int failed = epoll_ctl(poller->descriptor, EPOLL_CTL_MOD, descriptor, &wanted);
    ENSURE(failed == 0);
}

void sp_poller_forget(struct sp_poller *poller, int descriptor)
{
    int failed = epoll_ctl(poller->descriptor, EPOLL_CTL_DEL, descriptor, NULL);
    ENSURE(failed == 0);
}

/* ------------------------------------------------------------------------------------------------ jobs */

static void bell_ring(struct sp_poller *poller)
{
    const uint64_t one = 1;
    /* A full counter has rung already. */
    while (write(poller->bell, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void on_bell(struct sp_source *source, uint32_t events)
{
    struct sp_poller *poller = CONTAINER_OF(source, struct sp_poller, ringing);
    uint64_t count;
    (void)events;
    while (read(poller->bell, &count, sizeof count) < 0 && errno == EINTR)
        continue;
}

void sp_poller_post(struct sp_poller *poller, struct sp_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&poller->lock);
    bool is_first = poller->first == NULL;
    if (is_first)
        poller->first = job;
    else
        poller->last->next = job;
    poller->last = job;
    pthread_mutex_unlock(&poller->lock);
    if (is_first && !sp_poller_is_here(poller))
        bell_ring(poller);
}

static bool is_queued(const struct sp_poller *poller, const struct sp_job *job)
{
    for (const struct sp_job *at = poller->first; at != NULL; at = at->next)
        if (at == job)
            return true;
    return false;
}

void sp_poller_await(struct sp_poller *poller, const struct sp_job *job)
{
    pthread_mutex_lock(&poller->lock);
    while (poller->running == job || is_queued(poller, job)) {
        REQUIRE(!sp_poller_is_here(poller)); /* it would wait for itself */
        pthread_cond_wait(&poller->job_done, &poller->lock);
    }
    pthread_mutex_unlock(&poller->lock);
}

/* A job may be freed by whoever awaits it as soon as it is no longer the running one. */
static void jobs_run(struct sp_poller *poller)
{
    pthread_mutex_lock(&poller->lock);
    while (poller->first != NULL) {
        struct sp_job *job = poller->first;
        poller->first = job->next;
        poller->running = job;
        pthread_mutex_unlock(&poller->lock);
        job->run(job);
        pthread_mutex_lock(&poller->lock);
        poller->running = NULL;
        pthread_cond_broadcast(&poller->job_done);
    }
    pthread_mutex_unlock(&poller->lock);
}

/* ---------------------------------------------------------------------------------------------- alarms */

void sp_alarm_clear(struct sp_poller *poller, struct sp_alarm *alarm)
{
    if (alarm->due_ns == 0)
        return;
    struct sp_alarm **at = &poller->alarms;
    while (*at != alarm)
        at = &(*at)->next;
    *at = alarm->next;
    alarm->due_ns = 0;
}

void sp_alarm_set(struct sp_poller *poller, struct sp_alarm *alarm, uint64_t due_ns)
{
    REQUIRE(sp_poller_is_here(poller) && due_ns != 0);
    sp_alarm_clear(poller, alarm);
    alarm->due_ns = due_ns;
    alarm->next = poller->alarms;
    poller->alarms = alarm;
}

/* How long epoll may wait: until the first alarm, of the two that each listener has. */
static int alarms_wait_ms(const struct sp_poller *poller)
{
    uint64_t first = UINT64_MAX;
    for (const struct sp_alarm *alarm = poller->alarms; alarm != NULL; alarm = alarm->next)
        first = alarm->due_ns < first ? alarm->due_ns : first;
    if (first == UINT64_MAX)
        return -1;
    uint64_t now = clock_now_ns();
    uint64_t left_ms = first > now ? (first - now + NS_PER_MS - 1) / NS_PER_MS : 0;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

static struct sp_alarm *alarm_due(const struct sp_poller *poller, uint64_t now_ns)
{
    struct sp_alarm *alarm = poller->alarms;
    while (alarm != NULL && alarm->due_ns > now_ns)
        alarm = alarm->next;
    return alarm;
}

static void alarms_run(struct sp_poller *poller)
{
    if (poller->alarms == NULL)
        return;
    uint64_t now = clock_now_ns();
    for (struct sp_alarm *alarm; (alarm = alarm_due(poller, now)) != NULL;) {
        sp_alarm_clear(poller, alarm);
        alarm->run(alarm);
    }
}

/* --------------------------------------------------------------------------------------------- threads */

static void *poller_main(void *argument)
{
    struct sp_poller *poller = argument;
    struct epoll_event batch[BATCH_MAX];
    poller_here = poller;
    for (;;) {
        int count = epoll_wait(poller->descriptor, batch, BATCH_MAX, alarms_wait_ms(poller));
        ENSURE(count >= 0 || errno == EINTR);
        for (int i = 0; i < count; i++) {
            struct sp_source *source = batch[i].data.ptr;
            if (count == 1 && atomic_load_explicit(&source->is_gathering, memory_order_relaxed))
                (void)sched_yield();
            source->on_events(source, batch[i].events);
        }
        jobs_run(poller);
        alarms_run(poller);
    }
    return NULL;
}

static bool poller_open(struct sp_poller *poller)
{
    poller->descriptor = epoll_create1(EPOLL_CLOEXEC);
    poller->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    poller->ringing.on_events = on_bell;
    bool is_open = poller->descriptor >= 0 && poller->bell >= 0 && pthread_mutex_init(&poller->lock, NULL) == 0 &&
                   pthread_cond_init(&poller->job_done, NULL) == 0 &&
                   sp_poller_watch(poller, poller->bell, EPOLLIN, &poller->ringing) == WEIR_OK;
    /* Signals are for the user's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    is_open = is_open && pthread_create(&poller->thread, NULL, poller_main, poller) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_open) {
        pthread_detach(poller->thread);
        return true;
    }
    if (poller->descriptor >= 0)
        close(poller->descriptor);
    if (poller->bell >= 0)
        close(poller->bell);
    return false;
}

/* Whoever comes first without descriptors or memory is refused, and whoever comes later tries again. */
static void pollers_open(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = processors > 0 ? (unsigned)processors / PROCESSORS_EACH : 1;
    wanted = wanted < 1 ? 1 : wanted > POLLERS_MAX ? POLLERS_MAX : wanted;
    while (pollers_count < wanted && poller_open(&pollers[pollers_count]))
        pollers_count++;
}

struct sp_poller *sp_poller_take(void)
{
    static unsigned turn;
    struct sp_poller *taken = NULL;
    pthread_mutex_lock(&pollers_lock);
    if (pollers_count == 0)
        pollers_open();
    if (pollers_count > 0)
        taken = &pollers[turn++ % pollers_count];
    pthread_mutex_unlock(&pollers_lock);
    return taken;
}
