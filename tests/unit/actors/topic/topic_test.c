/* What a topic promises when records fail or are refused, and when it is cleared or deleted, one claim each. */
#include "tests/unit/actors/topic/topic_scene.h"

#include "actors/topic/topic_limits.h"

static const struct fold_ops *real_last;
static unsigned failures_left; /* of transient records */

/* Records with the value "poison" fail always, "faint" ones a few times. */
static enum weir_error failing_apply(struct fold *fold, const struct cell *cell)
{
    const uint8_t *value = cell_value(cell);
    size_t size = (size_t)(cell->data + cell->size - value);
    if (size == 7 && memcmp(value, "\xa6poison", 7) == 0)
        return WEIR_FAILED;
    if (size == 6 &&
        memcmp(value,
               "\xa5"
               "faint",
               6) == 0 &&
        failures_left > 0) {
        failures_left--;
        return WEIR_FAILED;
    }
    return real_last->apply(fold, cell);
}

/* Sends values as one batch; the publisher's history knows them. */
static void publish_values(struct scene *scene, const char *const *values, uint32_t count)
{
    struct publisher *publisher = &scene->publisher;
    uint64_t number = publisher->history->count;
    struct message message = publisher_batch(publisher, count); /* for its records; the values follow */
    struct record_slice slices[16];
    uint8_t data[512];
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct published *record = &publisher->history->records[number + i];
        free(record->value.data);
        slices[i] = (struct record_slice){0, 0, size, 0, 0};
        slices[i].value_size = (uint32_t)0;
        uint8_t head = (uint8_t)(0xa0 | strlen(values[i]));
        data[size] = head;
        memcpy(data + size + 1, values[i], strlen(values[i]));
        slices[i].value_size = 1 + (uint32_t)strlen(values[i]);
        record->value = bytes_copy(view_of(data + size, slices[i].value_size));
        size += slices[i].value_size;
    }
    arena_drop(scene->world.arena, message.hold[0]);
    assert_int_equal(arena_alloc(scene->world.arena, size, NULL, &message.hold[0]), WEIR_OK);
    memcpy(arena_data(scene->world.arena, message.hold[0]), data, size);
    memcpy(arena_data(scene->world.arena, message.hold[1]), slices, count * sizeof slices[0]);
    assert_int_equal(actor_send(scene->world.runtime, publisher->actor, publisher->topic, &message), WEIR_OK);
    while (runtime_step(scene->world.runtime) ||
           (scene->world.restart_delay_ns && runtime_advance(scene->world.runtime)))
        ;
}

static void failing_open(struct scene *scene)
{
    static struct fold_ops failing;
    real_last = &fold_last;
    failing = fold_last;
    failing.apply = failing_apply;
    fold_replace(TOPIC_LAST, &failing);
    scene_open(scene, (struct topic_rule){.kind = TOPIC_LAST});
}

static void failing_close(struct scene *scene)
{
    scene_close(scene);
    fold_replace(TOPIC_LAST, NULL);
}

static void a_poisoned_record_goes_to_the_dead_letters_and_the_rest_is_folded(void **state)
{
    (void)state;
    static struct scene scene;
    static const char *const values[] = {"one", "poison", "two", "poison", "poison", "three"};
    failing_open(&scene);
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish_values(&scene, values, 6);
    const struct published *records = scene.publisher.history->records;
    for (int i = 0; i < 6; i++) {
        assert_true(records[i].is_answered);
        assert_int_equal(records[i].refused, strcmp(values[i], "poison") == 0 ? WEIR_POISONED : WEIR_OK);
    }
    assert_int_equal(records[5].seq, 3);
    assert_int_equal(scene.world.failures, 9);
    struct topic_status status = scene_status(&scene, "a/b"), dead = scene_status(&scene, "$dead/a/b");
    assert_int_equal(status.published, 3);
    assert_int_equal(status.dead, 3);
    assert_int_equal(status.refused, 0);
    assert_int_equal(status.restarts, 9);
    assert_int_equal(dead.kind, TOPIC_LOG);
    assert_int_equal(dead.entries, 3);
    assert_int_equal(reader->feeds[0]->seq, 3);
    assert_int_equal(reader->begins, 1);
    /* On a second failure in a row subscribers hear of it, and of its end. */
    assert_true(reader->stales >= 1);
    assert_int_equal(reader->stales, reader->lives);
    assert_false(status.is_stale);
    failing_close(&scene);
}

static void a_topic_whose_last_record_is_poisoned_is_live_again(void **state)
{
    (void)state;
    static struct scene scene;
    static const char *const values[] = {"one", "poison"};
    failing_open(&scene);
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish_values(&scene, values, 2);
    assert_int_equal(scene.publisher.history->records[1].refused, WEIR_POISONED);
    assert_int_equal(reader->stales, 1);
    assert_int_equal(reader->lives, 1);
    failing_close(&scene);
}

static void a_record_that_fails_once_is_folded_once(void **state)
{
    (void)state;
    static struct scene scene;
    static const char *const values[] = {"one", "faint", "two"};
    failing_open(&scene);
    scene.world.restart_delay_ns = 1000000;
    failures_left = 1;
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    world_settle(&scene.world);
    publish_values(&scene, values, 3);
    struct topic_status status = scene_status(&scene, "a/b");
    assert_int_equal(status.published, 3);
    assert_int_equal(status.dead, 0);
    assert_int_equal(status.seq, 3);
    assert_int_equal(scene.world.failures, 1);
    assert_int_equal(reader->updates, 3);
    assert_int_equal(reader->stales, 0);
    failing_close(&scene);
}

static void refusals_are_told_and_leave_no_trace(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .state_bytes_max = 600});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 40);
    struct topic_status status = scene_status(&scene, "a/b");
    assert_true(scene.world.refused > 0);
    assert_int_equal(status.refused, scene.world.refused);
    assert_int_equal(status.published, scene.world.folded);
    assert_int_equal(status.published + status.refused, scene.publisher.history->count);
    assert_int_equal(status.seq, status.published);
    assert_true(status.state_bytes <= 600);
    for (size_t i = 0; i < scene.publisher.history->count; i++) {
        enum weir_error refused = scene.publisher.history->records[i].refused;
        assert_true(refused == WEIR_OK || refused == WEIR_TOO_BIG);
    }
    scene_close(&scene);
}

/* A topic of kind map with so little memory. */
static void scarce_open(struct scene *scene, size_t bytes)
{
    memset(scene, 0, sizeof *scene);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = {.kind = TOPIC_MAP}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.state_bytes_max = bytes;
    world_open(&scene->world, &config, 1);
    publisher_open(&scene->world, &scene->publisher, "a/b", TOPIC_MAP);
    world_settle(&scene->world);
}

static void memory_that_is_not_there_is_a_refusal(void **state)
{
    (void)state;
    static struct scene scene;
    scarce_open(&scene, 60000);
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "#", follow, false);
    publish(&scene, 200);
    struct topic_status status = scene_status(&scene, "a/b");
    assert_int_equal(status.published + status.refused, scene.publisher.history->count);
    assert_true(status.published > 100);
    struct directory_status totals;
    directory_status(scene.world.directory, &totals);
    assert_true(totals.state_bytes <= 60000);
    assert_int_equal(reader->feeds[0]->seq, status.seq);
    scene_close(&scene);
}

/* None overtakes one that was refused, if that is asked for: it may come again. Memory ends at another record with each
 * amount of it, now and then at a batch's first. */
static void a_batch_in_order_ends_where_memory_does(void **state)
{
    (void)state;
    static struct scene scene;
    uint32_t cut = 0, overtaken = 0;
    for (size_t bytes = 50000; bytes <= 60000; bytes += 1000) {
        scarce_open(&scene, bytes);
        scene.publisher.is_in_order = true;
        publish(&scene, 200);
        for (size_t i = 1; i < scene.publisher.history->count; i++) {
            const struct published *record = &scene.publisher.history->records[i];
            if (!record->is_batched)
                continue;
            cut += record->refused == WEIR_NO_MEMORY && record[-1].refused == WEIR_OK;
            overtaken += record->refused != WEIR_NO_MEMORY && record[-1].refused == WEIR_NO_MEMORY;
        }
        scene_close(&scene);
    }
    assert_true(cut > 0);
    assert_int_equal(overtaken, 0);
}

static void an_unknown_policy_is_refused(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = scene_reader(&scene, 0, true);
    struct reader_options unknown = follow;
    unknown.policy = POLICY_UNKNOWN;
    reader_subscribe(reader, "a/b", unknown, false);
    world_settle(&scene.world);
    assert_int_equal(reader->subscribed, 1);
    assert_int_equal(reader->last_error, WEIR_BAD_REQUEST);
    assert_int_equal(reader->begins, 0);
    scene_close(&scene);
}

static void a_cleared_topic_starts_a_new_epoch(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/b", follow, false);
    publish(&scene, 5);
    uint64_t epoch = reader->feeds[0]->epoch;
    struct message clear = {.tag = TOPIC_CLEAR, .word = {0, 1}};
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear), WEIR_OK);
    world_settle(&scene.world);
    assert_int_equal(reader->resets, 0); /* the seq had moved on */
    clear.word[1] = scene_status(&scene, "a/b").seq;
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear), WEIR_OK);
    publish(&scene, 5);
    assert_int_equal(reader->resets, 1);
    assert_int_equal(reader->last_cause, CAUSE_CLEARED);
    assert_true(reader->feeds[0]->epoch > epoch);
    assert_int_equal(reader->feeds[0]->seq, scene_status(&scene, "a/b").seq);
    scene_close(&scene);
}

static void a_deleted_topic_says_so_and_can_be_made_again(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    struct reader *reader = scene_reader(&scene, 0, true);
    reader_subscribe(reader, "a/#", follow, false);
    publish(&scene, 5);
    struct topic_status before = scene_status(&scene, "a/b");
    uint64_t epoch = reader->feeds[0]->epoch;
    struct message delete = {.tag = TOPIC_DELETE};
    world_tick(&scene.world, scene.publisher.actor, 20);
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &delete), WEIR_OK);
    world_settle(&scene.world);
    weir_actor topic;
    assert_int_equal(reader->ended, 1);
    assert_int_equal(reader->last_error, WEIR_NOT_FOUND);
    assert_int_equal(directory_find(scene.world.directory, view_text("a/b"), &topic), WEIR_NOT_FOUND);
    struct directory_status status;
    directory_status(scene.world.directory, &status);
    assert_int_equal(status.published, scene.world.folded);
    assert_true(status.published >= before.published);
    static struct publisher again;
    publisher_open(&scene.world, &again, "a/b", TOPIC_MAP);
    world_settle(&scene.world);
    assert_int_equal(reader->begins, 2);
    assert_true(reader->feeds[0]->epoch > epoch);
    scene_close(&scene);
}

static size_t blocks_live(struct world *world)
{
    struct arena_usage usage;
    arena_usage(world->arena, &usage);
    return usage.blocks_live;
}

/* So many keys that a leaf holds three or four of. */
static void publish_many(struct scene *scene, uint32_t keys)
{
    enum { RECORD = 1000, BATCH = 500 };
    for (uint32_t first = 0; first < keys; first += BATCH) {
        struct message message = {.tag = TOPIC_PUBLISH, .detail = BATCH};
        assert_int_equal(arena_alloc(scene->world.arena, BATCH * RECORD, NULL, &message.hold[0]), WEIR_OK);
        assert_int_equal(arena_alloc(scene->world.arena, BATCH * sizeof(struct record_slice), NULL, &message.hold[1]),
                         WEIR_OK);
        uint8_t *data = arena_data(scene->world.arena, message.hold[0]);
        struct record_slice *slices = arena_data(scene->world.arena, message.hold[1]);
        memset(data, 'v', BATCH * RECORD);
        for (uint32_t i = 0; i < BATCH; i++) {
            uint8_t *key = data + i * RECORD;
            snprintf((char *)key, 10, "\xa8%08u", first + i);
            memcpy(key + 9, "\xda\x03\xdc", 3); /* 988 bytes */
            slices[i] = (struct record_slice){i * RECORD, 9, i * RECORD + 9, RECORD - 9, 0};
        }
        assert_int_equal(actor_send(scene->world.runtime, WEIR_ACTOR_NONE, scene->publisher.topic, &message), WEIR_OK);
        world_settle(&scene->world);
    }
}

/* Runs turns until all is quiet. How many of them gave blocks back; none gives back too many. */
static size_t sweeping_turns(struct world *world)
{
    size_t turns = 0, before = blocks_live(world);
    while (runtime_step(world->runtime)) {
        size_t now = blocks_live(world);
        /* Beside the leaves there are segments, and the ring's pages. */
        assert_true(now + TOPIC_SWEEP_STEPS / MAP_SWEEP_FREE_STEPS + 256 >= before);
        turns += now + TOPIC_SWEEP_STEPS / MAP_SWEEP_FREE_STEPS / 2 < before;
        before = now;
    }
    return turns;
}

static void a_large_topic_is_cleared_and_deleted_a_piece_a_turn(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP});
    size_t empty = blocks_live(&scene.world);
    struct message clear = {.tag = TOPIC_CLEAR}, delete = {.tag = TOPIC_DELETE};
    publish_many(&scene, 20000);
    assert_int_equal(scene_status(&scene, "a/b").entries, 20000);
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &clear), WEIR_OK);
    assert_true(sweeping_turns(&scene.world) >= 50);
    assert_int_equal(scene_status(&scene, "a/b").entries, 0);
    assert_true(blocks_live(&scene.world) < empty + 100);
    publish_many(&scene, 20000);
    assert_int_equal(actor_control(scene.world.runtime, WEIR_ACTOR_NONE, scene.publisher.topic, &delete), WEIR_OK);
    assert_true(sweeping_turns(&scene.world) >= 50);
    weir_actor topic;
    assert_int_equal(directory_find(scene.world.directory, view_text("a/b"), &topic), WEIR_NOT_FOUND);
    assert_true(blocks_live(&scene.world) < empty + 100);
    scene_close(&scene);
}

static void old_records_of_a_log_go_with_time(void **state)
{
    (void)state;
    static struct scene scene;
    scene_open(&scene, (struct topic_rule){.kind = TOPIC_LOG, .log_age_max_ms = 1000});
    world_tick(&scene.world, scene.publisher.actor, 1);
    world_settle(&scene.world);
    assert_true(scene_status(&scene, "a/b").entries > 0);
    while (runtime_advance(scene.world.runtime))
        world_settle(&scene.world);
    assert_int_equal(scene_status(&scene, "a/b").entries, 0);
    scene_close(&scene);
}

static void publisher_must_be_refused(const struct publisher *publisher, struct directory *directory, uint64_t refused)
{
    struct directory_status status;
    for (size_t i = 0; i < publisher->history->count; i++) {
        const struct published *record = &publisher->history->records[i];
        if (!record->is_answered)
            fail_msg("record %zu has no answer", i);
        assert_true(record->refused == WEIR_OK || record->refused == WEIR_CLOSED || record->refused == WEIR_STALE);
    }
    directory_status(directory, &status);
    assert_int_equal(status.refused, refused);
    assert_int_equal(status.published, publisher->world->folded);
}

static void records_that_a_stopped_topic_has_not_read_are_refused(void **state)
{
    (void)state;
    static struct scene scene;
    uint64_t refused = 0, folded = 0;
    for (unsigned steps = 0; steps < 60; steps++) {
        scene_open(&scene, (struct topic_rule){.kind = TOPIC_MAP, .mailbox_max = 8});
        for (int i = 0; i < 12; i++)
            world_tick(&scene.world, scene.publisher.actor, 1 + (unsigned)i);
        world_step(&scene.world, steps);
        assert_int_equal(actor_stop(scene.world.runtime, scene.publisher.topic, WEIR_CLOSED), WEIR_OK);
        world_settle(&scene.world);
        publisher_must_be_refused(&scene.publisher, scene.world.directory, scene.world.refused);
        refused += scene.world.refused;
        folded += scene.world.folded;
        scene_close(&scene);
    }
    assert_true(refused > 0 && folded > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_poisoned_record_goes_to_the_dead_letters_and_the_rest_is_folded),
        cmocka_unit_test(a_topic_whose_last_record_is_poisoned_is_live_again),
        cmocka_unit_test(a_record_that_fails_once_is_folded_once),
        cmocka_unit_test(refusals_are_told_and_leave_no_trace),
        cmocka_unit_test(memory_that_is_not_there_is_a_refusal),
        cmocka_unit_test(a_batch_in_order_ends_where_memory_does),
        cmocka_unit_test(an_unknown_policy_is_refused),
        cmocka_unit_test(a_cleared_topic_starts_a_new_epoch),
        cmocka_unit_test(a_deleted_topic_says_so_and_can_be_made_again),
        cmocka_unit_test(a_large_topic_is_cleared_and_deleted_a_piece_a_turn),
        cmocka_unit_test(old_records_of_a_log_go_with_time),
        cmocka_unit_test(records_that_a_stopped_topic_has_not_read_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
