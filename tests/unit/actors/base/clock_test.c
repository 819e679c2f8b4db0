/* actors/base/clock.c: clocks that go forward, and the time as people read it. */
#include "actors/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void monotonic_clock_never_goes_back(void **state)
{
    (void)state;
    uint64_t last = clock_now_ns();
    assert_true(last > 0);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = clock_now_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void processor_time_grows_with_work(void **state)
{
    (void)state;
    uint64_t start = clock_cpu_ns();
    uint64_t deadline = clock_now_ns() + 10 * NS_PER_S;
    while (clock_cpu_ns() < start + NS_PER_MS)
        assert_true(clock_now_ns() < deadline);
}

/* Not time(), which is the same clock as of the kernel's last tick, and so up to ten milliseconds behind. */
static time_t wall_clock_s(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    return now.tv_sec;
}

static void wall_clock_is_rfc_3339_in_utc(void **state)
{
    (void)state;
    char text[32];
    time_t before = wall_clock_s();
    size_t size = clock_wall_text(text, sizeof text);
    time_t after = wall_clock_s();
    assert_int_equal(size, strlen("2026-11-23T06:00:00.123Z"));
    assert_int_equal(strlen(text), size);
    struct tm utc = {0};
    int ms = -1;
    assert_int_equal(sscanf(text, "%d-%d-%dT%d:%d:%d.%dZ", &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour,
                            &utc.tm_min, &utc.tm_sec, &ms),
                     7);
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    time_t told = timegm(&utc);
    assert_true(told >= before && told <= after);
    assert_true(ms >= 0 && ms < 1000 && text[size - 1] == 'Z');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_clock_never_goes_back),
        cmocka_unit_test(processor_time_grows_with_work),
        cmocka_unit_test(wall_clock_is_rfc_3339_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
