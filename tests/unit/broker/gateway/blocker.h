/* A subscriber that holds its topic back: policy block and hardly any credit, until it is let go. */
#ifndef TESTS_UNIT_BROKER_GATEWAY_BLOCKER_H
#define TESTS_UNIT_BROKER_GATEWAY_BLOCKER_H

#include <stdatomic.h>

#include "tests/unit/broker/gateway/world.h"

struct blocker {
    struct world *world;
    const char *topic;
    weir_actor actor;
    atomic_int is_subscribed, is_released; /* written by its worker, read by the test; nothing hangs on their order */
};

enum { BLOCKER_RELEASE = 1 };

static enum weir_error blocker_on_start(struct turn *turn, void *state, const void *args)
{
    struct blocker *blocker = *(struct blocker *const *)args;
    *(struct blocker **)state = blocker;
    struct directory_subscribe *subscribe;
    size_t size = strlen(blocker->topic);
    weir_msg block;
    assert_int_equal(arena_alloc(turn_arena(turn), sizeof *subscribe + size, NULL, &block), WEIR_OK);
    subscribe = arena_data(turn_arena(turn), block);
    *subscribe = (struct directory_subscribe){.sub = 1,
                                              .policy = POLICY_BLOCK,
                                              .updates = true,
                                              .credit = 1,
                                              .outbox_max = 64,
                                              .pattern_size = (uint32_t)size};
    memcpy(subscribe->bytes, blocker->topic, size);
    struct message message = {.tag = DIRECTORY_SUBSCRIBE, .hold = {block}};
    return turn_send(turn, directory_actor(blocker->world->directory), &message);
}

static enum weir_error blocker_on_message(struct turn *turn, void *state, struct message *message)
{
    struct blocker *blocker = *(struct blocker **)state;
    if (message->tag == TOPIC_END)
        atomic_store(&blocker->is_subscribed, 1);
    if (message->tag == BLOCKER_RELEASE) {
        struct message order = {.tag = DIRECTORY_CLOSE};
        assert_int_equal(turn_send(turn, directory_actor(blocker->world->directory), &order), WEIR_OK);
        atomic_store(&blocker->is_released, 1);
    }
    return WEIR_OK;
}

static const struct behaviour blocker_behaviour = {.name = "blocker",
                                                   .state_size = sizeof(struct blocker *),
                                                   .on_start = blocker_on_start,
                                                   .on_message = blocker_on_message};

/* Returns once the topic knows it. */
static inline void blocker_start(struct blocker *blocker, struct world *world, const char *topic)
{
    blocker->world = world;
    blocker->topic = topic;
    atomic_init(&blocker->is_subscribed, 0);
    atomic_init(&blocker->is_released, 0);
    assert_int_equal(actor_spawn(world->runtime, &blocker_behaviour, &blocker, sizeof blocker, NULL, &blocker->actor),
                     WEIR_OK);
    WAIT_UNTIL(atomic_load(&blocker->is_subscribed));
}

static inline void blocker_release(struct blocker *blocker)
{
    struct message message = {.tag = BLOCKER_RELEASE};
    assert_int_equal(actor_control(blocker->world->runtime, WEIR_ACTOR_NONE, blocker->actor, &message), WEIR_OK);
    WAIT_UNTIL(atomic_load(&blocker->is_released));
}

#endif
