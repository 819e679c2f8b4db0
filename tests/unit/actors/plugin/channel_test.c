/* The rings between two processes: what one writes the other reads, through any size, and nothing that the other may
 * have written instead does any harm. */
#include "actors/plugin/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/plugin/child_check.h"
#include "actors/plugin/parcel.h"
#include "actors/plugin/plugin_limits.h"
#include "clients/wire/value.h"

/* Last: its macros are called fail and skip, as verbs of plugins are. */
#include <cmocka.h>

#define RING_BYTES 4096
#define WORDS_BYTES 4096

struct pair {
    int to_child, from_child, bell;
    struct channel ours, theirs;
};

static uint64_t seed;

static uint64_t random_next(void)
{
    /* splitmix64 (Steele, Lea, Flood 2014). */
    uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t bound) { return random_next() % bound; }

static void pair_make(struct pair *pair, uint32_t size)
{
    assert_int_equal(channel_half_create(size, &pair->to_child), WEIR_OK);
    assert_int_equal(channel_half_create(size, &pair->from_child), WEIR_OK);
    assert_int_equal(channel_map(&pair->ours, pair->to_child, pair->from_child, size), WEIR_OK);
    assert_int_equal(channel_half_seal(pair->to_child), WEIR_OK);
    pair->bell = eventfd(0, EFD_NONBLOCK);
    assert_true(pair->bell >= 0);
}

static void pair_close(struct pair *pair)
{
    channel_unmap(&pair->ours);
    close(pair->to_child);
    close(pair->from_child);
    close(pair->bell);
}

/* As host_process.c maps a child's half, but writable: what a hostile child has. */
static uint8_t *hostile_map(const struct pair *pair, uint32_t size)
{
    uint8_t *half = mmap(NULL, WORDS_BYTES + size, PROT_READ | PROT_WRITE, MAP_SHARED, pair->from_child, 0);
    assert_true(half != MAP_FAILED);
    return half;
}

/* ------------------------------------------------------------------------------------------ two processes */

/* Byte i of message n, so that both sides know what is right. */
static uint8_t byte_of(uint64_t number, size_t index) { return (uint8_t)(number * 31 + index * 7 + (index >> 8)); }

static void message_fill(uint8_t *bytes, uint64_t number, size_t size)
{
    memcpy(bytes, &number, sizeof number);
    for (size_t i = sizeof number; i < size; i++)
        bytes[i] = byte_of(number, i);
}

static bool message_is_right(struct view bytes, uint64_t number)
{
    uint64_t said = 0;
    if (bytes.size < sizeof said)
        return false;
    memcpy(&said, bytes.data, sizeof said);
    for (size_t i = sizeof said; i < bytes.size; i++) {
        if (bytes.data[i] != byte_of(number, i))
            return false;
    }
    return said == number;
}

static struct parcel parcel_of_bytes(struct view bytes)
{
    struct parcel parcel = {.parts = {bytes}, .total = bytes.size};
    return parcel;
}

static void echo_wake(struct channel *channel, int bell)
{
    const uint64_t one = 1;
    channel_publish(channel);
    if (channel_must_wake(channel) && write(bell, &one, sizeof one) < 0)
        _exit(4);
}

/* The child: checks each message, sends it back, sleeps when there is nothing. */
static void echo_run(struct pair *pair, uint32_t size, uint64_t count)
{
    struct channel channel;
    struct parcel_inbox inbox = {.size_max = 1 << 20};
    struct view bytes;
    if (channel_map(&channel, pair->from_child, pair->to_child, size) != WEIR_OK)
        _exit(2);
    for (uint64_t number = 0; number < count;) {
        uint32_t seen = channel_bell(&channel);
        bool has_message = parcel_pull(&channel, &inbox, true, &bytes);
        if (!has_message) {
            channel_want(&channel);
            has_message = parcel_pull(&channel, &inbox, true, &bytes);
        }
        if (!has_message) {
            echo_wake(&channel, pair->bell);
            channel_sleep(&channel, seen);
            continue;
        }
        if (!message_is_right(bytes, number++))
            _exit(3);
        struct parcel back = parcel_of_bytes(bytes);
        for (;;) {
            seen = channel_bell(&channel);
            if (parcel_push(&channel, &back))
                break;
            channel_want(&channel);
            if (parcel_push(&channel, &back))
                break;
            echo_wake(&channel, pair->bell);
            channel_sleep(&channel, seen);
        }
        parcel_release(&channel, &inbox);
        if (random_below(8) == 0)
            echo_wake(&channel, pair->bell);
    }
    echo_wake(&channel, pair->bell);
    _exit(channel.fault == NULL ? 0 : 5);
}

static void await_bell(const struct pair *pair)
{
    struct pollfd ready = {pair->bell, POLLIN, 0};
    uint64_t count = 0;
    if (poll(&ready, 1, 30000) <= 0)
        fail_msg("no bell within 30 s (seed %llu)", (unsigned long long)seed);
    assert_int_equal(read(pair->bell, &count, sizeof count), sizeof count);
}

static void echo_drive(struct pair *pair, uint32_t size, uint64_t count)
{
    static uint8_t out[128 << 10];
    struct parcel_inbox inbox = {.size_max = sizeof out};
    struct parcel parcel = {.total = 0};
    struct view bytes;
    uint64_t sent = 0, received = 0;
    while (received < count) {
        bool has_moved = false;
        while (parcel.done < parcel.total || sent < count) {
            if (parcel.done == parcel.total) {
                size_t bytes_size = 8 + random_below(random_below(10) == 0 ? 3 * size : 200);
                message_fill(out, sent++, bytes_size);
                parcel = parcel_of_bytes(view_of(out, bytes_size));
            }
            uint64_t before = parcel.done;
            bool is_through = parcel_push(&pair->ours, &parcel);
            has_moved |= parcel.done > before;
            if (!is_through || random_below(16) == 0)
                break;
        }
        channel_publish(&pair->ours);
        while (parcel_pull(&pair->ours, &inbox, false, &bytes)) {
            has_moved = true;
            if (!message_is_right(bytes, received++))
                fail_msg("message %llu is wrong", (unsigned long long)(received - 1));
        }
        assert_null(pair->ours.fault);
        if (channel_must_wake(&pair->ours))
            channel_wake(&pair->ours);
        if (has_moved || received == count)
            continue;
        channel_want(&pair->ours);
        if (channel_waiting(&pair->ours) == 0 && channel_room(&pair->ours, size / 2) < size / 2)
            await_bell(pair);
        else if (channel_waiting(&pair->ours) == 0 && parcel.done == parcel.total && sent == count)
            await_bell(pair);
    }
    parcel_inbox_fini(&inbox);
}

static void messages_of_any_size_come_back_as_they_went(void **state)
{
    uint32_t count = 20000;
    (void)state;
    for (uint32_t size = CHANNEL_BYTES_MIN; size <= CHANNEL_BYTES_MIN * 8; size *= 2) {
        struct pair pair;
        int status = 0;
        pair_make(&pair, size);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            echo_run(&pair, size, count);
        echo_drive(&pair, size, count);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        pair_close(&pair);
    }
}

/* ---------------------------------------------------------------------------------------------- seals */

static void half_of_the_broker_cannot_be_mapped_writable_again(void **state)
{
    struct pair pair;
    (void)state;
    pair_make(&pair, RING_BYTES);
    assert_true(mmap(NULL, WORDS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, pair.to_child, 0) == MAP_FAILED);
    assert_true(ftruncate(pair.to_child, 0) != 0);
    assert_true(ftruncate(pair.from_child, 0) != 0);
    assert_true(ftruncate(pair.from_child, 1 << 20) != 0);
    pair_close(&pair);
}

/* ---------------------------------------------------------------------------------------------- hostile */

static const char text_key[] = "key";
static const uint8_t value_map[] = {0x82, 0xa1, 'a', 0x01, 0xa1, 'b', 0x93, 0x01, 0x02, 0xa2, 'h', 'i'};

/* Some right outputs for the input `number`, as a child would write them. */
static void outputs_write(struct channel *channel, uint64_t number)
{
    struct plugin_output outputs[] = {
        {.kind = OUTPUT_EMIT, .topic = view_text("a/b"), .key = view_text(text_key), .has_key = true},
        {.kind = OUTPUT_EMIT, .topic = view_text("topic"), .value = view_of(value_map, sizeof value_map)},
        {.kind = OUTPUT_EMIT, .has_key = true, .same = OUTPUT_SAME_TOPIC | OUTPUT_SAME_KEY | OUTPUT_SAME_VALUE},
        {.kind = OUTPUT_EMIT, .value = view_of(value_map, sizeof value_map), .same = OUTPUT_SAME_TOPIC},
        {.kind = OUTPUT_TIMER, .timer = 1, .delay_ms = 2, .period_ms = 3},
        {.kind = OUTPUT_LOG, .level = WEIR_LOG_INFO, .text = view_text("hello")},
        {.kind = OUTPUT_DONE, .text = view_text("")},
    };
    outputs[0].value = view_of(value_map, sizeof value_map);
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        struct parcel parcel;
        outputs[i].number = number;
        assert_true(parcel_of_output(&parcel, &outputs[i]));
        assert_true(parcel_push(channel, &parcel));
    }
    channel_publish(channel);
}

/* An output that got through every check must be right by each word of what take promises. */
static void output_is_harmless(const struct plugin_output *output, const struct child_check *check)
{
    size_t size = 0;
    bool has_value = output->kind == OUTPUT_EMIT || output->kind == OUTPUT_SNAPSHOT || output->kind == OUTPUT_REPLY;
    assert_in_range(output->kind, OUTPUT_EMIT, OUTPUT_DONE);
    assert_true(output->number == check->number);
    assert_true(output->topic.size <= 255 && output->key.size <= 1024 && output->text.size < PLUGIN_TEXT_SIZE);
    assert_true(output->level <= WEIR_LOG_ERROR && output->result <= WEIR_ACTOR_FAILED);
    assert_true(output->kind == OUTPUT_EMIT || output->topic.size == 0);
    assert_true(output->kind == OUTPUT_EMIT || (output->same == 0 && !output->is_last));
    assert_true((output->same & OUTPUT_SAME_TOPIC) == 0 || output->topic.size == 0);
    assert_true((output->same & OUTPUT_SAME_KEY) == 0 || (output->has_key && output->key.size == 0));
    has_value = has_value && (output->same & OUTPUT_SAME_VALUE) == 0;
    assert_int_equal(output->value.size > 0, has_value);
    /* Reads every byte: AddressSanitizer sees one that is not the inbox's. */
    if (has_value) {
        assert_int_equal(value_scan(output->value, VALUE_DEPTH_LIMIT, &size), WEIR_OK);
        assert_int_equal(size, output->value.size);
    }
}

/* A word that a hostile child likes: near what is right, near the edges, or anything. */
static uint64_t hostile_word(uint64_t right)
{
    static const uint64_t edges[] = {0, 1, 7, 8, UINT32_MAX, UINT64_MAX, INT64_MAX, UINT64_C(1) << 32, RING_BYTES};
    switch (random_below(4)) {
    case 0: return right + random_below(64) - 32;
    case 1: return edges[random_below(sizeof edges / sizeof edges[0])];
    case 2: return right ^ (UINT64_C(1) << random_below(64));
    default: return random_next();
    }
}

/* Writes one hostile word: into the positions, or into what was written as frames. */
static void word_corrupt(uint8_t *half, uint64_t begin, uint64_t end)
{
    uint64_t place = random_below(4) == 0 ? random_below(sizeof(struct channel_words) / 8) * 8
                                          : WORDS_BYTES + ((begin + random_below(end - begin)) & (RING_BYTES - 8));
    uint64_t word = 0;
    memcpy(&word, half + place, sizeof word);
    word = hostile_word(word);
    memcpy(half + place, &word, sizeof word);
}

/* Takes all there is, as the host does; true: nothing was wrong with it. */
static bool hostile_drain(struct channel *channel, struct parcel_inbox *inbox, struct child_check *check,
                          uint64_t *harmless)
{
    char why[PLUGIN_TEXT_SIZE];
    struct view bytes;
    while (parcel_pull(channel, inbox, false, &bytes)) {
        struct plugin_output output;
        if (!parcel_to_output(bytes, &output) || !child_check(check, &output, why, sizeof why))
            return false;
        output_is_harmless(&output, check);
        ++*harmless;
    }
    /* The other direction asks the same child how far it has read. */
    (void)channel_room(channel, channel->size);
    (void)channel_must_wake(channel);
    return channel->fault == NULL;
}

/* As if both sides had just been made. */
static void pair_reset(struct pair *pair)
{
    struct channel *sides[] = {&pair->ours, &pair->theirs};
    for (size_t i = 0; i < 2; i++) {
        memset(sides[i]->own, 0, sizeof *sides[i]->own);
        sides[i]->written = sides[i]->read = sides[i]->other_head = sides[i]->other_tail = 0;
        sides[i]->woken = 0;
        sides[i]->fault = NULL;
    }
}

static void corrupted_words_do_no_harm(void **state)
{
    struct pair pair;
    struct child_check check = {.number = 0};
    struct parcel_inbox inbox = {.size_max = 1 << 20};
    uint64_t corrupted = 0, caught = 0, harmless = 0;
    (void)state;
    runner_bounds_fill(&check.bounds);
    pair_make(&pair, RING_BYTES);
    assert_int_equal(channel_map(&pair.theirs, pair.from_child, pair.from_child, RING_BYTES), WEIR_OK);
    uint8_t *half = hostile_map(&pair, RING_BYTES);
    while (corrupted < 1000000) {
        uint64_t begin = pair.theirs.written;
        unsigned words = 1 + (unsigned)random_below(4);
        child_check_begin(&check, corrupted);
        pair.theirs.other_head = begin; /* all has been read, or it would have been reset */
        outputs_write(&pair.theirs, corrupted);
        for (unsigned i = 0; i < words; i++)
            word_corrupt(half, begin, pair.theirs.written);
        corrupted += words;
        if (hostile_drain(&pair.ours, &inbox, &check, &harmless) && !inbox.is_partial &&
            pair.ours.read == pair.theirs.written)
            continue;
        caught++;
        inbox.is_partial = false;
        pair_reset(&pair);
    }
    printf("%llu words corrupted: %llu runs of outputs refused, %llu outputs right all the same\n",
           (unsigned long long)corrupted, (unsigned long long)caught, (unsigned long long)harmless);
    assert_true(caught > corrupted / 20 && harmless > 0);
    parcel_inbox_fini(&inbox);
    munmap(half, WORDS_BYTES + RING_BYTES);
    channel_unmap(&pair.theirs);
    pair_close(&pair);
}

/* A child of its own that writes words all the time, also between the broker's looking and using. */
static void scribble_run(struct pair *pair, uint64_t number)
{
    struct channel channel;
    uint8_t *half = hostile_map(pair, RING_BYTES);
    if (channel_map(&channel, pair->from_child, pair->to_child, RING_BYTES) != WEIR_OK)
        _exit(2);
    for (;;) {
        uint64_t begin = channel.written;
        channel.other_head = begin;
        outputs_write(&channel, number);
        for (unsigned i = 0; i < 64; i++)
            word_corrupt(half, begin, channel.written);
    }
}

static void words_that_change_while_they_are_read_do_no_harm(void **state)
{
    struct child_check check = {.number = 0};
    uint64_t harmless = 0, until_ns = clock_now_ns() + 5 * NS_PER_S;
    (void)state;
    runner_bounds_fill(&check.bounds);
    for (unsigned round = 0; round < 200 && clock_now_ns() < until_ns; round++) {
        struct pair pair;
        struct parcel_inbox inbox = {.size_max = 1 << 20};
        pair_make(&pair, RING_BYTES);
        pid_t pid = fork();
        assert_true(pid >= 0);
        seed++;
        if (pid == 0)
            scribble_run(&pair, round);
        child_check_begin(&check, round);
        uint64_t round_ns = clock_now_ns() + 50 * NS_PER_MS;
        while (hostile_drain(&pair.ours, &inbox, &check, &harmless) && clock_now_ns() < round_ns)
            child_check_begin(&check, round);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        parcel_inbox_fini(&inbox);
        pair_close(&pair);
    }
}

static void pair_put(struct channel *channel)
{
    assert_non_null(channel_reserve(channel, 8));
    channel_commit(channel, 8, 0);
    channel_publish(channel);
}

/* As both do when they find nothing; true when it wakes the other side. */
static bool side_rests(struct channel *channel)
{
    bool wakes = channel_must_wake(channel);
    channel_want(channel);
    assert_int_equal(channel_waiting(channel), 0);
    return wakes;
}

static void sides_at_rest_wake_each_other_only_for_something_new(void **state)
{
    struct pair pair;
    struct channel_frame frame;
    const uint8_t *data;
    (void)state;
    pair_make(&pair, RING_BYTES);
    assert_int_equal(channel_map(&pair.theirs, pair.from_child, pair.to_child, RING_BYTES), WEIR_OK);
    (void)side_rests(&pair.theirs);
    (void)side_rests(&pair.ours);
    for (int i = 0; i < 5; i++) {
        assert_false(side_rests(&pair.theirs));
        assert_false(side_rests(&pair.ours));
    }
    pair_put(&pair.ours);
    assert_true(channel_must_wake(&pair.ours));
    assert_false(channel_must_wake(&pair.ours));
    assert_true(channel_peek(&pair.theirs, &frame, &data));
    channel_consume(&pair.theirs, &frame);
    /* What was taken is room, which the other side may wait for. */
    assert_true(side_rests(&pair.theirs));
    /* Nobody has waited in between: what is there will be seen. */
    pair_put(&pair.theirs);
    assert_false(channel_must_wake(&pair.theirs));
    channel_want(&pair.ours);
    assert_true(channel_peek(&pair.ours, &frame, &data));
    channel_consume(&pair.ours, &frame);
    assert_true(side_rests(&pair.ours));
    for (int i = 0; i < 5; i++) {
        assert_false(side_rests(&pair.theirs));
        assert_false(side_rests(&pair.ours));
    }
    channel_unmap(&pair.theirs);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_any_size_come_back_as_they_went),
        cmocka_unit_test(sides_at_rest_wake_each_other_only_for_something_new),
        cmocka_unit_test(half_of_the_broker_cannot_be_mapped_writable_again),
        cmocka_unit_test(corrupted_words_do_no_harm),
        cmocka_unit_test(words_that_change_while_they_are_read_do_no_harm),
    };
    const char *given = getenv("WEIR_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : clock_now_ns();
    printf("seed %llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
