/* actors/base/assert.c: a failed assertion says what, where and of which kind, and aborts. */
#include "actors/base/assert.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs claim in a child and returns how it ended, with what it wrote to stderr. */
static int child_status(void (*claim)(void), char *text, size_t capacity)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        claim();
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    ssize_t got;
    while (size + 1 < capacity && (got = read(ends[0], text + size, capacity - 1 - size)) > 0)
        size += (size_t)got;
    text[size] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void fail_requirement(void)
{
    int answer = 41;
    REQUIRE(answer == 42);
}

static void fail_unreachable(void) { UNREACHABLE(); }

static void pass_all(void)
{
    int answer = 42;
    REQUIRE(answer == 42);
    ENSURE(answer > 0);
    INVARIANT(answer < 43);
}

static void failed_requirement_aborts_and_says_where(void **state)
{
    (void)state;
    char text[1024];
    int status = child_status(fail_requirement, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "weir: requirement failed: answer == 42 at "));
    assert_non_null(strstr(text, "assert_test.c:"));
    assert_non_null(strstr(text, " in fail_requirement\n"));
}

static void unreachable_code_aborts(void **state)
{
    (void)state;
    char text[1024];
    int status = child_status(fail_unreachable, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "unreachable code"));
}

static void true_conditions_pass_in_silence(void **state)
{
    (void)state;
    char text[1024];
    assert_int_equal(child_status(pass_all, text, sizeof text), 0);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_requirement_aborts_and_says_where),
        cmocka_unit_test(unreachable_code_aborts),
        cmocka_unit_test(true_conditions_pass_in_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
