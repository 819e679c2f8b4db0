/* New topics find the subscriptions that match them: compared with matching each pattern by itself. */
#include "tests/unit/actors/topic/topic_crowd.h"

#include "actors/base/assert.h"
#include "clients/wire/name.h"

enum { SUBS = 120, TOPICS = 150, SEGMENTS = 4 };

static void random_name(uint64_t *random, bool is_pattern, char out[32])
{
    static const char *const words[] = {"a", "b", "cc", "+"};
    uint32_t count = 1 + (uint32_t)(random_next(random) % SEGMENTS);
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool is_rest = is_pattern && i + 1 == count && random_next(random) % 4 == 0;
        const char *word = is_rest ? "#" : words[random_next(random) % (is_pattern ? 4 : 3)];
        size += (size_t)snprintf(out + size, 32 - size, "%s%s", i ? "/" : "", word);
    }
}

static size_t matches(char patterns[SUBS][32], const char *name)
{
    size_t count = 0;
    for (int i = 0; i < SUBS; i++)
        count += patterns[i][0] && pattern_matches(view_text(patterns[i]), view_text(name));
    return count;
}

static void run_seed(uint64_t seed)
{
    static struct world world;
    static struct crowd crowd;
    static char patterns[SUBS][32];
    uint64_t random = seed;
    struct directory_config config = world_config(NULL, 0, seed);
    world_open(&world, &config, seed);
    crowd_open(&world, &crowd);
    for (uint32_t i = 0; i < SUBS; i++) {
        random_name(&random, true, patterns[i]);
        crowd_subscribe(&crowd, i + 1, patterns[i], true);
    }
    world_settle(&world);
    for (uint32_t i = 0; i < SUBS; i++) {
        if (random_next(&random) % 3)
            continue;
        crowd_order(&crowd, DIRECTORY_UNSUBSCRIBE, i + 1);
        patterns[i][0] = 0;
    }
    world_settle(&world);
    size_t expected = crowd.begins, made = 0;
    for (int i = 0; i < TOPICS; i++) {
        char name[32];
        weir_actor topic;
        random_name(&random, false, name);
        if (directory_find(world.directory, view_text(name), &topic) == WEIR_OK)
            continue;
        crowd_ensure(&crowd, name);
        world_settle(&world);
        expected += matches(patterns, name);
        made++;
        assert_int_equal(crowd.begins, expected);
    }
    assert_true(made > 10);
    crowd_order(&crowd, DIRECTORY_CLOSE, 0);
    world_settle(&world);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.subscriptions, 0);
    world_close(&world); /* and nothing of the patterns is left in the arena */
}

static void a_new_topic_is_followed_by_just_those_that_match_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        print_message("seed %lu\n", (unsigned long)seed);
        run_seed(seed);
    }
}

/* A record that its topic gave up: the way in which a name of the broker's own comes to be. */
static void crowd_bury(struct crowd *crowd, const char *topic)
{
    struct message dead = {.tag = DIRECTORY_DEAD, .word = {TOPIC_WORD(strlen(topic), 1)}};
    assert_int_equal(arena_alloc(crowd->world->arena, strlen(topic) + 1, NULL, &dead.hold[0]), WEIR_OK);
    uint8_t *data = arena_data(crowd->world->arena, dead.hold[0]);
    memcpy(data, topic, strlen(topic));
    data[strlen(topic)] = 0x01;
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &dead),
                     WEIR_OK);
}

static void wildcards_in_the_first_segment_leave_the_brokers_own_names_alone(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    static const char *const patterns[] = {"#", "+/x", "+/#", "$dead/#", "$dead/+"};
    struct directory_config config = world_config(NULL, 0, 1);
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    for (uint32_t i = 0; i < COUNT_OF(patterns); i++)
        crowd_subscribe(&crowd, i + 1, patterns[i], true);
    world_settle(&world);
    crowd_bury(&crowd, "x");
    world_settle(&world);
    assert_int_equal(crowd.begins, 2);
    crowd_ensure(&crowd, "dead/x");
    world_settle(&world);
    assert_int_equal(crowd.begins, 2 + 3);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_topic_is_followed_by_just_those_that_match_it),
        cmocka_unit_test(wildcards_in_the_first_segment_leave_the_brokers_own_names_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
