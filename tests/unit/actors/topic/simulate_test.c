/* Topics, publishers and readers under random schedules: what is promised to subscribers holds in each. */
#include "tests/unit/actors/topic/topic_actors.h"
#include "tests/unit/instrumented.h"

enum {
    KINDS = 4,
    READERS = 8,
    FILTERED = 6,
    ROUNDS = 120,
    SEEDS = IS_INSTRUMENTED ? 60 : 200,
};

static const char *const names[KINDS] = {"t/last", "t/map", "t/log", "t/merge"};

struct scene {
    struct world world;
    struct publisher publishers[KINDS];
    struct reader readers[READERS];
};

static unsigned attempts;

/* As last, but some records fail always and some every other time. */
static enum weir_error failing_apply(struct fold *fold, const struct cell *cell)
{
    uint8_t last = cell->data[cell->size - 1];
    bool is_number = cell->size > 2 && cell->size < 8;
    if (is_number && (last % 61 == 0 || (last % 37 == 0 && attempts++ % 2 == 0)))
        return WEIR_FAILED;
    return fold_last.apply(fold, cell);
}

static void scene_open(struct scene *scene, uint64_t seed)
{
    static struct fold_ops failing;
    failing = fold_last;
    failing.apply = failing_apply;
    fold_replace(TOPIC_LAST, seed % 2 ? &failing : NULL);
    /* Rings are small, so that they overtake readers often. */
    struct directory_rule rules[KINDS] = {{.pattern = ""}};
    for (int kind = 0; kind < KINDS; kind++) {
        rules[kind].rule = (struct topic_rule){.kind = (enum topic_kind)kind,
                                               .retain_bytes_max = 8192 << (seed % 4),
                                               .retain_count_max = seed % 3 ? 0 : 60,
                                               .mailbox_max = 4,
                                               .log_count_max = kind == TOPIC_LOG ? WORLD_LOG_MAX : 0};
        snprintf(rules[kind].pattern, sizeof rules[kind].pattern, "%s/#", names[kind]);
    }
    struct directory_config config = world_config(rules, KINDS, seed);
    /* Some make joiners wait. */
    config.join_bytes_per_s = seed % 5 == 0 ? 2000000 : 0;
    config.join_burst_bytes = 2000;
    world_open(&scene->world, &config, seed);
    for (int i = 0; i < KINDS; i++)
        publisher_open(&scene->world, &scene->publishers[i], names[i], (enum topic_kind)i);
    for (int i = 0; i < READERS; i++)
        reader_open(&scene->world, &scene->readers[i], i < 2, 2 + (uint32_t)(random_next(&scene->world.random) % 20));
    scene->readers[FILTERED].filter = (struct reader_filter){KEY_BEGINS, "key1"};
    scene->readers[FILTERED + 1].filter = (struct reader_filter){KEY_IS, "key3"};
}

static struct reader_options random_options(uint64_t *random)
{
    uint64_t choice = random_next(random);
    static const enum overflow_policy policies[] = {POLICY_RESYNC, POLICY_BLOCK, POLICY_CONFLATE, POLICY_DROP,
                                                    POLICY_DISCONNECT};
    return (struct reader_options){.policy = policies[choice / 16 % (sizeof policies / sizeof policies[0])],
                                   .snapshot = true,
                                   .updates = true,
                                   .interval_ms = choice / 128 % 2 ? 4 : 0,
                                   .block_ms = choice / 64 % 2 ? 5 : 0,
                                   .outbox_max = choice % 3 ? 0 : 500 + choice % 4000};
}

static void reader_act(struct scene *scene, struct reader *reader)
{
    uint64_t *random = &scene->world.random;
    if (reader->sub == 0 || (random_next(random) % 8 == 0 && reader->unsubscribed == reader->sub)) {
        const char *pattern = random_next(random) % 2 ? "t/#" : names[random_next(random) % KINDS];
        reader_subscribe(reader, pattern, random_options(random), random_next(random) % 4 > 0);
    } else if (random_next(random) % 40 == 0 && reader->subscribed == reader->sub &&
               reader->unsubscribed + 1 == reader->sub) {
        reader_unsubscribe(reader);
    } else {
        world_tick(&scene->world, reader->actor, 0);
    }
}

static void scene_clear_topic(struct scene *scene, int kind)
{
    struct message clear = {.tag = TOPIC_CLEAR};
    if (!actor_is_none(scene->publishers[kind].topic))
        assert_int_equal(actor_control(scene->world.runtime, WEIR_ACTOR_NONE, scene->publishers[kind].topic, &clear),
                         WEIR_OK);
}

/* Lets everything come to rest: no more records, all credit given. */
static void scene_drain(struct scene *scene)
{
    for (int i = 0; i < READERS; i++)
        scene->readers[i].generous = true;
    for (int round = 0; round < 400; round++) {
        for (int i = 0; i < READERS; i++)
            world_tick(&scene->world, scene->readers[i].actor, 0);
        world_settle(&scene->world);
        (void)runtime_advance(scene->world.runtime);
        world_settle(&scene->world);
    }
}

static void scene_check(struct scene *scene)
{
    uint64_t answered = 0;
    for (int i = 0; i < KINDS; i++) {
        assert_false(scene->publishers[i].has_waiting);
        for (size_t k = 0; k < scene->publishers[i].history->count; k++)
            assert_true(scene->publishers[i].history->records[k].is_answered);
        answered += scene->publishers[i].history->count;
    }
    struct directory_status status;
    directory_status(scene->world.directory, &status);
    /* Dead letters are records of a topic of their own. */
    assert_int_equal(status.published, scene->world.folded + status.dead);
    assert_int_equal(status.refused + status.dead, scene->world.refused);
    assert_int_equal(scene->world.folded + scene->world.refused, answered);
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &scene->readers[i];
        if (reader->sub != reader->subscribed || reader->unsubscribed == reader->sub)
            continue;
        for (size_t k = 0; k < reader->feed_count; k++) {
            const struct reader_feed *feed = reader->feeds[k];
            if (feed->sub != reader->sub)
                continue;
            if (reader->policy == POLICY_DISCONNECT && feed->phase == READER_ENDED)
                continue;
            /* All is said: each is live, knows the newest record, and has the state that comes of it. */
            assert_int_equal(feed->phase, READER_LIVE);
            for (uint64_t seq = feed->seq + 1; seq <= feed->history->count; seq++) {
                const struct published *record = history_find(feed->history, feed->epoch, seq);
                assert_true(record == NULL || !reader_wants(&reader->filter, bytes_view(record->key)));
            }
            if (!feed->has_gap)
                world_told(&scene->world, feed, &reader->filter);
        }
    }
    world_check(&scene->world);
}

static void run_seed(uint64_t seed)
{
    static struct scene scene;
    memset(&scene, 0, sizeof scene);
    scene_open(&scene, seed);
    uint64_t *random = &scene.world.random;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < KINDS; i++)
            if (random_next(random) % 2)
                world_tick(&scene.world, scene.publishers[i].actor, 1 + (uint32_t)(random_next(random) % 24));
        for (int i = 0; i < READERS; i++)
            if (random_next(random) % 3 == 0)
                reader_act(&scene, &scene.readers[i]);
        if (random_next(random) % 8 == 0)
            (void)runtime_advance(scene.world.runtime);
        if (random_next(random) % 60 == 0)
            scene_clear_topic(&scene, (int)(random_next(random) % KINDS));
        world_step(&scene.world, random_next(random) % 200);
    }
    scene_drain(&scene);
    scene_check(&scene);
    if (getenv("TOPIC_TRACE")) {
        size_t begins = 0, resyncs = 0, resumes = 0, resets = 0, updates = 0, gaps = 0, deltas = 0, conflated = 0;
        for (int i = 0; i < READERS; i++) {
            begins += scene.readers[i].begins;
            resyncs += scene.readers[i].resyncs;
            resumes += scene.readers[i].resumes;
            resets += scene.readers[i].resets;
            updates += scene.readers[i].updates;
            gaps += scene.readers[i].gaps;
            deltas += scene.readers[i].deltas;
            conflated += scene.readers[i].conflated;
        }
        print_message("seed %lu: failures %zu folded %lu begins %zu resyncs %zu resumes %zu resets %zu updates %zu "
                      "gaps %zu deltas %zu conflated %zu\n",
                      (unsigned long)seed, scene.world.failures, (unsigned long)scene.world.folded, begins, resyncs,
                      resumes, resets, updates, gaps, deltas, conflated);
    }
    for (int i = 0; i < READERS; i++)
        reader_fini(&scene.readers[i]);
    world_close(&scene.world);
}

static void every_promise_holds_under_every_schedule(void **state)
{
    (void)state;
    const char *only = getenv("TOPIC_SEED");
    uint64_t first = only ? strtoull(only, NULL, 10) : 1, last = only ? first : SEEDS;
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("seed %lu\n", (unsigned long)seed);
        run_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_promise_holds_under_every_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
