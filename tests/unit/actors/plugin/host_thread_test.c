/* The thread host: what takes the shortcut, and what waits to be taken. */
#include "actors/plugin/host.h"

#include "actors/plugin/plugin_limits.h"

#include "tests/unit/actors/plugin/recorder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* One emission's place. */
struct place {
    struct recorder recorder;
    struct plugin_output output;
    char key[16], value[256];
    bool is_taken, is_closed;
};

static bool place_take(void *context, const struct plugin_output *output)
{
    struct place *place = context;
    assert_false(place->is_taken);
    assert_true(output->value.size <= sizeof place->value && output->key.size <= sizeof place->key);
    if (place->is_closed)
        return false;
    place->is_taken = true;
    place->output = *output;
    memcpy(place->key, output->key.data, output->key.size);
    memcpy(place->value, output->value.data, output->value.size);
    place->output.key = view_of(place->key, output->key.size);
    place->output.value = view_of(place->value, output->value.size);
    return true;
}

static void place_take_back(void *context, struct plugin_output *out)
{
    struct place *place = context;
    assert_true(place->is_taken);
    place->is_taken = false;
    out->topic = place->output.topic;
    out->key = place->output.key;
    out->has_key = place->output.has_key;
    out->value = place->output.value;
}

static struct plugin_host *started_with(uint32_t emits_max)
{
    static char why[PLUGIN_TEXT_SIZE];
    struct plugin_spec spec = {
        .name = "tested", .file = TEST_PLUGINS "/misbehave.so", .role = WEIR_ACTOR_FOLD, .config = view_of("\xc0", 1)};
    spec.bounds.emits_max = emits_max;
    struct plugin_host *host = NULL;
    struct plugin_output output;
    struct plugin_end end;
    if (plugin_host_thread.start(&spec, (struct plugin_bell){NULL, NULL}, &host, why, sizeof why) != WEIR_OK)
        fail_msg("%s", why);
    assert_int_equal(plugin_host_thread.take(host, &output, &end), WEIR_OK);
    assert_int_equal(output.result, WEIR_ACTOR_OK);
    assert_int_equal(plugin_host_thread.take(host, &output, &end), WEIR_AGAIN);
    return host;
}

static struct plugin_host *started(void) { return started_with(0); }

/* Calls it with a record: what went by the shortcut, and behind a bar what there was to take. */
static const char *called(struct plugin_host *host, struct place *place, const char *json)
{
    const struct plugin_shortcut shortcut = {place_take, place_take_back, place};
    struct plugin_input input = input_message(1, "t", "k", json);
    struct plugin_output output;
    struct plugin_end end;
    bool is_over = false;
    place->recorder = (struct recorder){.room = UINT32_MAX};
    place->is_taken = false;
    assert_int_equal(plugin_host_thread.call(host, &input, &shortcut, &is_over), WEIR_OK);
    assert_true(is_over == place->is_taken);
    if (is_over)
        recorder_take(&place->recorder, &place->output);
    recorder_add(&place->recorder, "|");
    while (plugin_host_thread.take(host, &output, &end) == WEIR_OK)
        recorder_take(&place->recorder, &output);
    plugin_host_thread.flush(host);
    return place->recorder.text;
}

static void one_emission_goes_by_the_shortcut(void **state)
{
    static struct place place;
    struct plugin_host *host = started();
    (void)state;
    assert_string_equal(called(host, &place, "5"), "1 emit t k 5\n|");
    assert_string_equal(called(host, &place, "\"text\""), "1 emit t k \"text\"\n|");
    place.is_closed = true;
    assert_string_equal(called(host, &place, "6"), "|1 emit t k 6\n1 done 0\n");
    plugin_host_thread.stop(&host);
}

static void whatever_else_comes_is_to_be_taken_in_its_order(void **state)
{
    static struct place place;
    struct plugin_host *host = started();
    (void)state;
    assert_string_equal(called(host, &place, "[\"emit-many\", 3]"),
                        "|1 emit t k0 0\n1 emit t k1 1\n1 emit t k2 2\n1 done 0\n");
    assert_string_equal(called(host, &place, "[\"log\"]"), "|1 log 2 (told to log)\n1 done 0\n");
    assert_string_equal(called(host, &place, "[\"timer\", 9]"), "|1 timer 7 9 0\n1 done 0\n");
    assert_string_equal(called(host, &place, "7"), "1 emit t k 7\n|");
    plugin_host_thread.stop(&host);
}

static void what_a_refused_record_emitted_is_taken_back(void **state)
{
    static struct place place;
    struct plugin_host *host = started();
    (void)state;
    assert_string_equal(called(host, &place, "[\"emit-and-refuse\"]"), "|1 done 1 (after all I do not like it)\n");
    assert_string_equal(called(host, &place, "[\"refuse\"]"), "|1 done 1 (this one I do not like)\n");
    assert_string_equal(called(host, &place, "8"), "1 emit t k 8\n|");
    plugin_host_thread.stop(&host);
}

/* However small each is. */
static void as_many_emissions_as_are_allowed_find_room(void **state)
{
    struct plugin_host *host = started_with(40000);
    struct plugin_input input = input_message(1, "t", "k", "[\"emit-many\", 40000]");
    struct plugin_output output = {.number = 0};
    struct plugin_end end;
    uint32_t emitted = 0;
    (void)state;
    assert_int_equal(plugin_host_thread.give(host, &input), WEIR_OK);
    while (plugin_host_thread.take(host, &output, &end) == WEIR_OK && output.kind == OUTPUT_EMIT)
        emitted++;
    assert_int_equal(output.kind, OUTPUT_DONE);
    assert_int_equal(output.result, WEIR_ACTOR_OK);
    assert_int_equal(emitted, 40000);
    plugin_host_thread.stop(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_emission_goes_by_the_shortcut),
        cmocka_unit_test(whatever_else_comes_is_to_be_taken_in_its_order),
        cmocka_unit_test(what_a_refused_record_emitted_is_taken_back),
        cmocka_unit_test(as_many_emissions_as_are_allowed_find_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
