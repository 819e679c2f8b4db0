/* What a subscription takes while nothing happens, by name and to a topic that others follow, too: in the directory, at
 * its topic and in its session, as the arena counts. Prints what that is made of. */
#include "actors/topic/directory_state.h"
#include "broker/session/state.h"
#include "tests/unit/broker/session/client.h"

/* As many as two chunks of the directory's pool hold, so that it is not counted how full a chunk is. */
enum { SESSIONS = 8, TOPICS = 93, FIRST = 20, BYTES_MAX = 205, LOOKS = 50 };

static struct client clients[SESSIONS + 1];

static size_t bytes_live(const struct world *world)
{
    struct arena_usage usage;
    arena_usage(world->arena, &usage);
    return usage.bytes_live;
}

/* What is on its way to rest makes the figure larger: the least of some looks. */
static size_t bytes_least(const struct world *world)
{
    size_t least = bytes_live(world);
    for (int i = 0; i < LOOKS; i++, world_pause())
        least = bytes_live(world) < least ? bytes_live(world) : least;
    return least;
}

/* One at a time, so that queues stay as short as they were. */
static void follow(struct client *client, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, "plain/%u", i);
        client_subscribe(client, i, topic, POLICY_RESYNC);
        client_expect_begun(client);
    }
}

static void a_subscription_takes_little(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, &session_ops, NULL);
    for (int i = 0; i <= SESSIONS; i++)
        client_open(&clients[i], &world, 1 << 20);
    follow(&clients[0], 0, TOPICS);
    for (int i = 1; i <= SESSIONS; i++)
        follow(&clients[i], 0, FIRST);
    size_t before = bytes_least(&world);
    for (int i = 1; i <= SESSIONS; i++)
        follow(&clients[i], FIRST, TOPICS);
    size_t count = (size_t)SESSIONS * (TOPICS - FIRST);
    WAIT_UNTIL(bytes_live(&world) - before <= BYTES_MAX * count);
    size_t directory = sizeof(struct sub), topic = sizeof(struct feed);
    size_t session = sizeof(struct subscription) + sizeof(struct followed),
           each = (bytes_least(&world) - before) / count;
    print_message("a subscription: %zu bytes: directory %zu, topic %zu, session %zu + %zu; the other %td "
                  "are blocks' heads, hashes, and what of tables is free\n",
                  each, sizeof(struct sub), topic, sizeof(struct subscription), sizeof(struct followed),
                  (ptrdiff_t)(each - directory - topic - session));
    for (int i = 0; i <= SESSIONS; i++)
        client_close(&clients[i]);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_subscription_takes_little)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
