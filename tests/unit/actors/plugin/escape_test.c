/* The sandbox of a plugin's child: each way out is tried by a plugin (tests/plugins/escape.c) and must be denied with
 * the error given here; and what is allowed must work, or the rest would prove nothing. */
#include "tests/unit/actors/plugin/host_fixture.h"

#include "actors/plugin/sandbox.h"

#define ESCAPE TEST_PLUGINS "/escape.so"

struct attempt {
    const char *name;
    int error;
};

/* One child for all: an attempt that got through would show in those after it, too. */
static struct fixture fixture;

static void attempt_run(const struct attempt *attempt)
{
    char json[64], expected[64];
    (void)snprintf(json, sizeof json, "\"%s\"", attempt->name);
    uint64_t number = fixture_give(&fixture, NULL, json);
    (void)snprintf(expected, sizeof expected, "%llu emit t %d\n%llu done 0\n", (unsigned long long)number,
                   attempt->error, (unsigned long long)number);
    if (fixture_done(&fixture, number) < 0)
        fail_msg("it ended: %s", fixture.end.text);
    assert_string_equal(fixture.recorder.text, expected);
}

static void attempt_is_denied(void **state) { attempt_run(*state); }
static void allowed_call_works(void **state) { attempt_run(*state); }

static int escape_setup(void **state)
{
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
    fixture_start(&fixture, &spec);
    return 0;
}

static int escape_teardown(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    return 0;
}

/* Its numbers are others, so the kernel does not even ask the filter's list: it ends the process. A kernel without such
 * calls ends it by another signal. */
static void call_as_32_bit_ends_the_child(void **state)
{
    struct fixture own;
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
#if !defined(__x86_64__)
    skip();
#endif
    fixture_start(&own, &spec);
    const char *end = fixture_handle(&own, NULL, "\"call_as_32_bit\"");
    if (strcmp(end, "killed by SIGSEGV while handling") != 0)
        assert_string_equal(end, "killed by SIGSYS while handling");
    assert_int_equal(own.end.number, 1);
    fixture_stop(&own);
}

static void grant_is_readable_and_nothing_else_is(void **state)
{
    static const char *const grants[] = {"/etc/hostname", NULL};
    struct fixture own;
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
    spec.grants = grants;
    fixture_start(&own, &spec);
    assert_string_equal(fixture_handle(&own, NULL, "\"read_grant\""), "1 emit t 0\n1 done 0\n");
    assert_string_equal(fixture_handle(&own, NULL, "\"open_file\""), "2 emit t 13\n2 done 0\n");
    assert_string_equal(fixture_handle(&own, NULL, "\"open_write\""), "3 emit t 1\n3 done 0\n");
    assert_string_equal(fixture_handle(&own, NULL, "\"open_own_memory\""), "4 emit t 1\n4 done 0\n");
    fixture_stop(&own);
}

static void grant_that_is_not_there_is_told(void **state)
{
    static const char *const grants[] = {"/no/such/folder", NULL};
    struct fixture own;
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
    spec.grants = grants;
    fixture_start_only(&own, &spec);
    assert_int_equal(fixture_done(&own, 0), WEIR_ACTOR_FAILED);
    assert_string_equal(own.recorder.text, "0 done 2 (/no/such/folder: No such file or directory)\n");
    fixture_stop(&own);
}

#define DENIED(name) \
    {                \
#name, EPERM \
    }
static struct attempt attempts[] = {
    DENIED(open_file),
    DENIED(open_write),
    DENIED(open_old),
    DENIED(open_at2),
    DENIED(open_memory_of_parent),
    DENIED(open_own_memory),
    DENIED(unlink_file),
    DENIED(make_socket),
    DENIED(make_unix_socket),
    DENIED(connect_out),
    DENIED(execute),
    DENIED(execute_memory),
    DENIED(execute_at),
    DENIED(trace_parent),
    DENIED(trace_me),
    DENIED(kill_parent),
    DENIED(kill_all),
    DENIED(kill_thread_of_others),
    DENIED(signal_by_pidfd),
    DENIED(map_executable),
    DENIED(map_shared),
    DENIED(protect_executable),
    DENIED(protect_executable_key),
    DENIED(do_fork),
    DENIED(do_vfork),
    DENIED(make_thread),
    DENIED(become_root),
    DENIED(become_group),
    DENIED(mount_something),
    DENIED(unshare_all),
    DENIED(enter_namespace),
    DENIED(load_bpf),
    DENIED(setup_uring),
    DENIED(read_other_memory),
    DENIED(write_other_memory),
    DENIED(allow_tracing),
    DENIED(outlive_parent),
    DENIED(change_root),
    DENIED(change_folder),
    DENIED(change_personality),
    DENIED(use_keys),
    DENIED(add_key),
    DENIED(open_perf),
    DENIED(load_module),
    DENIED(use_userfaultfd),
    DENIED(raise_limits),
    DENIED(add_filter),
    DENIED(send_message_queue),
    DENIED(attach_shared),
    DENIED(change_mode),
    DENIED(punch_ring),
    DENIED(change_dump),
    {"allowed", 0},
};

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    struct CMUnitTest tests[sizeof attempts / sizeof attempts[0]];
    const struct CMUnitTest others[] = {
        cmocka_unit_test(call_as_32_bit_ends_the_child),
        cmocka_unit_test(grant_is_readable_and_nothing_else_is),
        cmocka_unit_test(grant_that_is_not_there_is_told),
    };
    char why[PLUGIN_TEXT_SIZE];
    if (!SANDBOX_HAS_FILTER) {
        printf("this build has no filter to test: see sandbox.h\n");
        return 0;
    }
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        tests[i] = (struct CMUnitTest){.name = attempts[i].name,
                                       .test_func = attempts[i].error != 0 ? attempt_is_denied : allowed_call_works,
                                       .initial_state = &attempts[i]};
    if (processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, escape_setup, escape_teardown);
    failed += cmocka_run_group_tests(others, NULL, NULL);
    processes_close();
    return failed;
}
