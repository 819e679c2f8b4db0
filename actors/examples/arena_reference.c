/* Arena reference: one block, written once, goes to many keepers. Each takes the reference out of its message and keeps
 * it beyond its turn, past the life of the sender: it reads the letter only when it has been told that the sender
 * ended.
 *
 * Who owns what: every reference has one owner at a time. The sender holds one more for each letter it posts; posting
 * moves it. A keeper's is its own from message_take on, and it drops it when done, or in on_stop. The block ends with
 * the last drop, and the handle is refused from then on.
 *
 *   arena_reference [KEEPERS] */
#include <string.h>

#include "actors/examples/example.h"

enum { TAG_JOIN = 1, TAG_LETTER };
enum { LETTER_SIZE = 4096, ROUNDS = 20000, KEEPERS_MAX = 65535 };
#define GREETING "read me when I am gone"

static uint64_t keepers;
static weir_msg letter_written; /* written by the sender before it ends, read by main after all keepers are done */

/* ---------------------------------------------------------------------------------------------- the sender */

struct sender {
    weir_msg letter;
    uint64_t posted;
};

static enum weir_error sender_start(struct turn *turn, void *state, const void *args)
{
    (void)args;
    struct sender *sender = state;
    enum weir_error error = arena_alloc(turn_arena(turn), LETTER_SIZE, NULL, &sender->letter);
    if (error)
        return error;
    memset(arena_data(turn_arena(turn), sender->letter), 0, LETTER_SIZE);
    memcpy(arena_data(turn_arena(turn), sender->letter), GREETING, sizeof GREETING);
    letter_written = sender->letter;
    return WEIR_OK;
}

/* A keeper joins: it gets the same block as all others. With the last one the sender ends. */
static enum weir_error sender_message(struct turn *turn, void *state, struct message *message)
{
    struct sender *sender = state;
    struct message letter = {.tag = TAG_LETTER, .hold = {sender->letter}};
    enum weir_error error = arena_hold(turn_arena(turn), sender->letter);
    if (error)
        return error;
    error = turn_send(turn, message->from, &letter);
    if (error) { /* refused: the reference is still ours */
        arena_drop(turn_arena(turn), sender->letter);
        return error;
    }
    if (++sender->posted == keepers)
        turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static void sender_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    arena_drop(turn_arena(turn), ((struct sender *)state)->letter);
}

/* ---------------------------------------------------------------------------------------------- a keeper */

struct keeper {
    weir_actor sender;
    weir_msg letter;   /* none until it came */
    struct slice name; /* part of it; the letter's reference keeps it readable */
    bool is_bereft;    /* the sender has ended */
};

static enum weir_error keeper_start(struct turn *turn, void *state, const void *args)
{
    struct keeper *keeper = state;
    keeper->sender = *(const weir_actor *)args;
    enum weir_error error = actor_monitor(turn_runtime(turn), turn_self(turn), keeper->sender);
    return error ? error : turn_send(turn, keeper->sender, &(struct message){.tag = TAG_JOIN});
}

static void keeper_read(struct turn *turn, const struct keeper *keeper)
{
    const char *text = arena_data(turn_arena(turn), keeper->name.block);
    CHECK(turn_send(turn, keeper->sender, &(struct message){.tag = TAG_JOIN}) == WEIR_STALE); /* nobody is there */
    CHECK(text != NULL && memcmp(text + keeper->name.offset, "I am gone", keeper->name.size) == 0);
}

/* The news of the end is control: it may overtake the letter, which is data. */
static enum weir_error keeper_message(struct turn *turn, void *state, struct message *message)
{
    struct keeper *keeper = state;
    if (message->tag == TAG_LETTER) {
        keeper->letter = message_take(message, 0); /* otherwise the runtime drops it after this turn */
        keeper->name = (struct slice){.block = keeper->letter, .offset = sizeof "read me when", .size = 9};
    } else if (message->tag == MESSAGE_EVENT) {
        keeper->is_bereft = true;
    }
    if (keeper->is_bereft && !msg_is_none(keeper->letter)) {
        keeper_read(turn, keeper);
        turn_exit(turn, WEIR_OK);
    }
    return WEIR_OK;
}

static void keeper_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    arena_drop(turn_arena(turn), ((struct keeper *)state)->letter);
    example_done();
}

static const struct behaviour sender_behaviour = {.name = "sender",
                                                  .state_size = sizeof(struct sender),
                                                  .on_start = sender_start,
                                                  .on_message = sender_message,
                                                  .on_stop = sender_stop};
static const struct behaviour keeper_behaviour = {.name = "keeper",
                                                  .state_size = sizeof(struct keeper),
                                                  .on_start = keeper_start,
                                                  .on_message = keeper_message,
                                                  .on_stop = keeper_stop};

/* ---------------------------------------------------------------------------------------------- what it costs */

static void measure(size_t size)
{
    weir_msg block, copy;
    MUST(arena_alloc(example.arena, size, NULL, &block));
    memset(arena_data(example.arena, block), 1, size);
    uint64_t start = clock_cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        MUST(arena_hold(example.arena, block));
        arena_drop(example.arena, block);
    }
    uint64_t held = clock_cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        MUST(arena_alloc(example.arena, size, NULL, &copy));
        memcpy(arena_data(example.arena, copy), arena_data(example.arena, block), size);
        arena_drop(example.arena, copy);
    }
    uint64_t copied = clock_cpu_ns();
    arena_drop(example.arena, block);
    printf("one more reader of %5zu bytes: %3.0f ns by reference, %5.0f ns by copy\n", size,
           (double)(held - start) / ROUNDS, (double)(copied - held) / ROUNDS);
}

int main(int argc, char **argv)
{
    weir_actor sender, keeper;
    keepers = example_size(argc, argv, 10000, KEEPERS_MAX);
    example_begin((size_t)256 << 20, (struct runtime_config){0});
    for (size_t size = 64; size <= 65536; size *= 32)
        measure(size);
    MUST(actor_spawn(example.runtime, &sender_behaviour, NULL, 0, &(struct actor_options){.mailbox_max = KEEPERS_MAX},
                     &sender));
    for (uint64_t i = 0; i < keepers; i++)
        MUST(actor_spawn(example.runtime, &keeper_behaviour, &sender, sizeof sender, NULL, &keeper));
    example_wait(keepers);
    printf("%" PRIu64 " keepers read one letter after its sender had ended\n", keepers);
    CHECK(arena_data(example.arena, letter_written) == NULL); /* a handle kept too long is refused, never followed */
    return example_end();
}
