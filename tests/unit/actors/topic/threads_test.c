/* Topics on real workers: several publishers and readers at once, an operator who keeps looking, and everything adds
 * up. */
#include "tests/unit/actors/topic/topic_actors.h"

#include "actors/base/clock.h"

#include <stdatomic.h>
#include <time.h>

enum { TOPICS = 4, PUBLISHERS = 4, LISTENERS = 8, RECORDS = 100000, BATCH = 50 };

/* Publishes RECORDS records to one topic as fast as its mailbox takes them. */
struct source {
    struct arena *arena;
    weir_actor actor, topic;
    uint64_t sent;
    bool is_waiting;
    _Atomic uint64_t acked;
};

/* Follows everything; checks that seqs are contiguous from each snapshot on. */
struct listener {
    struct arena *arena;
    weir_actor actor;
    struct {
        uint32_t feed;
        bool is_live;
        uint64_t seq;
    } feeds[TOPICS];
    size_t count;
    _Atomic uint64_t seq_sum, faults, ends;
};

static bool source_send(struct turn *turn, struct source *source)
{
    struct message message = {
        .tag = TOPIC_PUBLISH, .detail = BATCH, .word = {0, 0, TOPIC_NUMBER_WORD(source->sent, ACK_FOLDED)}};
    if (arena_alloc(source->arena, 64, NULL, &message.hold[0]))
        return false;
    if (arena_alloc(source->arena, BATCH * sizeof(struct record_slice), NULL, &message.hold[1])) {
        arena_drop(source->arena, message.hold[0]);
        return false;
    }
    uint8_t *data = arena_data(source->arena, message.hold[0]);
    struct record_slice *slices = arena_data(source->arena, message.hold[1]);
    memset(data, 0, 64);
    data[0] = 0xa2;
    data[1] = 'k';
    data[2] = (uint8_t)('a' + source->sent % 26);
    data[3] = 0xbf; /* a str of 31 bytes */
    memset(data + 4, 'v', 31);
    for (int i = 0; i < BATCH; i++)
        slices[i] = (struct record_slice){0, 3, 3, 32, 0};
    enum weir_error error = turn_send(turn, source->topic, &message);
    if (!error) {
        source->sent += BATCH;
        return true;
    }
    arena_drop(source->arena, message.hold[0]);
    arena_drop(source->arena, message.hold[1]);
    source->is_waiting = error == WEIR_FULL && turn_await_room(turn, source->topic) == WEIR_OK;
    return false;
}

static enum weir_error source_message(struct turn *turn, void *state, struct message *message)
{
    struct source *source = *(struct source **)state;
    if (message->tag == DIRECTORY_TOPIC)
        source->topic = (weir_actor){message->word[1]};
    if (message->tag == TOPIC_ACK)
        atomic_fetch_add(&source->acked, message->detail);
    if (message->tag == MESSAGE_ROOM)
        source->is_waiting = false;
    while (!actor_is_none(source->topic) && !source->is_waiting && source->sent < RECORDS && source_send(turn, source))
        ;
    return WEIR_OK;
}

static enum weir_error copy_pointer(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(void *));
    return WEIR_OK;
}

static const struct behaviour source_behaviour = {
    .name = "source", .state_size = 8, .on_start = copy_pointer, .on_message = source_message};

static void listener_seq(struct listener *listener, size_t at, uint64_t seq)
{
    atomic_fetch_add(&listener->seq_sum, seq - listener->feeds[at].seq);
    listener->feeds[at].seq = seq;
}

static enum weir_error listener_message(struct turn *turn, void *state, struct message *message)
{
    struct listener *listener = *(struct listener **)state;
    size_t at = 0;
    while (at < listener->count && listener->feeds[at].feed != message->detail)
        at++;
    if (message->tag == TOPIC_BEGIN && at == listener->count)
        listener->feeds[listener->count++].feed = message->detail;
    if (message->tag < TOPIC_BEGIN || message->tag > TOPIC_ENDED || at == listener->count)
        return WEIR_OK;
    struct topic_run run = topic_run_read(message);
    switch (message->tag) {
    case TOPIC_BEGIN: {
        const struct topic_begin *begin = arena_data(listener->arena, message->hold[0]);
        /* Credit without end, told once. */
        struct message credit = {.tag = TOPIC_CREDIT, .detail = message->detail, .word = {UINT32_MAX}};
        if (turn_control(turn, begin->topic, &credit))
            atomic_fetch_add(&listener->faults, 1);
        listener->feeds[at].is_live = false;
        break;
    }
    case TOPIC_END:
        listener_seq(listener, at, message->word[1]);
        listener->feeds[at].is_live = true;
        atomic_fetch_add(&listener->ends, 1);
        break;
    case TOPIC_UPDATES:
        if (!listener->feeds[at].is_live || run.seq != listener->feeds[at].seq + 1)
            atomic_fetch_add(&listener->faults, 1);
        listener_seq(listener, at, run.seq + run.count - 1);
        break;
    case TOPIC_CONFLATED:
        if (!listener->feeds[at].is_live || message->word[0] != listener->feeds[at].seq + 1)
            atomic_fetch_add(&listener->faults, 1);
        listener_seq(listener, at, message->word[1]);
        break;
    default: break;
    }
    return WEIR_OK;
}

static const struct behaviour listener_behaviour = {
    .name = "listener", .state_size = 8, .on_start = copy_pointer, .on_message = listener_message};

/* Every other one is conflated at a pace. */
static void listener_open(struct world *world, struct listener *listener, const char *pattern, int index)
{
    *listener = (struct listener){.arena = world->arena};
    assert_int_equal(
        actor_spawn(world->runtime, &listener_behaviour, &listener, sizeof listener, NULL, &listener->actor), WEIR_OK);
    struct message message = {.tag = DIRECTORY_SUBSCRIBE};
    struct directory_subscribe *block;
    assert_int_equal(arena_alloc(world->arena, sizeof *block + 8, NULL, &message.hold[0]), WEIR_OK);
    block = arena_data(world->arena, message.hold[0]);
    *block = (struct directory_subscribe){.sub = 1,
                                          .policy = index % 2 ? POLICY_CONFLATE : POLICY_RESYNC,
                                          .interval_ms = 2,
                                          .snapshot = true,
                                          .updates = true,
                                          .credit = 1000,
                                          .pattern_size = (uint32_t)strlen(pattern)};
    memcpy(block->bytes, pattern, strlen(pattern));
    assert_int_equal(actor_send(world->runtime, listener->actor, directory_actor(world->directory), &message), WEIR_OK);
}

static void source_open(struct world *world, struct source *source, const char *name)
{
    *source = (struct source){.arena = world->arena};
    assert_int_equal(actor_spawn(world->runtime, &source_behaviour, &source, sizeof source, NULL, &source->actor),
                     WEIR_OK);
    struct message ensure = {.tag = DIRECTORY_ENSURE};
    assert_int_equal(arena_alloc(world->arena, strlen(name), NULL, &ensure.hold[0]), WEIR_OK);
    memcpy(arena_data(world->arena, ensure.hold[0]), name, strlen(name));
    assert_int_equal(actor_send(world->runtime, source->actor, directory_actor(world->directory), &ensure), WEIR_OK);
}

static bool count_feed(const struct feed_status *status, void *context)
{
    assert_true(status->phase[0] != '\0');
    ++*(size_t *)context;
    return true;
}

static bool count_topic(const struct topic_status *status, void *context)
{
    assert_true(status->seq == status->published || status->seq == 0);
    ++*(size_t *)context;
    return true;
}

static bool is_done(struct source *sources, struct listener *listeners)
{
    for (int i = 0; i < PUBLISHERS; i++)
        if (atomic_load(&sources[i].acked) != RECORDS)
            return false;
    for (int i = 0; i < LISTENERS; i++)
        if (atomic_load(&listeners[i].seq_sum) != (uint64_t)PUBLISHERS * RECORDS)
            return false;
    return true;
}

static void all_is_delivered_in_order_while_operators_look(void **state)
{
    (void)state;
    static struct world world;
    static struct source sources[PUBLISHERS];
    static struct listener listeners[LISTENERS];
    struct directory_rule rules[TOPICS];
    memset(rules, 0, sizeof rules);
    for (int i = 0; i < TOPICS; i++) {
        snprintf(rules[i].pattern, sizeof rules[i].pattern, "t/%d", i);
        rules[i].rule = (struct topic_rule){
            .kind = i == 3 ? TOPIC_LAST : (enum topic_kind)i, .log_count_max = 1000, .mailbox_max = 16};
    }
    world = (struct world){.random = 1};
    assert_int_equal(arena_create(&(struct arena_config){.bytes_max = (size_t)1 << 30}, &world.arena), WEIR_OK);
    assert_int_equal(budget_create(NULL, "world", 0, &world.budget), WEIR_OK);
    struct runtime_config runtime = {.arena = world.arena, .workers = 4, .on_dead_letter = topic_dead_letter};
    assert_int_equal(runtime_create(&runtime, &world.runtime), WEIR_OK);
    struct directory_config config = world_config(rules, TOPICS, 1);
    config.join_bytes_per_s = 1 << 20; /* so that joiners have to ask */
    config.join_burst_bytes = 1;
    assert_int_equal(directory_create(world.runtime, WEIR_ACTOR_NONE, world.budget, &config, &world.directory),
                     WEIR_OK);
    assert_int_equal(runtime_start(world.runtime), WEIR_OK);
    for (int i = 0; i < LISTENERS / 2; i++)
        listener_open(&world, &listeners[i], "t/#", i);
    for (int i = 0; i < PUBLISHERS; i++) {
        char name[24];
        snprintf(name, sizeof name, "t/%d", i);
        source_open(&world, &sources[i], name);
    }
    for (int i = LISTENERS / 2; i < LISTENERS; i++)
        listener_open(&world, &listeners[i], "#", i);
    uint64_t deadline = clock_now_ns() + 120 * NS_PER_S;
    size_t looks = 0;
    while (!is_done(sources, listeners) && clock_now_ns() < deadline) {
        struct directory_status status;
        directory_feeds_each(world.directory, view_text("#"), count_feed, &looks);
        directory_topics_each(world.directory, view_text("#"), count_topic, &looks);
        directory_status(world.directory, &status);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (int i = 0; i < PUBLISHERS; i++)
        assert_int_equal(atomic_load(&sources[i].acked), RECORDS);
    for (int i = 0; i < LISTENERS; i++) {
        assert_int_equal(atomic_load(&listeners[i].faults), 0);
        assert_int_equal(atomic_load(&listeners[i].seq_sum), (uint64_t)PUBLISHERS * RECORDS);
    }
    assert_true(looks > 0);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_delivered_in_order_while_operators_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
