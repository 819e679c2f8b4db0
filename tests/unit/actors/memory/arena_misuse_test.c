/* The checked twin under AddressSanitizer: each misuse, done in a child process, must be reported. Without
 * the sanitizer there is nobody to report, and the tests are skipped. */
#include "actors/memory/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED 1
#endif

#if defined(IS_SANITIZED) && defined(WEIR_ARENA_CHECKED)

/* Part of every AddressSanitizer runtime that has LeakSanitizer: reports now, 1 when there are leaks. */
int __lsan_do_recoverable_leak_check(void);

static struct arena *arena;
static weir_msg msg;

static void arena_begin(size_t size)
{
    struct arena_config config = {.bytes_max = 1 << 20};
    if (arena_create(&config, &arena) || arena_alloc(arena, size, NULL, &msg))
        _exit(0);
}

static void use_after_drop(void)
{
    arena_begin(100);
    volatile char *data = arena_data(arena, msg);
    data[50] = 1;
    arena_drop(arena, msg);
    data[50] = 2;
}

static void overrun(void)
{
    arena_begin(100);
    volatile char *data = arena_data(arena, msg);
    data[arena_capacity(arena, msg)] = 1;
}

static void underrun(void)
{
    arena_begin(100);
    volatile char *data = arena_data(arena, msg);
    data[-1] = 1;
}

/* LeakSanitizer takes whatever stands on the stack for a pointer, what calls that are over left there as well. */
static __attribute__((noinline)) void stack_scrub(void)
{
    char below[1 << 16];
    memset(below, 0, sizeof below);
    __asm__ volatile("" : : "r"(below) : "memory");
}

static void leak(void)
{
    arena_begin(12345);
    arena_destroy(&arena);
    stack_scrub();
    if (__lsan_do_recoverable_leak_check())
        _exit(23);
}

/* Runs misuse in a child, which must not end well and must have said expected. */
static void report_expected(void (*misuse)(void), const char *expected)
{
    static char text[1 << 16];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        misuse();
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    ssize_t got;
    while (size + 1 < sizeof text && (got = read(ends[0], text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)got;
    text[size] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status == 0 || !strstr(text, expected))
        fail_msg("status %d, no \"%s\" in: %s", status, expected, text);
}

#else

#define use_after_drop NULL
#define overrun NULL
#define underrun NULL
#define leak NULL

static void report_expected(void (*misuse)(void), const char *expected)
{
    (void)misuse;
    (void)expected;
    skip();
}

#endif

static void use_after_drop_is_reported(void **state)
{
    (void)state;
    report_expected(use_after_drop, "heap-use-after-free");
}

static void overrun_by_one_byte_is_reported(void **state)
{
    (void)state;
    report_expected(overrun, "heap-buffer-overflow");
}

static void underrun_by_one_byte_is_reported(void **state)
{
    (void)state;
    report_expected(underrun, "heap-buffer-overflow");
}

static void leaked_block_is_reported_with_its_size(void **state)
{
    (void)state;
    report_expected(leak, "Direct leak of 12345 byte(s)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(use_after_drop_is_reported),
        cmocka_unit_test(overrun_by_one_byte_is_reported),
        cmocka_unit_test(underrun_by_one_byte_is_reported),
        cmocka_unit_test(leaked_block_is_reported_with_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
