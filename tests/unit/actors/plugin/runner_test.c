/* One plugin instance: what is opened and what is refused, what calls bring about, bounds, state carried over. */
#include "actors/plugin/runner.h"

#include "actors/plugin/plugin_limits.h"
#include "clients/wire/value.h"
#include "tests/unit/actors/plugin/recorder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct recorder recorder;
static char why[PLUGIN_TEXT_SIZE];

static struct view nil(void) { return view_of("\xc0", 1); }

static struct runner *opened(const char *file, const struct runner_bounds *bounds)
{
    struct runner *runner = NULL;
    struct runner_bounds none = {0};
    recorder = (struct recorder){.room = UINT32_MAX};
    if (runner_open(file, WEIR_ACTOR_FOLD, bounds != NULL ? bounds : &none, recorder_take, &recorder, &runner, why,
                    sizeof why) != WEIR_OK)
        fail_msg("%s", why);
    return runner;
}

static struct runner *started(const char *file, const struct runner_bounds *bounds)
{
    struct runner *runner = opened(file, bounds);
    assert_int_equal(runner_start(runner, nil(), why, sizeof why), WEIR_OK);
    return runner;
}

/* Handles one record and says what came of it. */
static const char *handled(struct runner *runner, uint64_t number, const char *key, const char *json)
{
    struct plugin_input input = input_message(number, "t", key, json);
    recorder.size = 0;
    recorder.text[0] = '\0';
    (void)runner_handle(runner, &input);
    return recorder.text;
}

static void plugin_is_refused_for_one_reason_each(void **state)
{
    static const struct {
        const char *file;
        enum weir_error error;
        const char *text;
    } cases[] = {
        {TEST_PLUGINS "/refused_abi_major.so", WEIR_BAD_REQUEST, "version 2.3"},
        {TEST_PLUGINS "/refused_abi_minor.so", WEIR_BAD_REQUEST, "version 1.4"},
        {TEST_PLUGINS "/refused_size.so", WEIR_BAD_REQUEST, "WEIR_ACTOR_HEAD"},
        {TEST_PLUGINS "/refused_role.so", WEIR_BAD_REQUEST, "is no fold"},
        {TEST_PLUGINS "/refused_half_state.so", WEIR_BAD_REQUEST, "but not both"},
        {TEST_PLUGINS "/refused_no_handle.so", WEIR_BAD_REQUEST, "lacks"},
        {TEST_PLUGINS "/refused_no_export.so", WEIR_BAD_REQUEST, "exports no weir_actor_plugin"},
        {TEST_PLUGINS "/refused_undefined.so", WEIR_BAD_REQUEST, "undefined symbol: nobody_has_this"},
        {TEST_PLUGINS "/no-such-file.so", WEIR_NOT_FOUND, "No such file"},
        {TEST_PLUGINS, WEIR_FORBIDDEN, "no regular file"},
        {"/dev/null", WEIR_FORBIDDEN, "no regular file"},
        {TEST_PLUGINS "/CTestTestfile.cmake", WEIR_BAD_REQUEST, "cannot be loaded"},
    };
    (void)state;
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct runner *runner = NULL;
        struct runner_bounds bounds = {0};
        const char *file = cases[index].file;
        if (strstr(file, "CTestTestfile") != NULL && access(file, R_OK) != 0)
            continue;
        assert_int_equal(
            runner_open(file, WEIR_ACTOR_FOLD, &bounds, recorder_take, &recorder, &runner, why, sizeof why),
            cases[index].error);
        assert_null(runner);
        if (strstr(why, cases[index].text) == NULL || strstr(why, "/proc/self/fd") != NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", file, why, cases[index].text);
    }
}

static void copy_file(const char *from, const char *to, mode_t mode)
{
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    ssize_t size = read(in, bytes, sizeof bytes);
    assert_true(in >= 0 && out >= 0 && size > 0 && size < (ssize_t)sizeof bytes);
    assert_int_equal(write(out, bytes, (size_t)size), size);
    assert_int_equal(fchmod(out, mode), 0);
    close(in);
    close(out);
}

static void file_that_others_can_write_is_refused(void **state)
{
    (void)state;
    static const mode_t modes[] = {0720, 0702, 0777};
    char name[64];
    snprintf(name, sizeof name, "runner_test_%d.so", (int)getpid());
    for (size_t index = 0; index < sizeof modes / sizeof modes[0]; index++) {
        struct runner *runner = NULL;
        struct runner_bounds bounds = {0};
        copy_file(TEST_PLUGINS "/count.so", name, modes[index]);
        assert_int_equal(
            runner_open(name, WEIR_ACTOR_FOLD, &bounds, recorder_take, &recorder, &runner, why, sizeof why),
            WEIR_FORBIDDEN);
        assert_non_null(strstr(why, "chmod go-w"));
    }
    unlink(name);
}

/* A file that is overwritten under a running instance changes nothing for it, and the next opening runs the new one. */
static void running_instance_keeps_its_code(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "runner_test_%d.so", (int)getpid());
    copy_file(TEST_PLUGINS "/count.so", name, 0700);
    struct runner *old = started(name, NULL);
    copy_file(TEST_PLUGINS "/misbehave.so", name, 0700);
    assert_string_equal(handled(old, 1, "k", "1"), "1 emit t k 1\n1 done 0\n");
    struct runner *new = started(name, NULL);
    assert_string_equal(runner_plugin(new)->name, "misbehave");
    assert_string_equal(runner_plugin(old)->name, "count");
    runner_close(&old);
    runner_close(&new);
    unlink(name);
}

static void records_bring_about_emissions_then_done(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/count.so", NULL);
    assert_string_equal(handled(runner, 1, "a", "7"), "1 emit t a 1\n1 done 0\n");
    assert_string_equal(handled(runner, 2, "a", "7"), "2 emit t a 2\n2 done 0\n");
    assert_string_equal(handled(runner, 3, "b", "7"), "3 emit t b 1\n3 done 0\n");
    assert_string_equal(handled(runner, 4, "a", "null"), "4 emit t a null\n4 done 0\n");
    assert_string_equal(handled(runner, 5, NULL, "7"), "5 done 1 (a record without a key cannot be counted)\n");
    assert_string_equal(handled(runner, 6, "a", "7"), "6 emit t a 1\n6 done 0\n");
    runner_close(&runner);
}

static void merged_form_comes_with_its_update(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/sum.so", NULL);
    assert_string_equal(handled(runner, 1, "a", "7"), "1 emit t a 7 7\n1 done 0\n");
    assert_string_equal(handled(runner, 2, "a", "5"), "2 emit t a 5 12\n2 done 0\n");
    assert_string_equal(handled(runner, 3, "b", "1"), "3 emit t b 1 1\n3 done 0\n");
    assert_string_equal(handled(runner, 4, "a", "null"), "4 emit t a null\n4 done 0\n");
    assert_string_equal(handled(runner, 5, "a", "2"), "5 emit t a 2 2\n5 done 0\n");
    runner_close(&runner);
}

static void merged_form_that_is_none_fails_the_plugin(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\"nil\"", "a removal has no merged form"},    {"\"two\"", "(2 bytes) is not exactly one msgpack value"},
        {"\"nothing\"", "values of 1 and 0 bytes"},     {"\"null\"", "without a merged form"},
        {"\"large\"", "values of 1 and 2097152 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct runner *runner = started(TEST_PLUGINS "/sum.so", &(struct runner_bounds){.value_bytes_max = 1 << 20});
        const char *said = handled(runner, 1, "a", cases[i][0]);
        if (strncmp(said, "1 done 2 (", 10) != 0 || strstr(said, cases[i][1]) == NULL)
            fail_msg("%s: %s", cases[i][0], said);
        runner_close(&runner);
    }
}

static void state_is_carried_by_snapshot_and_restore(void **state)
{
    (void)state;
    struct runner *old = started(TEST_PLUGINS "/count.so", NULL);
    (void)handled(old, 1, "a", "7");
    (void)handled(old, 2, "b", "7");
    (void)handled(old, 3, "a", "7");
    struct plugin_input take = {.kind = INPUT_SNAPSHOT, .number = 4};
    recorder.size = 0;
    assert_int_equal(runner_handle(old, &take), WEIR_ACTOR_OK);
    assert_string_equal(recorder.text, "4 snapshot {\"a\":2,\"b\":1}\n4 done 0\n");
    struct recorder kept = recorder;
    struct runner *new = started(TEST_PLUGINS "/count.so", NULL);
    struct plugin_input restore = {.kind = INPUT_RESTORE, .number = 1};
    restore.bytes = view_of(kept.snapshot, kept.snapshot_size);
    assert_int_equal(runner_handle(new, &restore), WEIR_ACTOR_OK);
    assert_string_equal(handled(new, 2, "a", "7"), "2 emit t a 3\n2 done 0\n");
    runner_close(&new);
    runner_close(&old);
}

static void config_reaches_init_and_init_can_refuse(void **state)
{
    (void)state;
    struct runner *runner = opened(TEST_PLUGINS "/count.so", NULL);
    assert_int_equal(runner_start(runner, view_of("\x81\xa5start\x05", 8), why, sizeof why), WEIR_OK);
    assert_string_equal(handled(runner, 1, "a", "7"), "1 emit t a 6\n1 done 0\n");
    runner_close(&runner);
    runner = opened(TEST_PLUGINS "/count.so", NULL);
    assert_int_equal(runner_start(runner, view_of("\x81\xa5st\x61rx\x05", 8), why, sizeof why), WEIR_FAILED);
    assert_non_null(strstr(why, "{start: a number}"));
    runner_close(&runner);
}

static void wrong_emissions_fail_with_the_reason(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[\"emit\", \"a//b\", \"k\", 1]", "the topic is no name: segment 2 is empty"},
        {"[\"emit\", \"$sys/x\", \"k\", 1]", "topics that start with '$' are the broker's"},
        {"[\"emit\", \"a/#\", \"k\", 1]", "the topic is no name"},
        {"[\"odd\"]", "the plugin returned 77, which is no result of handle"},
        {"[\"fail\"]", "told to fail"},
        {"[\"fail-once\"]", "handle failed and gave no reason"},
        {"[\"emit-many\", 9]", "one message may bring about 8 records of 64 bytes together"},
        {"[\"emit\", \"t\", \"k\", \"00000000001111111111222222222233333333334444444444\"]", "at most 48 are allowed"},
        {"[\"emit\", \"t\", \"k\", [[[[[1]]]]]]", "is not exactly one msgpack value of depth 4"},
        {"[\"timer\", 99999999999999]", "a timer of more than"},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct runner_bounds bounds = {.emits_max = 8, .emit_bytes_max = 64, .value_bytes_max = 48, .depth_max = 4};
        struct runner *runner = started(TEST_PLUGINS "/misbehave.so", &bounds);
        const char *text = handled(runner, 1, "k", cases[index][0]);
        if (strstr(text, "1 done 2") == NULL || strstr(text, cases[index][1]) == NULL)
            fail_msg("%s: %s", cases[index][0], text);
        runner_close(&runner);
    }
}

static void what_came_is_held_to_bounds_when_it_goes_on(void **state)
{
    (void)state;
    struct runner_bounds bounds = {.value_bytes_max = 8, .depth_max = 2};
    struct runner *runner = started(TEST_PLUGINS "/echo.so", &bounds);
    assert_string_equal(handled(runner, 1, "k", "\"fits it\""), "1 emit t k \"fits it\"\n1 done 0\n");
    assert_string_equal(handled(runner, 2, "k", "[[1]]"), "2 emit t k [[1]]\n2 done 0\n");
    assert_string_equal(handled(runner, 3, "k", "{\"a\":{}}"), "3 emit t k {\"a\":{}}\n3 done 0\n");
    runner_close(&runner);
    static const char *const cases[][2] = {{"\"12345678\"", "the value has 9 bytes, at most 8"},
                                           {"[[[1]]]", "not exactly one msgpack value of depth 2"},
                                           {"{\"a\":[{}]}", "not exactly one msgpack value of depth 2"}};
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        runner = started(TEST_PLUGINS "/echo.so", &bounds);
        const char *text = handled(runner, 1, "k", cases[index][0]);
        if (strstr(text, "1 done 2") == NULL || strstr(text, cases[index][1]) == NULL)
            fail_msg("%s: %s", cases[index][0], text);
        runner_close(&runner);
    }
}

static void refusal_leaves_the_instance_usable(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    assert_string_equal(handled(runner, 1, "k", "[\"refuse\"]"), "1 done 1 (this one I do not like)\n");
    assert_string_equal(handled(runner, 2, "k", "[\"tell-count\"]"), "2 emit t k 0\n2 done 0\n");
    runner_close(&runner);
}

/* Asks one value and says what came of it. */
static const char *asked(struct runner *runner, uint64_t number, const char *json)
{
    struct plugin_input input = input_message(number, "t", NULL, json);
    input.message.kind = WEIR_MESSAGE_ASK;
    recorder.size = 0;
    recorder.text[0] = '\0';
    (void)runner_handle(runner, &input);
    return recorder.text;
}

static void requests_are_replied_to_once_and_nothing_else_is(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    assert_string_equal(asked(runner, 1, "[\"reply\"]"), "1 reply 1\n1 done 0\n");
    assert_string_equal(asked(runner, 2, "[\"no-reply\"]"), "2 done 0\n");
    assert_string_equal(asked(runner, 3, "[\"refuse\"]"), "3 done 1 (this one I do not like)\n");
    assert_non_null(strstr(asked(runner, 4, "[\"reply-twice\"]"), "done 2 (weir_reply in handle: one reply"));
    runner_close(&runner);
    runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    assert_non_null(strstr(handled(runner, 1, "a", "[\"reply-twice\"]"), "1 done 2 (weir_reply in handle: one reply"));
    runner_close(&runner);
    struct runner_bounds small = {.value_bytes_max = 4};
    runner = started(TEST_PLUGINS "/misbehave.so", &small);
    assert_non_null(strstr(asked(runner, 1, "[\"reply-twice\", 12345]"), "1 done 2 (the value has"));
    runner_close(&runner);
}

static void plugin_of_before_requests_is_not_asked(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/elder.so", NULL);
    assert_string_equal(asked(runner, 1, "1"), "1 done 1 (the plugin answers no requests)\n");
    assert_non_null(strstr(handled(runner, 2, "a", "1"), "2 done 0"));
    runner_close(&runner);
}

static void full_sink_fails_the_input_whatever_the_plugin_says(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    recorder.room = 3;
    assert_string_equal(handled(runner, 1, "k", "[\"emit-many\", 5]"),
                        "1 emit t k0 0\n1 emit t k1 1\n1 emit t k2 2\n1 done 2 (the host has no room for more output "
                        "of one message)\n");
    runner_close(&runner);
    runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    recorder.room = 0; /* cancelling returns nothing, so the plugin says OK */
    assert_non_null(strstr(handled(runner, 1, "k", "[\"untimer\"]"), "1 done 2"));
    runner_close(&runner);
}

static void memory_is_bounded_and_given_back(void **state)
{
    (void)state;
    struct runner_bounds bounds = {.memory_bytes_max = 4096};
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", &bounds);
    for (uint64_t number = 1; number < 100; number++)
        assert_non_null(strstr(handled(runner, number, "k", "[\"alloc\", 3000]"), "done 0"));
    assert_non_null(strstr(handled(runner, 100, "k", "[\"alloc\", 4096]"), "done 2"));
    runner_close(&runner);
}

static void held_message_lives_until_released(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    assert_string_equal(handled(runner, 1, "one", "[\"hold\"]"), "1 done 0\n");
    assert_string_equal(handled(runner, 2, "two", "[\"tell-held\"]"), "2 emit t one [\"hold\"]\n2 done 0\n");
    assert_string_equal(handled(runner, 3, "three", "[\"hold\"]"), "3 done 0\n");
    assert_string_equal(handled(runner, 4, "four", "[\"tell-held\"]"), "4 emit t three [\"hold\"]\n4 done 0\n");
    runner_close(&runner);
}

static void timers_and_log_lines_come_out(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/misbehave.so", NULL);
    assert_string_equal(handled(runner, 1, "k", "[\"timer\", 250]"), "1 timer 7 250 0\n1 done 0\n");
    assert_string_equal(handled(runner, 2, "k", "[\"untimer\"]"), "2 cancel 7\n2 done 0\n");
    assert_string_equal(handled(runner, 3, "k", "[\"log\"]"), "3 log 2 (told to log)\n3 done 0\n");
    runner_close(&runner);
}

static void plugin_without_snapshot_fails_when_asked(void **state)
{
    (void)state;
    struct runner *runner = started(TEST_PLUGINS "/forgetful.so", NULL);
    struct plugin_input take = {.kind = INPUT_SNAPSHOT, .number = 1};
    assert_int_equal(runner_handle(runner, &take), WEIR_ACTOR_FAILED);
    assert_string_equal(recorder.text, "1 done 2 (the plugin has no snapshot)\n");
    runner_close(&runner);
}

static void snapshot_beyond_its_bound_fails(void **state)
{
    (void)state;
    struct runner_bounds bounds = {.snapshot_bytes_max = 16};
    struct runner *runner = started(TEST_PLUGINS "/count.so", &bounds);
    (void)handled(runner, 1, "a key of some length", "7");
    struct plugin_input take = {.kind = INPUT_SNAPSHOT, .number = 2};
    assert_int_equal(runner_handle(runner, &take), WEIR_ACTOR_FAILED);
    assert_non_null(strstr(recorder.text, "the snapshot is larger than 16 bytes"));
    runner_close(&runner);
}

/* Written and read by the verbs, and read by the broker's own reader. */
static void values_survive_the_verbs(void **state)
{
    (void)state;
    struct runner *runner = opened(TEST_PLUGINS "/count.so", NULL);
    struct weir_self *self = (struct weir_self *)runner; /* as the runner hands it to its plugin */
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 255, 256, 70000};
    static uint8_t bytes[70000], out[80000];
    for (size_t index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        for (uint32_t type = WEIR_VALUE_BIN; type <= WEIR_VALUE_EXT; type++) {
            struct weir_writer writer = {out, 0, sizeof out, false};
            struct weir_item item = {.type = type, .as = {.u = 9}, .bytes = {bytes, sizes[index]}}, again;
            weir_write(self, &writer, &item);
            assert_false(writer.is_full);
            size_t size = 0;
            assert_int_equal(value_scan(view_of(out, writer.size), 0, &size), WEIR_OK);
            assert_int_equal(size, writer.size);
            struct weir_reader reader = {weir_bytes_of(out, size), false};
            assert_true(weir_read(self, &reader, &again));
            assert_int_equal(again.type, type);
            assert_int_equal(again.bytes.size, sizes[index]);
            assert_true(type != WEIR_VALUE_EXT || again.as.u == 9);
            struct weir_writer small = {out, 0, size - 1, false};
            weir_write(self, &small, &item);
            assert_true(small.is_full && small.size == 0);
        }
    }
    runner_close(&runner);
}

static void reader_believes_no_length(void **state)
{
    (void)state;
    struct runner *runner = opened(TEST_PLUGINS "/count.so", NULL);
    struct weir_self *self = (struct weir_self *)runner;
    static const char *const cases[] = {"\xdd\xff\xff\xff\xff", "\xdf\x7f\xff\xff\xff", "\xdb\xff\xff\xff\xff",
                                        "\xc6\x00\x00\x00\x09", "\xc1\xc1\xc1\xc1\xc1"};
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct weir_reader reader = {weir_bytes_of(cases[index], 5), false};
        struct weir_item item;
        assert_false(weir_read(self, &reader, &item));
        assert_true(reader.is_bad);
        assert_false(weir_read(self, &reader, &item));
        reader = (struct weir_reader){weir_bytes_of(cases[index], 5), false};
        assert_false(weir_skip(self, &reader, NULL));
        assert_true(reader.is_bad);
    }
    runner_close(&runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plugin_is_refused_for_one_reason_each),
        cmocka_unit_test(file_that_others_can_write_is_refused),
        cmocka_unit_test(running_instance_keeps_its_code),
        cmocka_unit_test(records_bring_about_emissions_then_done),
        cmocka_unit_test(merged_form_comes_with_its_update),
        cmocka_unit_test(merged_form_that_is_none_fails_the_plugin),
        cmocka_unit_test(state_is_carried_by_snapshot_and_restore),
        cmocka_unit_test(config_reaches_init_and_init_can_refuse),
        cmocka_unit_test(wrong_emissions_fail_with_the_reason),
        cmocka_unit_test(what_came_is_held_to_bounds_when_it_goes_on),
        cmocka_unit_test(refusal_leaves_the_instance_usable),
        cmocka_unit_test(requests_are_replied_to_once_and_nothing_else_is),
        cmocka_unit_test(plugin_of_before_requests_is_not_asked),
        cmocka_unit_test(full_sink_fails_the_input_whatever_the_plugin_says),
        cmocka_unit_test(memory_is_bounded_and_given_back),
        cmocka_unit_test(held_message_lives_until_released),
        cmocka_unit_test(timers_and_log_lines_come_out),
        cmocka_unit_test(plugin_without_snapshot_fails_when_asked),
        cmocka_unit_test(snapshot_beyond_its_bound_fails),
        cmocka_unit_test(values_survive_the_verbs),
        cmocka_unit_test(reader_believes_no_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
