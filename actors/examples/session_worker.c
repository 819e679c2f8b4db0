/* Worker with internal buffer: a session folds events into a buffer that it alone sees and grows, and emits owned
 * snapshots {id, payload}. The consumer sees a bounded stream of those, never the buffer.
 *
 *   source --events, held back by the mailbox--> session --snapshots, at most MAILBOX_SNAPSHOTS wait--> consumer
 *
 * Who owns what: the buffer is the session's. A snapshot is a block of its own; its one reference moves with the
 * message and goes when the consumer's turn is over. When the consumer is behind, the session makes no snapshot: it
 * folds on and, once told of room, emits the newest one. So memory is bounded whoever is slow, and the last snapshot is
 * exact.
 *
 *   session_worker [EVENTS] */
#include <string.h>

#include "actors/examples/example.h"
#include "actors/examples/source.h"

enum { TAG_EVENT = 1, TAG_FINISH, TAG_SNAPSHOT };
enum { KEYS = 4096, MAILBOX_SNAPSHOTS = 4 };
/* What the session may have: its buffer, the next one while it grows, and the snapshots under way. */
#define BUDGET_BYTES ((size_t)(2 + MAILBOX_SNAPSHOTS + 2) * (KEYS * sizeof(uint64_t) + 8192))

static uint64_t events, snapshots, snapshot_bytes;

/* ---------------------------------------------------------------- the session: counts[key], grown as keys come */

struct session {
    weir_actor consumer;
    weir_msg buffer; /* uint64_t[keys], never shared */
    size_t keys;     /* highest key seen, plus 1 */
    uint64_t folded, id;
    bool is_dirty, is_waiting, is_finishing;
};

static enum weir_error session_start(struct turn *turn, void *state, const void *args)
{
    struct session *session = state;
    session->consumer = *(const weir_actor *)args;
    return arena_alloc(turn_arena(turn), sizeof(uint64_t), turn_budget(turn), &session->buffer);
}

/* Room for so many keys; doubles, so that growing costs a constant share of folding. */
static enum weir_error session_grow(struct turn *turn, struct session *session, size_t keys)
{
    struct arena *arena = turn_arena(turn);
    size_t size = arena_capacity(arena, session->buffer);
    weir_msg larger;
    if (keys * sizeof(uint64_t) > size) {
        enum weir_error error = arena_alloc(arena, 2 * keys * sizeof(uint64_t), turn_budget(turn), &larger);
        if (error)
            return error;
        memcpy(arena_data(arena, larger), arena_data(arena, session->buffer), session->keys * sizeof(uint64_t));
        arena_drop(arena, session->buffer);
        session->buffer = larger;
    }
    uint64_t *counts = arena_data(arena, session->buffer);
    memset(counts + session->keys, 0, (keys - session->keys) * sizeof *counts);
    session->keys = keys;
    return WEIR_OK;
}

/* Everything that can fail comes before the first change: a failed turn leaves the state as it was. */
static enum weir_error session_fold(struct turn *turn, struct session *session, uint64_t key)
{
    if (key >= session->keys) {
        enum weir_error error = session_grow(turn, session, (size_t)key + 1);
        if (error)
            return error;
    }
    ((uint64_t *)arena_data(turn_arena(turn), session->buffer))[key]++;
    session->folded++;
    session->is_dirty = true;
    return WEIR_OK;
}

static enum weir_error session_message(struct turn *turn, void *state, struct message *message)
{
    struct session *session = state;
    switch (message->tag) {
    case TAG_EVENT: return session_fold(turn, session, message->word[0]);
    case TAG_FINISH: session->is_finishing = session->is_dirty = true; break;
    case MESSAGE_ROOM: session->is_waiting = false; break;
    default: break;
    }
    return WEIR_OK;
}

/* Copies the buffer into a block of its own and hands that over. WEIR_FULL: the consumer is behind. */
static enum weir_error session_emit(struct turn *turn, struct session *session)
{
    struct arena *arena = turn_arena(turn);
    size_t size = session->keys * sizeof(uint64_t);
    struct message message = {
        .tag = TAG_SNAPSHOT, .detail = session->is_finishing, .word = {session->id + 1, size, session->folded}};
    enum weir_error error = arena_alloc(arena, size, turn_budget(turn), &message.hold[0]);
    if (error)
        return error;
    memcpy(arena_data(arena, message.hold[0]), arena_data(arena, session->buffer), size);
    error = turn_send(turn, session->consumer, &message);
    if (error) /* refused: the block is still ours */
        arena_drop(arena, message.hold[0]);
    return error;
}

/* One snapshot a turn, however many events the turn folded. */
static void session_turn_end(struct turn *turn, void *state)
{
    struct session *session = state;
    if (!session->is_dirty || session->is_waiting)
        return;
    enum weir_error error = session_emit(turn, session);
    if (error == WEIR_FULL) {
        session->is_waiting = true;
        error = turn_await_room(turn, session->consumer);
    } else if (!error) {
        session->id++;
        session->is_dirty = false;
    }
    if (error || (session->is_finishing && !session->is_dirty))
        turn_exit(turn, error);
}

static void session_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    arena_drop(turn_arena(turn), ((struct session *)state)->buffer);
}

/* -------------------------------------------------------------------------------- its source and its consumer */

/* Events of more and more keys, and an end. */
static enum weir_error event_make(struct turn *turn, uint64_t number, struct message *out)
{
    (void)turn;
    uint64_t keys = 1 + number * (KEYS - 1) / events;
    *out = (struct message){.tag = number == events ? TAG_FINISH : TAG_EVENT,
                            .word = {number * UINT64_C(2654435761) % keys}};
    return WEIR_OK;
}

static enum weir_error consumer_message(struct turn *turn, void *state, struct message *message)
{
    uint64_t *last_id = state;
    const uint64_t *counts = arena_data(turn_arena(turn), message->hold[0]);
    uint64_t sum = 0;
    for (size_t i = 0; i < message->word[1] / sizeof *counts; i++)
        sum += counts[i];
    CHECK(message->word[0] == *last_id + 1);
    CHECK(sum == message->word[2]); /* of one moment, whatever was folded since */
    *last_id = message->word[0];
    snapshots++;
    snapshot_bytes += message->word[1];
    if (message->detail) {
        CHECK(sum == events);
        example_done();
    }
    return WEIR_OK;
}

static const struct behaviour session_behaviour = {.name = "session",
                                                   .state_size = sizeof(struct session),
                                                   .on_start = session_start,
                                                   .on_message = session_message,
                                                   .on_turn_end = session_turn_end,
                                                   .on_stop = session_stop};
static const struct behaviour consumer_behaviour = {
    .name = "consumer", .state_size = sizeof(uint64_t), .on_message = consumer_message};

int main(int argc, char **argv)
{
    struct budget *budget = NULL;
    struct budget_usage usage;
    weir_actor consumer, session;
    events = example_size(argc, argv, 1000000, 1000000000);
    example_begin((size_t)64 << 20, (struct runtime_config){0});
    MUST(budget_create(NULL, "session", BUDGET_BYTES, &budget));
    uint64_t start = clock_cpu_ns();
    MUST(actor_spawn(example.runtime, &consumer_behaviour, NULL, 0,
                     &(struct actor_options){.mailbox_max = MAILBOX_SNAPSHOTS}, &consumer));
    MUST(actor_spawn(example.runtime, &session_behaviour, &consumer, sizeof consumer,
                     &(struct actor_options){.budget = budget}, &session));
    source_spawn((struct source){.to = session, .count = events + 1, .make = event_make});
    example_wait(1);
    double cpu = (double)(clock_cpu_ns() - start);
    budget_usage(budget, &usage);
    printf("source: %" PRIu64 " events, held back %" PRIu64 " times\n", events, source_waits);
    printf("consumer: %" PRIu64 " snapshots of %" PRIu64 " bytes on average; the last holds every event\n", snapshots,
           snapshot_bytes / snapshots);
    printf("%.0f ns of processor time an event, snapshots included; at most %zu KiB of %zu\n", cpu / (double)events,
           usage.bytes_peak >> 10, usage.bytes_max >> 10);
    CHECK(usage.refusals == 0);
    budget_destroy(&budget);
    return example_end();
}
