/* The path of a message between two running actors: no malloc, no lock, no system call. The C library's functions are
 * counted on their way, on the workers' threads only, from a moment when both actors run until much later. */
#include "fixture.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TAG_PING = 1, WARM_UP = 2000, MEASURED = 200000 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED
#endif

#ifdef IS_SANITIZED

/* The sanitizers put functions of their own in these places. */
static void counting_is_left_to_the_plain_build(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counting_is_left_to_the_plain_build)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

/* Calls on a worker's thread since it began to count. */
struct calls {
    uint64_t mallocs, locks, syscalls;
};
static _Thread_local bool is_counted;
static _Thread_local struct calls calls;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

static void *own_malloc(size_t size)
{
    calls.mallocs += is_counted;
    return __libc_malloc(size);
}

void *malloc(size_t size) { return own_malloc(size); }
void *calloc(size_t count, size_t size)
{
    calls.mallocs += is_counted;
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size)
{
    calls.mallocs += is_counted;
    return __libc_realloc(block, size);
}
void free(void *block)
{
    calls.mallocs += is_counted && block != NULL;
    __libc_free(block);
}

/* Found before any thread is there. */
static int (*mutex_lock)(pthread_mutex_t *lock);
static int (*rwlock_rdlock)(pthread_rwlock_t *lock);
static int (*cond_signal)(pthread_cond_t *condition);

int pthread_mutex_lock(pthread_mutex_t *lock)
{
    calls.locks += is_counted;
    if (mutex_lock == NULL)
        *(void **)&mutex_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return mutex_lock(lock);
}
int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    calls.locks += is_counted;
    if (rwlock_rdlock == NULL)
        *(void **)&rwlock_rdlock = dlsym(RTLD_NEXT, "pthread_rwlock_rdlock");
    return rwlock_rdlock(lock);
}
int pthread_cond_signal(pthread_cond_t *condition)
{
    calls.locks += is_counted;
    if (cond_signal == NULL)
        *(void **)&cond_signal = dlsym(RTLD_NEXT, "pthread_cond_signal");
    return cond_signal(condition);
}

/* All that the runtime asks of the kernel goes through here. */
long syscall(long number, ...)
{
    static long (*next)(long, ...);
    va_list list;
    long argument[6];
    calls.syscalls += is_counted;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

/* What the test waits for, and what was counted when it came. */
struct path {
    _Atomic uint64_t done;
    struct calls counted;
    bool is_with_block;
};

/* Gives the message back to who sent it, with a block of its own where the test says so. n[0]: how often it did. */
static enum weir_error play(struct turn *turn, struct probe *probe, struct message *message)
{
    struct path *path = probe->context;
    if (probe->n[1] == 1 && ++probe->n[0] == WARM_UP) {
        calls = (struct calls){0};
        is_counted = true;
    }
    if (probe->n[1] == 1 && probe->n[0] == WARM_UP + MEASURED) {
        is_counted = false;
        path->counted = calls;
        atomic_store(&path->done, 1);
        return WEIR_OK;
    }
    struct message ping = {.tag = TAG_PING, .word = {message->word[0] + 1}};
    if (path->is_with_block) {
        enum weir_error error = arena_alloc(turn_arena(turn), 128, NULL, &ping.hold[0]);
        if (error)
            return error;
    }
    return turn_send(turn, actor_is_none(probe->other) ? message->from : probe->other, &ping);
}

static struct calls path_measure(bool is_with_block)
{
    struct fixture fixture = fixture_threaded(1);
    static struct path path;
    path = (struct path){.is_with_block = is_with_block};
    struct actor_options options = {.mailbox_max = 16};
    weir_actor echo = fixture_spawn(&fixture, (struct probe){.on_message = play, .context = &path}, options);
    weir_actor counter = fixture_spawn(
        &fixture, (struct probe){.on_message = play, .context = &path, .other = echo, .n = {0, 1}}, options);
    fixture_send(&fixture, counter, TAG_PING, 0);
    await_at_least(&path.done, 1);
    fixture_end(&fixture);
    return path.counted;
}

static void two_running_actors_talk_without_malloc_lock_or_system_call(void **state)
{
    (void)state;
    struct calls counted = path_measure(false);
    assert_int_equal(counted.mallocs, 0);
    assert_int_equal(counted.locks, 0);
    assert_int_equal(counted.syscalls, 0);
}

static void a_block_from_the_arena_changes_nothing_in_that(void **state)
{
    (void)state;
    struct calls counted = path_measure(true);
    assert_int_equal(counted.mallocs, 0);
    assert_int_equal(counted.locks, 0);
    assert_int_equal(counted.syscalls, 0);
}

static void the_counters_count(void **state)
{
    (void)state;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    calls = (struct calls){0};
    is_counted = true;
    void *volatile block = malloc(10);
    free(block);
    pthread_mutex_lock(&lock);
    (void)syscall(SYS_getpid, 0L, 0L, 0L, 0L, 0L, 0L);
    is_counted = false;
    pthread_mutex_unlock(&lock);
    assert_int_equal(calls.mallocs, 2);
    assert_int_equal(calls.locks, 1);
    assert_int_equal(calls.syscalls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counters_count),
        cmocka_unit_test(two_running_actors_talk_without_malloc_lock_or_system_call),
        cmocka_unit_test(a_block_from_the_arena_changes_nothing_in_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
