/* What a child of the spawner has at hand before it does anything. */
#include "actors/plugin/prefault.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/instrumented.h"

#include <cmocka.h>

#define PAGES 8
#define PAGE_BYTES 4096
#define POPULATE_READ 22 /* MADV_POPULATE_READ, newer than some headers */

/* Written by the process that forks, so that its children share these pages with it until they write them. */
static volatile char written[PAGES * PAGE_BYTES];

static void written_touch(char value)
{
    for (size_t i = 0; i < sizeof written; i += PAGE_BYTES)
        written[i] = value;
}

/* Faults that writing costs a new child, which first does as it is told. */
static int faults_of_child(void (*before)(void))
{
    int status = -1;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rusage then, now;
        before();
        getrusage(RUSAGE_SELF, &then);
        getrusage(RUSAGE_SELF, &then); /* the pages that this takes are there now */
        written_touch(2);
        getrusage(RUSAGE_SELF, &now);
        _exit((int)(now.ru_minflt - then.ru_minflt));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void nothing_do(void) {}

static void prefault_brings_in_what_a_child_writes(void **state)
{
    (void)state;
    if (madvise(NULL, 0, POPULATE_READ) != 0 && errno == EINVAL)
        skip(); /* this kernel has no such advice */
    written_touch(1);
    prefault_prepare();
    assert_true(faults_of_child(nothing_do) >= PAGES - 1);
    assert_true(faults_of_child(prefault_do) <= 1);
}

static void prefault_leaves_values_alone(void **state)
{
    (void)state;
    written_touch(7);
    prefault_prepare();
    written_touch(8);
    prefault_do();
    for (size_t i = 0; i < sizeof written; i += PAGE_BYTES)
        assert_int_equal(written[i], 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefault_brings_in_what_a_child_writes),
        cmocka_unit_test(prefault_leaves_values_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
