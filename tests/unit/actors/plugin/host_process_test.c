/* The process host: a plugin in a child, what it answers, and every way in which it can end. */
#include "tests/unit/actors/plugin/host_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "actors/plugin/sandbox.h"

#define MISBEHAVE TEST_PLUGINS "/misbehave.so"
/* Short enough for a test, long enough for a busy machine. */
#define BUDGET_MS 1000
/* Where it is tried again. */
#define BUDGET_SHORT_MS 500

/* The newest child of the spawner. */
static pid_t child_pid(void)
{
    char path[64];
    int pid = -1, next = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", processes_spawner_pid(), processes_spawner_pid());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fscanf(file, "%d", &next) == 1)
        pid = next;
    (void)fclose(file);
    assert_true(pid > 0);
    return pid;
}

static bool is_there(pid_t pid) { return kill(pid, 0) == 0; }

/* Whoever reaps it does so soon. */
static void await_gone(pid_t pid)
{
    uint64_t until_ns = clock_now_ns() + FIXTURE_WAIT_S * NS_PER_S;
    while (is_there(pid)) {
        if (clock_now_ns() > until_ns)
            fail_msg("process %d is still there", (int)pid);
        (void)sched_yield();
    }
}

static void record_is_handled_in_the_child(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    (void)state;
    fixture_start_only(&fixture, &spec);
    fixture.recorder = (struct recorder){.room = UINT32_MAX};
    do /* what its sandbox is without comes first, where there is something */
        assert_true(fixture_take(&fixture, &output));
    while (output.kind == OUTPUT_LOG);
    assert_true(output.has_snapshot);
    assert_non_null(strstr(fixture.recorder.text, "0 done 0 (misbehave 1.0)\n"));
    assert_string_equal(fixture_handle(&fixture, "k", "42"), "1 emit t k 42\n1 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"refuse\"]"), "2 done 1 (this one I do not like)\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"log\"]"), "3 log 2 (told to log)\n3 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"timer\", 5]"), "4 timer 7 5 0\n4 done 0\n");
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"untimer\"]"), "5 cancel 7\n5 done 0\n");
    pid_t pid = child_pid();
    fixture_stop(&fixture);
    await_gone(pid);
}

static void failure_ends_the_child_with_its_reason(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    (void)state;
    fixture_start(&fixture, &spec);
    assert_string_equal(fixture_handle(&fixture, NULL, "[\"fail\"]"), "1 done 2 (told to fail)\n");
    assert_false(fixture_take(&fixture, &output));
    assert_int_equal(fixture.end.cause, WEIR_FAILED);
    assert_string_equal(fixture.end.text, "told to fail");
    struct plugin_input input = input_message(2, "t", NULL, "1");
    assert_int_equal(plugin_host_process.give(fixture.host, &input), WEIR_CLOSED);
    fixture_stop(&fixture);
}

static void start_that_fails_says_why(void **state)
{
    static const struct {
        const char *file, *config, *text;
    } cases[] = {
        {TEST_PLUGINS "/no-such.so", "null", "No such file"},
        {"/dev/null", "null", "no regular file"},
        {TEST_PLUGINS "/refused_abi_major.so", "null", "version 2.3"},
        {TEST_PLUGINS "/refused_undefined.so", "null", "undefined symbol: nobody_has_this"},
        {MISBEHAVE, "{\"init\": \"fail\"}", "told to fail in init"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        struct plugin_output output;
        struct plugin_spec spec = fixture_spec(cases[i].file);
        uint8_t *config = NULL;
        assert_int_equal(json_to_msgpack(view_text(cases[i].config), 16, &config, &spec.config.size, NULL), WEIR_OK);
        spec.config.data = config;
        fixture_start_only(&fixture, &spec);
        free(config);
        assert_int_equal(fixture_done(&fixture, 0), WEIR_ACTOR_FAILED);
        if (strstr(fixture.recorder.text, cases[i].text) == NULL)
            fail_msg("%s: %s", cases[i].file, fixture.recorder.text);
        assert_false(fixture_take(&fixture, &output));
        assert_int_equal(fixture.end.cause, WEIR_FAILED);
        assert_non_null(strstr(fixture.end.text, cases[i].text));
        fixture_stop(&fixture);
    }
}

/* Each as the record in hand, behind one that is fine and before one that is never handled. */
static void crash_is_told_with_its_cause_and_the_input_in_hand(void **state)
{
    static const struct {
        const char *record;
        enum weir_error cause;
        const char *text;
    } cases[] = {
        {"[\"segv\"]", WEIR_FAILED, "killed by SIGSEGV while handling"},
        {"[\"abort\"]", WEIR_FAILED, "killed by SIGABRT while handling"},
        {"[\"exit\"]", WEIR_FAILED, "exited with status 3 while handling"},
        {"[\"hog\"]", WEIR_NO_MEMORY, "its memory of 16777216 bytes is used up: killed by SIGABRT while handling"},
        {"[\"loop\"]", WEIR_TIMEOUT, "no end after 1000 ms: killed while handling"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        struct plugin_spec spec = fixture_spec(MISBEHAVE);
        struct plugin_output output;
        spec.time_ms_max = cases[i].cause == WEIR_TIMEOUT ? BUDGET_MS : 10000;
        spec.bounds.memory_bytes_max = 16 << 20;
        if (!SANDBOX_HAS_MEMORY_LIMIT && cases[i].cause != WEIR_TIMEOUT && strcmp(cases[i].record, "[\"exit\"]") != 0)
            continue; /* sanitizers handle the signals, and have no limit */
        fixture_start(&fixture, &spec);
        pid_t pid = child_pid();
        (void)fixture_put(&fixture, NULL, "1");
        (void)fixture_put(&fixture, NULL, cases[i].record);
        (void)fixture_put(&fixture, NULL, "3");
        plugin_host_process.flush(fixture.host);
        fixture.recorder.size = 0;
        while (fixture_take(&fixture, &output))
            continue;
        assert_string_equal(fixture.recorder.text, "1 emit t 1\n1 done 0\n");
        assert_string_equal(fixture.end.text, cases[i].text);
        assert_int_equal(fixture.end.cause, cases[i].cause);
        assert_int_equal(fixture.end.number, 2);
        await_gone(pid);
        fixture_stop(&fixture);
    }
}

/* How long a loop lasts behind some records that are fine; UINT64_MAX: one of those had no processor for so long. */
static uint64_t loop_run(int before)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    spec.time_ms_max = BUDGET_SHORT_MS;
    fixture_start(&fixture, &spec);
    for (int i = 0; i < before; i++)
        (void)fixture_put(&fixture, NULL, "1");
    uint64_t began_ns = clock_now_ns();
    uint64_t number = fixture_give(&fixture, NULL, "[\"loop\"]");
    while (fixture_take(&fixture, &output))
        continue;
    uint64_t took_ns = clock_now_ns() - began_ns;
    assert_int_equal(fixture.end.cause, WEIR_TIMEOUT);
    assert_in_range(fixture.end.number, 1, number);
    bool is_the_loop = fixture.end.number == number;
    fixture_stop(&fixture);
    return is_the_loop ? took_ns : UINT64_MAX;
}

/* A machine that has no processor for the watcher or the spawner meanwhile lets it last longer: one of a few runs must
 * show what the code does. */
static void endless_loop_ends_within_twice_the_budget(void **state)
{
    (void)state;
    for (int before = 0; before < 100; before += 33) {
        uint64_t best_ns = UINT64_MAX;
        for (int run = 0; run < 5 && best_ns > 2 * BUDGET_SHORT_MS * NS_PER_MS; run++) {
            uint64_t took_ns = loop_run(before);
            assert_true(took_ns >= BUDGET_SHORT_MS * NS_PER_MS);
            best_ns = took_ns < best_ns ? took_ns : best_ns;
        }
        assert_in_range(best_ns, BUDGET_SHORT_MS * NS_PER_MS, 2 * BUDGET_SHORT_MS * NS_PER_MS);
    }
}

static void child_that_rings_for_nothing_is_killed(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    (void)state;
    spec.time_ms_max = 60000;
    fixture_start(&fixture, &spec);
    const char *end = fixture_handle(&fixture, NULL, "[\"ring\"]");
    assert_string_equal(end, "it rang the broker's bell again and again for nothing: killed while handling");
    assert_int_equal(fixture.end.cause, WEIR_PROTOCOL);
    assert_int_equal(fixture.end.number, 1);
    fixture_stop(&fixture);
}

static void kill_from_outside_is_told(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    (void)state;
    fixture_start(&fixture, &spec);
    assert_int_equal(kill(child_pid(), SIGKILL), 0);
    assert_false(fixture_take(&fixture, &output));
    assert_string_equal(fixture.end.text, "killed by SIGKILL while idle");
    assert_int_equal(fixture.end.cause, WEIR_FAILED);
    assert_int_equal(fixture.end.number, 0);
    fixture_stop(&fixture);
}

static void stop_in_order_is_no_failure(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_input stop = {.kind = INPUT_STOP, .number = 2};
    struct plugin_output output;
    (void)state;
    fixture_start(&fixture, &spec);
    (void)fixture_give(&fixture, NULL, "1");
    assert_int_equal(plugin_host_process.give(fixture.host, &stop), WEIR_OK);
    plugin_host_process.flush(fixture.host);
    fixture.recorder.size = 0;
    while (fixture_take(&fixture, &output))
        continue;
    assert_string_equal(fixture.recorder.text, "1 emit t 1\n1 done 0\n");
    assert_int_equal(fixture.end.cause, WEIR_OK);
    fixture_stop(&fixture);
}

static void snapshot_is_restored_in_the_next_child(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_input snapshot = {.kind = INPUT_SNAPSHOT, .number = 3};
    struct plugin_input restore = {.kind = INPUT_RESTORE, .number = 1};
    (void)state;
    fixture_start(&fixture, &spec);
    (void)fixture_handle(&fixture, NULL, "1");
    (void)fixture_handle(&fixture, NULL, "2");
    assert_int_equal(plugin_host_process.give(fixture.host, &snapshot), WEIR_OK);
    plugin_host_process.flush(fixture.host);
    assert_int_equal(fixture_done(&fixture, 3), WEIR_ACTOR_OK);
    assert_string_equal(fixture.recorder.text, "3 snapshot 2\n3 done 0\n");
    fixture_stop(&fixture);

    fixture_start(&fixture, &spec);
    restore.bytes = view_of("\x02", 1);
    assert_int_equal(plugin_host_process.give(fixture.host, &restore), WEIR_OK);
    plugin_host_process.flush(fixture.host);
    assert_int_equal(fixture_done(&fixture, 1), WEIR_ACTOR_OK);
    fixture.next_number = 2;
    (void)fixture_handle(&fixture, NULL, "3");
    snapshot.number = 3;
    assert_int_equal(plugin_host_process.give(fixture.host, &snapshot), WEIR_OK);
    plugin_host_process.flush(fixture.host);
    assert_int_equal(fixture_done(&fixture, 3), WEIR_ACTOR_OK);
    assert_string_equal(fixture.recorder.text, "3 snapshot 3\n3 done 0\n");
    fixture_stop(&fixture);
}

static void full_ring_refuses_and_rings_when_there_is_room(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    uint64_t given = 0, done = 0, full = 0;
    (void)state;
    spec.ring_bytes = 4096;
    fixture_start(&fixture, &spec);
    while (done < 5000) {
        unsigned rings = fixture_rings(&fixture);
        enum weir_error error = WEIR_OK;
        while (given < 5000 && error == WEIR_OK) {
            struct plugin_input input = input_message(given + 1, "t", "k", "1234567");
            error = plugin_host_process.give(fixture.host, &input);
            given += error == WEIR_OK;
            full += error == WEIR_FULL;
            assert_true(error == WEIR_OK || error == WEIR_FULL);
        }
        plugin_host_process.flush(fixture.host);
        while ((error = plugin_host_process.take(fixture.host, &output, &fixture.end)) == WEIR_OK) {
            assert_int_equal(output.number, done + 1);
            done += output.kind == OUTPUT_DONE || output.is_last;
        }
        assert_int_equal(error, WEIR_AGAIN);
        if (done < given)
            fixture_await(&fixture, rings);
    }
    assert_true(full > 0);
    fixture_stop(&fixture);
}

/* A child that waits because nobody takes what it has is not late, however long that lasts. */
static void waiting_for_room_is_not_held_against_the_child(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    unsigned emits = 0;
    (void)state;
    spec.ring_bytes = 4096;
    spec.time_ms_max = BUDGET_MS;
    fixture_start(&fixture, &spec);
    (void)fixture_give(&fixture, NULL, "[\"emit-many\", 500]");
    for (int round = 0; round < 2; round++) {
        /* Ticks ring while outputs lie there: so many of them are more than the budget. */
        for (int tick = 0; tick < 12; tick++)
            fixture_await(&fixture, fixture_rings(&fixture));
        for (int i = 0; i < 40; i++) {
            assert_true(fixture_take(&fixture, &output));
            emits += output.kind == OUTPUT_EMIT;
        }
    }
    while (fixture_take(&fixture, &output) && output.kind != OUTPUT_DONE)
        emits++;
    assert_int_equal(output.result, WEIR_ACTOR_OK);
    assert_int_equal(emits, 500);
    fixture_stop(&fixture);
}

static void child_has_no_descriptor_but_its_own(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    char path[300], target[128];
    unsigned bells = 0, nulls = 0, objects = 0;
    (void)state;
    fixture_start(&fixture, &spec);
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)child_pid());
    DIR *folder = opendir(path);
    if (folder == NULL) {
        fixture_stop(&fixture);
        skip(); /* only root may look into a process that cannot be dumped */
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%.200s", (int)child_pid(), entry->d_name);
        ssize_t size = readlink(path, target, sizeof target - 1);
        if (size < 0)
            continue;
        target[size] = '\0';
        bells += strcmp(target, "anon_inode:[eventfd]") == 0;
        nulls += strcmp(target, "/dev/null") == 0;
        objects += strcmp(target, "/memfd:weir-plugin (deleted)") == 0;
        if (strcmp(target, "anon_inode:[eventfd]") != 0 && strcmp(target, "/dev/null") != 0 &&
            strcmp(target, "/memfd:weir-plugin (deleted)") != 0 && strstr(target, "/unit/") == NULL)
            fail_msg("descriptor %s: %s", entry->d_name, target);
    }
    (void)closedir(folder);
    assert_int_equal(bells, 1);
    assert_int_equal(nulls, 3);
    assert_int_equal(objects, 1);
    fixture_stop(&fixture);
}

/* Three times: the first one that ends soon after its start is followed by another only after a pause. */
static void another_spawner_takes_the_place_of_one_that_ended(void **state)
{
    struct fixture fixture;
    struct plugin_spec spec = fixture_spec(MISBEHAVE);
    struct plugin_output output;
    (void)state;
    for (int round = 0; round < 3; round++) {
        fixture_start(&fixture, &spec);
        pid_t child = child_pid(), spawner = processes_spawner_pid();
        assert_int_equal(kill(spawner, SIGKILL), 0);
        assert_false(fixture_take(&fixture, &output));
        assert_int_equal(fixture.end.cause, WEIR_CLOSED);
        assert_non_null(strstr(fixture.end.text, "the process that starts plugins"));
        await_gone(child);
        fixture_stop(&fixture);
        uint64_t until_ns = clock_now_ns() + FIXTURE_WAIT_S * NS_PER_S;
        while (processes_spawner_pid() == -1 && clock_now_ns() < until_ns)
            (void)sched_yield();
        assert_int_not_equal(processes_spawner_pid(), -1);
        assert_int_not_equal(processes_spawner_pid(), spawner);
    }
    fixture_start(&fixture, &spec);
    assert_string_equal(fixture_handle(&fixture, "k", "1"), "1 emit t k 1\n1 done 0\n");
    fixture_stop(&fixture);
}

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_is_handled_in_the_child),
        cmocka_unit_test(failure_ends_the_child_with_its_reason),
        cmocka_unit_test(start_that_fails_says_why),
        cmocka_unit_test(crash_is_told_with_its_cause_and_the_input_in_hand),
        cmocka_unit_test(endless_loop_ends_within_twice_the_budget),
        cmocka_unit_test(child_that_rings_for_nothing_is_killed),
        cmocka_unit_test(kill_from_outside_is_told),
        cmocka_unit_test(stop_in_order_is_no_failure),
        cmocka_unit_test(snapshot_is_restored_in_the_next_child),
        cmocka_unit_test(full_ring_refuses_and_rings_when_there_is_room),
        cmocka_unit_test(waiting_for_room_is_not_held_against_the_child),
        cmocka_unit_test(child_has_no_descriptor_but_its_own),
        cmocka_unit_test(another_spawner_takes_the_place_of_one_that_ended),
    };
    char why[PLUGIN_TEXT_SIZE];
    if (processes_open(why, sizeof why) != WEIR_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0)
        processes_close();
    return failed;
}
