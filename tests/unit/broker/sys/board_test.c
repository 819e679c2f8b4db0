/* Boards: what differs between two looks, and nothing else; keys of each kind of row; rows that are cut; memory that
 * ends. What the admin socket's commands would say is this file's, written with the answers they write with. */
#include "broker/sys/board.h"

#include "broker/admin/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS_MAX = 40000 };

struct row {
    const char *name; /* NULL: "row INDEX" */
    uint64_t value;
};

struct scene {
    struct row rows[ROWS_MAX];
    size_t count;
    const char *command, *pattern; /* as asked for */
    enum weir_error error;
    struct arena *arena;
    struct budget *budget;
    struct board_view before, now, changes;
};

static struct scene scene;

/* Stands in for the admin socket's: each command in the form of its own. */
enum weir_error admin_describe(struct admin *admin, const char *command, const char *pattern, void *data,
                               size_t capacity, size_t *size)
{
    struct answer answer;
    (void)admin;
    scene.command = command;
    scene.pattern = pattern;
    if (scene.error != WEIR_OK)
        return scene.error;
    answer_init(&answer, data, capacity);
    if (strcmp(command, "status") == 0) {
        answer_uint(&answer, "records", scene.rows[0].value);
    } else {
        answer_rows(&answer, command);
        for (size_t i = 0; i < scene.count; i++) {
            char name[32];
            snprintf(name, sizeof name, "row %zu", i);
            answer_map(&answer, NULL);
            if (strcmp(command, "connections") == 0)
                answer_uint(&answer, "id", i + 1);
            else
                answer_text(&answer, "name", scene.rows[i].name != NULL ? scene.rows[i].name : name);
            answer_uint(&answer, "value", scene.rows[i].value);
            answer_end(&answer);
        }
        answer_end(&answer);
    }
    answer_end(&answer);
    *size = answer.writer.size;
    return answer.writer.is_full ? WEIR_TOO_BIG : WEIR_OK;
}

static int scene_open(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof scene);
    struct arena_config config = {.bytes_max = (size_t)64 << 20};
    return arena_create(&config, &scene.arena) || budget_create(NULL, "sys", 0, &scene.budget);
}

static int scene_close(void **state)
{
    struct budget_usage usage;
    (void)state;
    board_view_drop(scene.arena, &scene.before);
    board_view_drop(scene.arena, &scene.now);
    board_view_drop(scene.arena, &scene.changes);
    budget_usage(scene.budget, &usage);
    assert_int_equal(usage.blocks_used, 0);
    budget_destroy(&scene.budget);
    arena_destroy(&scene.arena);
    return 0;
}

/* Another look; what was now is before. Returns how many records differ. */
static uint32_t look(enum board board)
{
    board_view_drop(scene.arena, &scene.before);
    board_view_drop(scene.arena, &scene.changes);
    scene.before = scene.now;
    scene.now = (struct board_view){.count = 0};
    assert_int_equal(board_look(NULL, scene.arena, scene.budget, board, &scene.before, &scene.now, &scene.changes),
                     WEIR_OK);
    return scene.changes.count;
}

static void rows_set(size_t count, ...)
{
    va_list names;
    va_start(names, count);
    for (size_t i = 0; i < count; i++)
        scene.rows[i] = (struct row){va_arg(names, const char *), i};
    va_end(names);
    scene.count = count;
}

/* The change of that key: its value's bytes; of no bytes when there is none. */
static struct view change_of(const char *key)
{
    const struct record_slice *slices = arena_data(scene.arena, scene.changes.slices);
    const uint8_t *pairs = arena_data(scene.arena, scene.changes.pairs);
    struct view found = view_of(NULL, 0);
    for (uint32_t i = 0; i < scene.changes.count; i++) {
        struct value_reader reader;
        value_reader_init(&reader, view_of(pairs + slices[i].key_offset, slices[i].key_size), 1);
        struct view name = value_read_str(&reader);
        assert_int_equal(reader.error, WEIR_OK);
        if (!view_is_same(name, view_text(key)))
            continue;
        assert_int_equal(found.size, 0); /* a key comes once */
        found = view_of(pairs + slices[i].value_offset, slices[i].value_size);
    }
    return found;
}

/* "gone" when the change takes the key away, "row" when it is the row of that value. */
static void assert_change(const char *key, const char *expected, uint64_t value)
{
    struct view found = change_of(key);
    if (found.size == 0)
        fail_msg("no change of %s", key);
    if (strcmp(expected, "gone") == 0) {
        assert_int_equal(found.size, 1);
        assert_int_equal(found.data[0], 0xc0);
        return;
    }
    struct value_reader reader;
    value_reader_init(&reader, found, 4);
    assert_int_equal(value_read_map(&reader), 2);
    (void)value_read_str(&reader);
    (void)value_read_any(&reader);
    assert_true(view_is_same(value_read_str(&reader), view_text("value")));
    assert_int_equal(value_read_uint(&reader), value);
    assert_int_equal(reader.error, WEIR_OK);
    assert_int_equal(reader.rest.size, 0);
}

static void only_what_differs_is_told_and_what_is_gone_with_nil(void **state)
{
    (void)state;
    rows_set(3, "a", "b", "c");
    assert_int_equal(look(BOARD_TOPICS), 3);
    assert_string_equal(scene.command, "topics");
    assert_null(scene.pattern);
    assert_change("b", "row", 1);
    assert_int_equal(look(BOARD_TOPICS), 0);
    scene.rows[1].value = 70;
    assert_int_equal(look(BOARD_TOPICS), 1);
    assert_change("b", "row", 70);
    rows_set(2, "c", "d");
    scene.rows[0].value = 2; /* as it was, in another place */
    assert_int_equal(look(BOARD_TOPICS), 3);
    assert_change("a", "gone", 0);
    assert_change("b", "gone", 0);
    assert_change("d", "row", 1);
    scene.count = 0;
    assert_int_equal(look(BOARD_TOPICS), 2);
    assert_int_equal(look(BOARD_TOPICS), 0);
}

static void status_is_one_record_without_a_key(void **state)
{
    (void)state;
    scene.rows[0].value = 5;
    assert_int_equal(look(BOARD_STATUS), 1);
    const struct record_slice *slice = arena_data(scene.arena, scene.changes.slices);
    assert_int_equal(slice->key_size, 0);
    assert_int_equal(look(BOARD_STATUS), 0);
    scene.rows[0].value = 6;
    assert_int_equal(look(BOARD_STATUS), 1);
}

static void connections_are_kept_by_their_number_and_the_dead_by_their_topic(void **state)
{
    (void)state;
    scene.count = 2;
    assert_int_equal(look(BOARD_CONNECTIONS), 2);
    assert_change("2", "row", 0);
    board_view_drop(scene.arena, &scene.now);
    rows_set(1, "$dead/x");
    assert_int_equal(look(BOARD_DEAD), 1);
    assert_string_equal(scene.pattern, "$dead/#");
    assert_change("$dead/x", "row", 0);
}

static void an_actors_key_is_its_way_from_the_root(void **state)
{
    (void)state;
    rows_set(7, "root", "  topics", "    a/b", "    c", "  gateway", "    c", "    c");
    assert_int_equal(look(BOARD_TREE), 6); /* two siblings of one name are one */
    assert_change("root", "row", 0);
    assert_change("root/topics/a/b", "row", 2);
    assert_change("root/topics/c", "row", 3);
    assert_change("root/gateway/c", "row", 5);
    assert_int_equal(look(BOARD_TREE), 0);
    rows_set(3, "root", "  topics", "    c");
    scene.rows[2].value = 3;
    assert_int_equal(look(BOARD_TREE), 3);
    assert_change("root/topics/a/b", "gone", 0);
    assert_change("root/gateway", "gone", 0);
    assert_change("root/gateway/c", "gone", 0);
}

static void a_tree_that_is_too_deep_or_too_long_stays_within_its_bounds(void **state)
{
    (void)state;
    enum { DEPTH = 40, NAME_SIZE = 200 };
    static char names[DEPTH][2 * DEPTH + NAME_SIZE + 1];
    for (size_t i = 0; i < DEPTH; i++) {
        memset(names[i], ' ', 2 * i);
        memset(names[i] + 2 * i, 'n', NAME_SIZE);
        scene.rows[i] = (struct row){names[i], i};
    }
    scene.count = DEPTH;
    uint32_t told = look(BOARD_TREE);
    /* Keys are cut at their bound, where those below fall together. */
    assert_true(told >= BOARD_KEY_SIZE_MAX / (NAME_SIZE + 1) && told < DEPTH);
    const struct record_slice *slices = arena_data(scene.arena, scene.changes.slices);
    for (uint32_t i = 0; i < told; i++)
        assert_true(slices[i].key_size < BOARD_KEY_SIZE_MAX + 5);
    assert_int_equal(look(BOARD_TREE), 0);
}

static void more_rows_than_a_board_may_have_are_cut_at_a_whole_one(void **state)
{
    (void)state;
    static char long_name[201];
    memset(long_name, 'x', 200);
    scene.count = ROWS_MAX;
    assert_int_equal(look(BOARD_TOPICS), ROWS_MAX); /* 1 MB: the block grew to it */
    for (size_t i = 0; i < ROWS_MAX; i++)
        scene.rows[i].name = long_name;
    assert_int_equal(look(BOARD_TOPICS), ROWS_MAX + 1); /* all are gone, and those of one name are one */
    assert_true(scene.now.count > 15000 && scene.now.count < ROWS_MAX);
    assert_int_equal(look(BOARD_TOPICS), 0);
    assert_true(arena_size(scene.arena, scene.now.pairs) <= 4 * BOARD_BYTES_MAX);
}

static void what_cannot_be_looked_at_leaves_nothing_behind(void **state)
{
    struct budget_usage usage;
    size_t refused = 0;
    (void)state;
    scene.count = 3000;
    assert_int_equal(look(BOARD_TOPICS), 3000);
    for (size_t i = 0; i < 3000; i += 2)
        scene.rows[i].value = 9;
    board_view_drop(scene.arena, &scene.changes);
    budget_usage(scene.budget, &usage);
    size_t kept = usage.bytes_used;
    for (size_t more = 0; more < 1 << 20; more += 8192) {
        struct board_view now = {.count = 0}, changes = {.count = 0};
        budget_limit_set(scene.budget, kept + more);
        enum weir_error error = board_look(NULL, scene.arena, scene.budget, BOARD_TOPICS, &scene.now, &now, &changes);
        if (error != WEIR_OK) {
            assert_int_equal(error, WEIR_NO_MEMORY);
            refused++;
        } else {
            assert_int_equal(changes.count, 1500);
            board_view_drop(scene.arena, &now);
            board_view_drop(scene.arena, &changes);
        }
        budget_usage(scene.budget, &usage);
        assert_int_equal(usage.bytes_used, kept);
    }
    assert_true(refused > 10 && refused < 120);
    budget_limit_set(scene.budget, 0);
    scene.error = WEIR_INTERNAL;
    assert_int_equal(board_look(NULL, scene.arena, scene.budget, BOARD_TREE, &scene.before, &(struct board_view){0},
                                &(struct board_view){0}),
                     WEIR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_differs_is_told_and_what_is_gone_with_nil, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(status_is_one_record_without_a_key, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(connections_are_kept_by_their_number_and_the_dead_by_their_topic, scene_open,
                                        scene_close),
        cmocka_unit_test_setup_teardown(an_actors_key_is_its_way_from_the_root, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_tree_that_is_too_deep_or_too_long_stays_within_its_bounds, scene_open,
                                        scene_close),
        cmocka_unit_test_setup_teardown(more_rows_than_a_board_may_have_are_cut_at_a_whole_one, scene_open,
                                        scene_close),
        cmocka_unit_test_setup_teardown(what_cannot_be_looked_at_leaves_nothing_behind, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
