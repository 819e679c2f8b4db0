/* The directory: topics by rule, patterns that catch later topics, bounds. */
#include "tests/unit/actors/topic/topic_actors.h"

#include "actors/base/clock.h"

enum { MANY = 10000 };

/* An actor that counts what it hears of many topics. */
struct crowd {
    struct world *world;
    weir_actor actor;
    size_t topics, begins, ends, entries, updates, subscribed, unsubscribed, ended;
    uint64_t matched;
    enum weir_error last_error;
    weir_actor topic;
    uint64_t turn_longest_ns;
};

static enum weir_error crowd_start(struct turn *turn, void *state, const void *args)
{
    memcpy(state, args, sizeof(struct crowd *));
    (*(struct crowd **)state)->actor = turn_self(turn);
    return WEIR_OK;
}

static enum weir_error crowd_message(struct turn *turn, void *state, struct message *message)
{
    struct crowd *crowd = *(struct crowd **)state;
    (void)turn;
    switch (message->tag) {
    case DIRECTORY_TOPIC:
        crowd->topics++;
        crowd->topic = (weir_actor){message->word[1]};
        crowd->last_error = (enum weir_error)message->word[2];
        break;
    case DIRECTORY_SUBSCRIBED:
        crowd->subscribed++;
        crowd->matched = message->word[0];
        crowd->last_error = (enum weir_error)message->word[2];
        break;
    case DIRECTORY_UNSUBSCRIBED: crowd->unsubscribed++; break;
    case TOPIC_BEGIN: crowd->begins++; break;
    case TOPIC_END: crowd->ends++; break;
    case TOPIC_ENTRIES: crowd->entries += topic_run_read(message).count; break;
    case TOPIC_UPDATES: crowd->updates += topic_run_read(message).count; break;
    case TOPIC_ENDED: crowd->ended++; break;
    default: break;
    }
    return WEIR_OK;
}

static const struct behaviour crowd_behaviour = {
    .name = "crowd", .state_size = 8, .on_start = crowd_start, .on_message = crowd_message};

static void crowd_open(struct world *world, struct crowd *crowd)
{
    struct actor_options options = {.mailbox_max = 65535};
    *crowd = (struct crowd){.world = world};
    assert_int_equal(actor_spawn(world->runtime, &crowd_behaviour, &crowd, sizeof crowd, &options, &crowd->actor),
                     WEIR_OK);
}

static void crowd_ensure(struct crowd *crowd, const char *name)
{
    struct message ensure = {.tag = DIRECTORY_ENSURE};
    assert_int_equal(arena_alloc(crowd->world->arena, strlen(name), NULL, &ensure.hold[0]), WEIR_OK);
    memcpy(arena_data(crowd->world->arena, ensure.hold[0]), name, strlen(name));
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &ensure),
                     WEIR_OK);
}

static void crowd_publish(struct crowd *crowd, weir_actor topic)
{
    struct message publish = {.tag = TOPIC_PUBLISH, .detail = 1, .word = {0, TOPIC_WORD(0, 1), 0}};
    assert_int_equal(arena_alloc(crowd->world->arena, 1, NULL, &publish.hold[0]), WEIR_OK);
    memcpy(arena_data(crowd->world->arena, publish.hold[0]), "\x07", 1);
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, topic, &publish), WEIR_OK);
}

static void crowd_subscribe(struct crowd *crowd, uint32_t sub, const char *pattern, bool updates)
{
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    size_t size = strlen(pattern);
    struct directory_subscribe *block;
    assert_int_equal(arena_alloc(crowd->world->arena, sizeof *block + size, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(crowd->world->arena, message.hold[0]);
    *block = (struct directory_subscribe){
        .sub = sub, .snapshot = true, .updates = updates, .credit = 1000, .pattern_size = (uint32_t)size};
    memcpy(block->bytes, pattern, size);
    assert_int_equal(
        actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &message), WEIR_OK);
}

static void crowd_order(struct crowd *crowd, uint32_t tag, uint32_t detail)
{
    struct message message = {.tag = tag, .detail = detail};
    assert_int_equal(
        actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &message), WEIR_OK);
}

/* Settles and returns the longest step. */
static uint64_t settle_timed(struct world *world)
{
    uint64_t longest = 0, before = clock_cpu_ns();
    while (runtime_step(world->runtime)) {
        uint64_t now = clock_cpu_ns();
        longest = now - before > longest ? now - before : longest;
        before = now;
    }
    return longest;
}

static void ten_thousand_topics_are_followed_and_left_by_pattern(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 3);
    world_open(&world, &config, 3);
    crowd_open(&world, &crowd);
    static weir_actor topics[MANY];
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/%d/x", i);
        crowd_ensure(&crowd, name);
        world_settle(&world);
        topics[i] = crowd.topic;
    }
    assert_int_equal(crowd.topics, MANY);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    struct arena_usage usage;
    arena_usage(world.arena, &usage);
    print_message("%zu bytes of arena a topic with one record\n", usage.bytes_live / MANY);
    crowd_subscribe(&crowd, 1, "many/+/x", true);
    uint64_t joined = settle_timed(&world);
    assert_int_equal(crowd.subscribed, 1);
    assert_int_equal(crowd.matched, MANY);
    assert_int_equal(crowd.begins, MANY);
    assert_int_equal(crowd.ends, MANY);
    assert_int_equal(crowd.entries, MANY);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    assert_int_equal(crowd.updates, MANY);
    crowd_order(&crowd, DIRECTORY_UNSUBSCRIBE, 1);
    uint64_t left = settle_timed(&world);
    print_message("longest turn in processor time: joining %lu us, leaving %lu us\n", (unsigned long)(joined / 1000),
                  (unsigned long)(left / 1000));
    assert_int_equal(crowd.unsubscribed, 1);
    for (int i = 0; i < MANY; i++)
        crowd_publish(&crowd, topics[i]);
    world_settle(&world);
    assert_int_equal(crowd.updates, MANY);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, MANY);
    assert_int_equal(status.feeds, 0);
    assert_int_equal(status.subscriptions, 0);
    assert_int_equal(status.published, 3 * MANY);
    world_close(&world);
}

static void a_later_topic_is_followed_from_its_first_record(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        static struct world world;
        static struct crowd crowd, other;
        struct directory_config config = world_config(NULL, 0, seed);
        world_open(&world, &config, seed);
        crowd_open(&world, &crowd);
        crowd_open(&world, &other);
        crowd_subscribe(&crowd, 1, "p/#", true);
        world_settle(&world);
        assert_int_equal(crowd.matched, 0);
        for (int i = 0; i < 20; i++) {
            char name[32];
            snprintf(name, sizeof name, i % 2 ? "p/%d" : "q/%d", i);
            crowd_ensure(&other, name);
            while (other.topics <= (size_t)i)
                assert_true(runtime_step(world.runtime));
            crowd_publish(&other, other.topic);
            crowd_publish(&other, other.topic);
        }
        world_settle(&world);
        assert_int_equal(crowd.begins, 10);
        assert_int_equal(crowd.entries, 0);
        assert_int_equal(crowd.updates, 20);
        world_close(&world);
    }
}

static void topics_made_while_a_pattern_is_visited_are_followed_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        static struct world world;
        static struct crowd crowd, other;
        struct directory_config config = world_config(NULL, 0, seed);
        world_open(&world, &config, seed);
        crowd_open(&world, &crowd);
        crowd_open(&world, &other);
        for (int i = 0; i < 1500; i++) {
            char name[32];
            snprintf(name, sizeof name, "p/%d", i);
            crowd_ensure(&other, name);
            if (i == 1000)
                crowd_subscribe(&crowd, 1, "#", true);
        }
        world_settle(&world);
        assert_int_equal(crowd.begins, 1500);
        assert_int_equal(crowd.ends, 1500);
        crowd_order(&crowd, DIRECTORY_CLOSE, 0);
        world_settle(&world);
        struct directory_status status;
        directory_status(world.directory, &status);
        assert_int_equal(status.feeds, 0);
        assert_int_equal(status.subscriptions, 0);
        world_close(&world);
    }
}

static void rules_decide_kinds_and_make_plain_names_at_once(void **state)
{
    (void)state;
    static struct world world;
    struct directory_rule rules[] = {{.pattern = "x/+", .rule = {.kind = TOPIC_MAP}},
                                     {.pattern = "fixed/one", .rule = {.kind = TOPIC_MERGE}},
                                     {.pattern = "x/#", .rule = {.kind = TOPIC_LOG}}};
    struct directory_config config = world_config(rules, 3, 1);
    static struct crowd crowd;
    world_open(&world, &config, 1);
    weir_actor actor;
    assert_int_equal(directory_find(world.directory, view_text("fixed/one"), &actor), WEIR_OK);
    crowd_open(&world, &crowd);
    crowd_ensure(&crowd, "x/y");
    crowd_ensure(&crowd, "x/y/z");
    crowd_ensure(&crowd, "z");
    world_settle(&world);
    assert_int_equal(directory_find(world.directory, view_text("x/y/z"), &actor), WEIR_OK);
    assert_int_equal(actor.bits == crowd.topic.bits, 0);
    world_close(&world);
}

static enum weir_error ensure_error(struct crowd *crowd, const char *name)
{
    crowd_ensure(crowd, name);
    world_settle(crowd->world);
    return crowd->last_error;
}

static void names_and_numbers_have_bounds(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_rule rules[] = {{.pattern = "x/#", .rule = {.kind = TOPIC_MAP}}};
    struct directory_config config = world_config(rules, 1, 1);
    config.auto_create = false;
    config.topics_max = 3;
    config.subscriptions_max = 2;
    config.feeds_max = 4;
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    assert_int_equal(ensure_error(&crowd, "y"), WEIR_NOT_FOUND);
    assert_int_equal(ensure_error(&crowd, "$dead/x"), WEIR_FORBIDDEN);
    assert_int_equal(ensure_error(&crowd, "x//y"), WEIR_BAD_TOPIC);
    assert_int_equal(ensure_error(&crowd, "x/+"), WEIR_BAD_TOPIC);
    assert_int_equal(ensure_error(&crowd, "x/1"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/1"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/2"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/3"), WEIR_OK);
    assert_int_equal(ensure_error(&crowd, "x/4"), WEIR_FULL);
    crowd_subscribe(&crowd, 1, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK);
    crowd_subscribe(&crowd, 1, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_EXISTS);
    crowd_subscribe(&crowd, 2, "x/#", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_FULL); /* feeds */
    crowd_subscribe(&crowd, 3, "x/#/y", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_BAD_TOPIC);
    crowd_subscribe(&crowd, 4, "nobody", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK); /* it waits */
    assert_int_equal(crowd.matched, 0);
    crowd_subscribe(&crowd, 5, "nobody", true);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_FULL); /* subscriptions */
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, 3);
    assert_int_equal(status.feeds, 3);
    assert_int_equal(status.subscriptions, 2);
    world_close(&world);
}

static void a_snapshot_of_nothing_makes_no_topic(void **state)
{
    (void)state;
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 1);
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    crowd_subscribe(&crowd, 1, "not/there", false);
    world_settle(&world);
    assert_int_equal(crowd.last_error, WEIR_OK);
    assert_int_equal(crowd.matched, 0);
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.topics, 0);
    assert_int_equal(status.subscriptions, 0);
    world_close(&world);
}

/* One record of size bytes, a msgpack bin, to a topic. */
static void crowd_publish_large(struct crowd *crowd, weir_actor topic, uint32_t size)
{
    struct message publish = {.tag = TOPIC_PUBLISH, .detail = 1, .word = {0, TOPIC_WORD(0, size + 3), 0}};
    assert_int_equal(arena_alloc(crowd->world->arena, size + 3, NULL, &publish.hold[0]), WEIR_OK);
    uint8_t *data = arena_data(crowd->world->arena, publish.hold[0]);
    const uint8_t head[] = {0xc5, (uint8_t)(size >> 8), (uint8_t)size};
    memset(data, 0, size + 3);
    memcpy(data, head, sizeof head);
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, topic, &publish), WEIR_OK);
}

static void retained_updates_of_idle_topics_yield_to_new_records(void **state)
{
    (void)state;
    enum { TOPICS = 40, RECORDS = 250, SIZE = 4000 }; /* a megabyte each, ten times the bound together */
    static struct world world;
    static struct crowd crowd;
    struct directory_config config = world_config(NULL, 0, 1);
    config.state_bytes_max = (size_t)4 << 20;
    world_open(&world, &config, 1);
    crowd_open(&world, &crowd);
    for (int topic = 0; topic < TOPICS; topic++) {
        char name[16];
        snprintf(name, sizeof name, "t/%d", topic);
        crowd_ensure(&crowd, name);
        world_settle(&world);
        for (int i = 0; i < RECORDS; i++) {
            crowd_publish_large(&crowd, crowd.topic, SIZE);
            world_settle(&world);
        }
    }
    struct directory_status status;
    directory_status(world.directory, &status);
    assert_int_equal(status.published, TOPICS * RECORDS);
    assert_int_equal(status.refused, 0);
    assert_true(status.state_bytes <= config.state_bytes_max);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_topics_are_followed_and_left_by_pattern),
        cmocka_unit_test(a_later_topic_is_followed_from_its_first_record),
        cmocka_unit_test(topics_made_while_a_pattern_is_visited_are_followed_once),
        cmocka_unit_test(rules_decide_kinds_and_make_plain_names_at_once),
        cmocka_unit_test(names_and_numbers_have_bounds),
        cmocka_unit_test(a_snapshot_of_nothing_makes_no_topic),
        cmocka_unit_test(retained_updates_of_idle_topics_yield_to_new_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
