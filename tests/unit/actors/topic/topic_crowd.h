/* One actor that asks a directory for many topics and follows them, and counts what it hears. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_CROWD_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_CROWD_H

#include "tests/unit/actors/topic/topic_actors.h"

/* An actor that counts what it hears of many topics. */
struct crowd {
    struct world *world;
    weir_actor actor;
    size_t topics, begins, ends, entries, updates, subscribed, unsubscribed, ended, gone;
    uint64_t matched;
    enum weir_error last_error;
    weir_actor topic;
    uint64_t turn_longest_ns;
};

static inline enum weir_error crowd_start(struct turn *turn, void *state, const void *args)
{
    memcpy(state, args, sizeof(struct crowd *));
    (*(struct crowd **)state)->actor = turn_self(turn);
    return WEIR_OK;
}

static inline enum weir_error crowd_message(struct turn *turn, void *state, struct message *message)
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
    case DIRECTORY_TOPIC_GONE: crowd->gone++; break;
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

static inline void crowd_open(struct world *world, struct crowd *crowd)
{
    struct actor_options options = {.mailbox_max = 65535};
    *crowd = (struct crowd){.world = world};
    assert_int_equal(actor_spawn(world->runtime, &crowd_behaviour, &crowd, sizeof crowd, &options, &crowd->actor),
                     WEIR_OK);
}

static inline void crowd_ensure(struct crowd *crowd, const char *name)
{
    struct message ensure = {.tag = DIRECTORY_ENSURE};
    assert_int_equal(arena_alloc(crowd->world->arena, strlen(name), NULL, &ensure.hold[0]), WEIR_OK);
    memcpy(arena_data(crowd->world->arena, ensure.hold[0]), name, strlen(name));
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &ensure),
                     WEIR_OK);
}

static inline void crowd_publish(struct crowd *crowd, weir_actor topic)
{
    struct message publish = {.tag = TOPIC_PUBLISH, .detail = 1, .word = {0, TOPIC_WORD(0, 1), 0}};
    assert_int_equal(arena_alloc(crowd->world->arena, 1, NULL, &publish.hold[0]), WEIR_OK);
    memcpy(arena_data(crowd->world->arena, publish.hold[0]), "\x07", 1);
    assert_int_equal(actor_send(crowd->world->runtime, crowd->actor, topic, &publish), WEIR_OK);
}

static inline void crowd_subscribe(struct crowd *crowd, uint32_t sub, const char *pattern, bool updates)
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

static inline void crowd_order(struct crowd *crowd, uint32_t tag, uint32_t detail)
{
    struct message message = {.tag = tag, .detail = detail};
    assert_int_equal(
        actor_send(crowd->world->runtime, crowd->actor, directory_actor(crowd->world->directory), &message), WEIR_OK);
}

#endif
