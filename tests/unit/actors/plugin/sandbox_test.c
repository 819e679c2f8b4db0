/* Machines that lack a part of the sandbox: a kernel without Landlock, a service that may make no namespaces. This
 * program takes them from itself by a filter, which the spawner and its children inherit; then children run with the
 * rest, and say what is missing, and what cannot do without is refused. */
#include "tests/unit/actors/plugin/host_fixture.h"

#include "actors/plugin/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>

#define MISBEHAVE TEST_PLUGINS "/misbehave.so"
#define ESCAPE TEST_PLUGINS "/escape.so"

static void child_runs_with_the_rest_and_says_what_is_missing(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
    if (!SANDBOX_HAS_FILTER)
        skip();
    fixture_start(&fixture, &spec);
    assert_non_null(strstr(fixture.recorder.text, "its sandbox is without: namespaces"));
    assert_non_null(strstr(fixture.recorder.text, "Landlock (this kernel has none)"));
    assert_string_equal(fixture_handle(&fixture, NULL, "\"allowed\""), "1 emit t 0\n1 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "\"open_file\""), "2 emit t 1\n2 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "\"make_socket\""), "3 emit t 1\n3 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "\"kill_parent\""), "4 emit t 1\n4 done 0\n");
    fixture_stop(&fixture);
}

static void child_fails_and_comes_back_as_with_all(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    (void)state;
    if (!SANDBOX_HAS_FILTER)
        skip();
    fixture_start(&fixture, &spec);
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"segv\"]"), "killed by SIGSEGV while handling");
    fixture_stop(&fixture);
}

static void grants_are_refused_without_landlock(void **state)
{
    static const char *const grants[] = {"/etc/hostname", NULL};
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(ESCAPE);
    (void)state;
    if (!SANDBOX_HAS_FILTER)
        skip();
    spec.grants = grants;
    fixture_start_only(&fixture, &spec);
    assert_int_equal(fixture_done(&fixture, 0), WEIR_ACTOR_FAILED);
    assert_non_null(strstr(fixture.recorder.text, "grants need Landlock, which this kernel does not have"));
    fixture_stop(&fixture);
}

/* As an older kernel, and as systemd's RestrictNamespaces, answer. */
static bool machine_impoverish(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_good = filter != NULL && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0) == 0 &&
                   seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0) == 0 &&
                   seccomp_load(filter) == 0;
    if (filter != NULL)
        seccomp_release(filter);
    return is_good;
}

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(child_runs_with_the_rest_and_says_what_is_missing),
        cmocka_unit_test(child_fails_and_comes_back_as_with_all),
        cmocka_unit_test(grants_are_refused_without_landlock),
    };
    char why[PLUGIN_TEXT_SIZE] = "no filter for this program itself";
    if (!machine_impoverish() || processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0)
        processes_close();
    return failed;
}
