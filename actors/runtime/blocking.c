/* Blocking tasks. See blocking.h. Tasks are queued by any thread and run on the pool's own. */
#include "actors/runtime/blocking.h"

#include "actors/base/clock.h"
#include "actors/runtime/park.h"
#include "actors/runtime/state.h"
#include "actors/runtime/threads.h"

/* How long a pool thread waits before it offers a result again to an actor whose control lane is full. */
#define OFFER_AGAIN_NS NS_PER_MS

void blocking_init(struct blocking *blocking, struct runtime *runtime, unsigned threads_max)
{
    blocking->runtime = runtime;
    blocking->threads_max = threads_max;
    pthread_mutex_init(&blocking->lock, NULL);
    pthread_cond_init(&blocking->changed, NULL);
}

void blocking_fini(struct blocking *blocking)
{
    pthread_cond_destroy(&blocking->changed);
    pthread_mutex_destroy(&blocking->lock);
}

static struct blocking_task task_take(struct blocking *blocking)
{
    struct blocking_task task = blocking->tasks[blocking->first];
    blocking->first = (blocking->first + 1) % BLOCKING_QUEUE_MAX;
    blocking->count--;
    return task;
}

/* Runs it and sends its result; a result nobody waits for any more is dropped. */
static void task_run(struct runtime *runtime, const struct blocking_task *task)
{
    struct message message = {.tag = MESSAGE_TASK, .word = {task->work(task->argument), task->word}};
    enum weir_error error;
    for (;;) {
        struct caller *caller = caller_enter(runtime);
        error = caller_post(runtime, caller, WEIR_ACTOR_NONE, task->reply_to, &message, ENVELOPE_CONTROL,
                            MAILBOX_CONTROL_RUNTIME_MAX);
        caller_leave(caller);
        if ((error != WEIR_FULL && error != WEIR_NO_MEMORY) || runtime->config.simulate)
            return;
        /* The receiver has 65,000 control messages to go through: it is this thread's job to wait. */
        _Atomic uint32_t nothing = 0;
        park_futex_wait(&nothing, 0, clock_now_ns() + OFFER_AGAIN_NS);
    }
}

static void *pool_main(void *argument)
{
    struct blocking *blocking = argument;
    pthread_mutex_lock(&blocking->lock);
    for (;;) {
        while (blocking->count == 0 && !blocking->is_closed) {
            blocking->threads_idle++;
            pthread_cond_wait(&blocking->changed, &blocking->lock);
            blocking->threads_idle--;
        }
        if (blocking->count == 0)
            break;
        struct blocking_task task = task_take(blocking);
        pthread_mutex_unlock(&blocking->lock);
        task_run(blocking->runtime, &task);
        pthread_mutex_lock(&blocking->lock);
    }
    pthread_mutex_unlock(&blocking->lock);
    arena_thread_flush(blocking->runtime->config.arena);
    return NULL;
}

/* One more thread when the waiting ones do not suffice. Failing is fine while there is another. */
static enum weir_error pool_grow(struct blocking *blocking)
{
    if (blocking->count < blocking->threads_idle + 1 || blocking->threads_count == blocking->threads_max)
        return WEIR_OK;
    enum weir_error error =
        thread_start(&blocking->threads[blocking->threads_count], "weir-blocking", pool_main, blocking);
    if (error)
        return blocking->threads_count ? WEIR_OK : error;
    blocking->threads_count++;
    return WEIR_OK;
}

enum weir_error blocking_run(struct runtime *runtime, uint64_t (*work)(void *argument), void *argument,
                             weir_actor reply_to, uint64_t word)
{
    struct blocking *blocking = &runtime->blocking;
    enum weir_error error = WEIR_OK;
    REQUIRE(work != NULL);
    pthread_mutex_lock(&blocking->lock);
    if (blocking->is_closed) {
        error = WEIR_CLOSED;
    } else if (blocking->count == BLOCKING_QUEUE_MAX) {
        error = WEIR_FULL;
    } else {
        uint32_t last = (blocking->first + blocking->count) % BLOCKING_QUEUE_MAX;
        blocking->tasks[last] =
            (struct blocking_task){.work = work, .argument = argument, .reply_to = reply_to, .word = word};
        blocking->count++;
        if (!runtime->config.simulate)
            error = pool_grow(blocking);
        if (error)
            blocking->count--;
        else
            pthread_cond_signal(&blocking->changed);
    }
    pthread_mutex_unlock(&blocking->lock);
    return error;
}

bool blocking_run_one(struct blocking *blocking)
{
    pthread_mutex_lock(&blocking->lock);
    bool has_task = blocking->count > 0;
    struct blocking_task task = {0};
    if (has_task)
        task = task_take(blocking);
    pthread_mutex_unlock(&blocking->lock);
    if (has_task)
        task_run(blocking->runtime, &task);
    return has_task;
}

void blocking_stop(struct blocking *blocking)
{
    pthread_mutex_lock(&blocking->lock);
    blocking->is_closed = true;
    unsigned threads = blocking->threads_count;
    pthread_cond_broadcast(&blocking->changed);
    pthread_mutex_unlock(&blocking->lock);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(blocking->threads[i], NULL);
    pthread_mutex_lock(&blocking->lock);
    blocking->threads_count = 0;
    pthread_mutex_unlock(&blocking->lock);
}
