/* Readers that the ring leaves behind, under random schedules: what is promised of conflation out of the state holds in
 * each. The rings are of a few records, and most readers are slow. */
#include "actors/topic/topic_limits.h"
#include "tests/unit/actors/topic/topic_actors.h"
#include "tests/unit/instrumented.h"

enum {
    READERS = 10,
    ROUNDS = 150,
    SEEDS = IS_INSTRUMENTED ? 15 : 60,
};

struct scene {
    struct world world;
    struct publisher publisher;
    struct reader readers[READERS];
};

static unsigned newer_calls;
static uint64_t forgetful;

/* Now and then it has forgotten, for want of memory, what was deleted. */
static enum weir_error forgetful_newer(struct fold *fold, const struct fold_snapshot *snapshot,
                                       struct fold_cursor *cursor, struct fold_changes *changes)
{
    if (forgetful > 0 && ++newer_calls % forgetful == 0)
        map_deleted_forget(&fold->as.map.deleted, fold->arena, fold->as.map.seq);
    return fold_map.newer(fold, snapshot, cursor, changes);
}

static void scene_open(struct scene *scene, uint64_t seed)
{
    static struct fold_ops forgetting;
    forgetting = fold_map;
    forgetting.newer = forgetful_newer;
    forgetful = seed % 4 == 0 ? 7 : 0;
    fold_replace(TOPIC_MAP, &forgetting);
    enum topic_kind kind = seed % 5 == 0 ? TOPIC_LAST : TOPIC_MAP;
    struct directory_rule rules[1] = {
        {.pattern = "t/#", .rule = {.kind = kind, .retain_count_max = 3 + seed % 30, .mailbox_max = 4}}};
    struct directory_config config = world_config(rules, 1, seed);
    world_open(&scene->world, &config, seed);
    publisher_open(&scene->world, &scene->publisher, "t/map", kind);
    scene->publisher.has_keys = true;
    scene->publisher.keys = seed % 3 == 0 ? 300 : seed % 7 == 0 ? 5 : 40;
    for (int i = 0; i < READERS; i++)
        reader_open(&scene->world, &scene->readers[i], i < 1, 2 + (uint32_t)(random_next(&scene->world.random) % 20));
    if (kind == TOPIC_LAST) /* where others' records replace those that a reader asked for, and it is not told */
        return;
    scene->readers[2].filter = (struct reader_filter){KEY_BEGINS, "key1"};
    scene->readers[3].filter = (struct reader_filter){KEY_IS, "key3"};
}

static struct reader_options random_options(uint64_t *random)
{
    static const enum overflow_policy policies[] = {POLICY_CONFLATE, POLICY_CONFLATE,  POLICY_CONFLATE,
                                                    POLICY_RESYNC,   POLICY_RESYNC,    POLICY_DROP,
                                                    POLICY_BLOCK,    POLICY_DISCONNECT};
    uint64_t choice = random_next(random);
    return (struct reader_options){.policy = policies[choice % 8],
                                   .snapshot = true,
                                   .updates = true,
                                   .credit = choice / 8 % 2 ? 1 : 1 + (uint32_t)(choice / 16 % 600),
                                   .interval_ms = choice / 1024 % 4 == 0 ? 4 : 0,
                                   .block_ms = 5,
                                   .outbox_max = choice / 4096 % 2 ? 0 : 300 + choice / 8192 % 2000};
}

static void reader_act(struct scene *scene, struct reader *reader)
{
    uint64_t *random = &scene->world.random;
    if (reader->sub == 0 || (random_next(random) % 8 == 0 && reader->unsubscribed == reader->sub))
        reader_subscribe(reader, "t/map", random_options(random), random_next(random) % 4 > 0);
    else if (random_next(random) % 60 == 0 && reader->subscribed == reader->sub &&
             reader->unsubscribed + 1 == reader->sub)
        reader_unsubscribe(reader);
    else
        world_tick(&scene->world, reader->actor, 0);
}

static void scene_clear_topic(struct scene *scene)
{
    struct message clear = {.tag = TOPIC_CLEAR};
    if (!actor_is_none(scene->publisher.topic))
        assert_int_equal(actor_control(scene->world.runtime, WEIR_ACTOR_NONE, scene->publisher.topic, &clear), WEIR_OK);
}

/* Lets everything come to rest: no more records, all credit given. */
static void scene_drain(struct scene *scene)
{
    forgetful = 0;
    for (int i = 0; i < READERS; i++) {
        scene->readers[i].generous = true;
        for (size_t k = 0; k < scene->readers[i].feed_count; k++)
            scene->readers[i].feeds[k]->owed += READER_CREDIT;
    }
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < READERS; i++)
            world_tick(&scene->world, scene->readers[i].actor, 0);
        world_settle(&scene->world);
        (void)runtime_advance(scene->world.runtime);
        world_settle(&scene->world);
    }
}

static void scene_check(struct scene *scene)
{
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &scene->readers[i];
        if (reader->sub != reader->subscribed || reader->unsubscribed == reader->sub)
            continue;
        for (size_t k = 0; k < reader->feed_count; k++) {
            const struct reader_feed *feed = reader->feeds[k];
            if (feed->sub != reader->sub || (reader->policy == POLICY_DISCONNECT && feed->phase == READER_ENDED))
                continue;
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

static void scene_trace(const struct scene *scene, uint64_t seed)
{
    size_t begins = 0, ends = 0, resyncs = 0, resumes = 0, resets = 0, updates = 0, gaps = 0, deltas = 0, conflated = 0;
    for (int i = 0; i < READERS; i++) {
        const struct reader *reader = &scene->readers[i];
        begins += reader->begins;
        ends += reader->ends;
        resyncs += reader->resyncs;
        resumes += reader->resumes;
        resets += reader->resets;
        updates += reader->updates;
        gaps += reader->gaps;
        deltas += reader->deltas;
        conflated += reader->conflated;
    }
    print_message("seed %lu: folded %lu begins %zu ends %zu resyncs %zu resumes %zu resets %zu updates %zu gaps %zu "
                  "deltas %zu conflated %zu\n",
                  (unsigned long)seed, (unsigned long)scene->world.folded, begins, ends, resyncs, resumes, resets,
                  updates, gaps, deltas, conflated);
}

static void run_seed(uint64_t seed)
{
    static struct scene scene;
    memset(&scene, 0, sizeof scene);
    scene_open(&scene, seed);
    uint64_t *random = &scene.world.random;
    for (int round = 0; round < ROUNDS; round++) {
        if (random_next(random) % 2)
            world_tick(&scene.world, scene.publisher.actor, 1 + (uint32_t)(random_next(random) % 24));
        for (int i = 0; i < READERS; i++)
            if (random_next(random) % 2 == 0)
                reader_act(&scene, &scene.readers[i]);
        if (random_next(random) % 8 == 0)
            (void)runtime_advance(scene.world.runtime);
        if (random_next(random) % 100 == 0)
            scene_clear_topic(&scene);
        world_step(&scene.world, random_next(random) % 200);
    }
    scene_drain(&scene);
    if (getenv("TOPIC_TRACE"))
        scene_trace(&scene, seed);
    scene_check(&scene);
    for (int i = 0; i < READERS; i++)
        reader_fini(&scene.readers[i]);
    world_close(&scene.world);
}

static void who_is_left_behind_comes_to_the_topics_state_under_every_schedule(void **state)
{
    (void)state;
    const char *only = getenv("TOPIC_SEED"), *until = getenv("TOPIC_SEEDS");
    uint64_t first = only ? strtoull(only, NULL, 10) : 1;
    uint64_t last = until ? strtoull(until, NULL, 10) : only ? first : SEEDS;
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("seed %lu\n", (unsigned long)seed);
        run_seed(seed);
    }
    fold_replace(TOPIC_MAP, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_left_behind_comes_to_the_topics_state_under_every_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
