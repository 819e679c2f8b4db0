/* Storms of joiners: how many snapshots begin at once, and whose. */
#include "actors/base/clock.h"
#include "actors/topic/admission.h"
#include "tests/unit/actors/topic/topic_scene.h"

static void a_bucket_gives_its_burst_and_then_its_rate(void **state)
{
    (void)state;
    struct admission admission;
    uint64_t now_ns = 5 * NS_PER_S;
    admission_init(&admission, 1000, 500);
    unsigned taken = 0;
    while (admission_take(&admission, now_ns, 100))
        taken++;
    assert_int_equal(taken, 6); /* the burst, and one beyond its end */
    assert_false(admission_take(&admission, now_ns + 99 * NS_PER_MS, 100));
    assert_int_equal(admission_due_ns(&admission), now_ns + 100 * NS_PER_MS);
    assert_true(admission_take(&admission, now_ns + 100 * NS_PER_MS, 1000000)); /* too large for ever is not refused */
    assert_false(admission_take(&admission, now_ns + 1000 * NS_PER_S, 1));
    assert_true(admission_take(&admission, now_ns + 1001 * NS_PER_S, 1));
    admission_init(&admission, 0, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(admission_take(&admission, now_ns, UINT64_MAX));
}

static void storm_open(struct scene *scene, uint64_t bytes_per_s)
{
    memset(scene, 0, sizeof *scene);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = {.kind = TOPIC_MAP}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.join_bytes_per_s = bytes_per_s;
    config.join_burst_bytes = 1;
    world_open(&scene->world, &config, 1);
    publisher_open(&scene->world, &scene->publisher, "a/b", TOPIC_MAP);
    world_settle(&scene->world);
    publish(scene, 60);
}

static uint32_t joins_waiting(struct scene *scene)
{
    struct directory_status status;
    directory_status(scene->world.directory, &status);
    return status.joins_waiting;
}

/* Until so many joins of all readers together have ended, a timer at a time. */
static void wait_for_ends(struct scene *scene, size_t wanted)
{
    size_t ends = 0;
    for (int i = 0; ends < wanted; i++) {
        assert_true(i < 1000);
        ends = 0;
        for (int r = 0; r < 4; r++)
            ends += scene->readers[r].ends;
        if (ends < wanted)
            assert_true(runtime_advance(scene->world.runtime));
        world_settle(&scene->world);
    }
}

static void joiners_wait_for_admission_and_lose_nothing(void **state)
{
    (void)state;
    static struct scene scene;
    storm_open(&scene, 100000);
    for (int i = 0; i < 4; i++)
        reader_subscribe(scene_reader(&scene, i, true), "a/b", follow, false);
    world_settle(&scene.world);
    assert_int_equal(joins_waiting(&scene), 3); /* the first took more than there was */
    publish(&scene, 3);                         /* the topic does not wait for them */
    uint64_t before_ns = runtime_now_ns(scene.world.runtime);
    wait_for_ends(&scene, 4);
    assert_true(runtime_now_ns(scene.world.runtime) > before_ns);
    assert_int_equal(joins_waiting(&scene), 0);
    publish(&scene, 3);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(scene.readers[i].begins, 1);
        assert_int_equal(scene.readers[i].feeds[0]->seq, scene_status(&scene, "a/b").seq);
        world_told(&scene.world, scene.readers[i].feeds[0], &scene.readers[i].filter);
    }
    scene_close(&scene);
}

static bool is_asking(const struct feed_status *status, void *context)
{
    *(unsigned *)context += strcmp(status->phase, "admission") == 0;
    return true;
}

static void who_waits_is_shown_and_may_leave(void **state)
{
    (void)state;
    static struct scene scene;
    storm_open(&scene, 1000);
    for (int i = 0; i < 4; i++)
        reader_subscribe(scene_reader(&scene, i, true), "a/b", follow, false);
    world_settle(&scene.world);
    unsigned asking = 0;
    directory_feeds_each(scene.world.directory, view_text("#"), is_asking, &asking);
    assert_int_equal(asking, joins_waiting(&scene));
    assert_true(asking >= 2);
    reader_unsubscribe(&scene.readers[0]);
    assert_int_equal(actor_stop(scene.world.runtime, scene.readers[3].actor, WEIR_CLOSED), WEIR_OK);
    world_settle(&scene.world);
    for (int i = 1; i < 3; i++)
        reader_unsubscribe(&scene.readers[i]);
    world_settle(&scene.world);
    assert_int_equal(joins_waiting(&scene), 0);
    scene_close(&scene);
}

/* One subscriber follows many topics, another one: its join waits for one of theirs, not for all. */
static void a_crowd_of_feeds_does_not_starve_a_single_one(void **state)
{
    (void)state;
    enum { TOPICS = 30 };
    static struct scene scene;
    static struct publisher publishers[TOPICS];
    storm_open(&scene, 20000);
    for (int i = 0; i < TOPICS; i++) {
        char name[16];
        snprintf(name, sizeof name, "a/t%d", i);
        publisher_open(&scene.world, &publishers[i], name, TOPIC_MAP);
        world_settle(&scene.world);
        for (int batch = 0; batch < 10; batch++) {
            world_tick(&scene.world, publishers[i].actor, 20);
            world_settle(&scene.world);
        }
    }
    struct reader *crowd = scene_reader(&scene, 0, true), *single = scene_reader(&scene, 1, true);
    reader_subscribe(crowd, "a/#", follow, false);
    world_settle(&scene.world);
    assert_true(joins_waiting(&scene) > TOPICS / 2);
    size_t before = crowd->begins;
    reader_subscribe(single, "a/b", follow, false);
    world_settle(&scene.world);
    while (single->begins == 0) {
        assert_true(runtime_advance(scene.world.runtime));
        world_settle(&scene.world);
    }
    assert_true(crowd->begins <= before + 2);
    assert_true(joins_waiting(&scene) > TOPICS / 2);
    wait_for_ends(&scene, TOPICS + 2);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
        cmocka_unit_test(joiners_wait_for_admission_and_lose_nothing),
        cmocka_unit_test(who_waits_is_shown_and_may_leave),
        cmocka_unit_test(a_crowd_of_feeds_does_not_starve_a_single_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
