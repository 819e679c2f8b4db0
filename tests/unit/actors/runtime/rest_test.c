/* Workers at rest give back the memory that only a burst needed, though nothing wakes them. On real threads. */
#include "fixture.h"

enum { BLOCKS = 10000, SIZE = 2000, TAG_BURST = 1 };

static weir_msg held[BLOCKS];

static enum weir_error burst(struct turn *turn, struct probe *probe, struct message *message)
{
    (void)message;
    for (int i = 0; i < BLOCKS; i++)
        must(arena_alloc(turn_arena(turn), (size_t)(SIZE + i % 20 * 100), NULL, &held[i]));
    for (int i = 0; i < BLOCKS; i++)
        arena_drop(turn_arena(turn), held[i]);
    atomic_fetch_add((_Atomic uint64_t *)probe->context, 1);
    return WEIR_OK;
}

static size_t committed(const struct fixture *fixture)
{
    struct arena_usage usage;
    arena_usage(fixture->arena, &usage);
    return usage.bytes_committed;
}

static void a_worker_asleep_gives_back_what_a_burst_left(void **state)
{
    (void)state;
    struct fixture fixture = fixture_threaded(2);
    _Atomic uint64_t bursts = 0;
    weir_actor actor =
        fixture_spawn(&fixture, (struct probe){.on_message = burst, .context = &bursts}, (struct actor_options){0});
    size_t before = committed(&fixture);
    fixture_send(&fixture, actor, TAG_BURST, 0);
    await_at_least(&bursts, 1);
    uint64_t deadline = clock_now_ns() + DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 1000000};
    while (committed(&fixture) > before + (ARENA_SLABS_KEPT_RESTING + 1) * ((size_t)256 << 10)) {
        assert_true(clock_now_ns() < deadline);
        nanosleep(&pause, NULL);
    }
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_worker_asleep_gives_back_what_a_burst_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
