/* Bytes from the socket into arena blocks, and SP messages out of them in place. In the connection's turns. */
#include "broker/gateway/intake.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/connection.h"

enum {
    RECEIVES_PER_RUN = 4, /* reads of one turn: a busy peer saves thread switches, others wait for one turn at most */
    ROOM_MIN_PART = 4,    /* a block is read into while at least 1/4 of it is free */
    STARVED_MS = 1000,    /* others use the memory up: let the peer try again elsewhere */
    HELD_BACK_MS = 10000, /* its own records do: topics that are busy for seconds still give them back */
    MEMORY_RETRY_MS = 20,
    LEAVES_PART = 16,   /* of the memory ceiling stays for answers, whatever is received */
    AHEAD_MESSAGES = 4, /* far enough for memory to answer */
    TAIL_GROWTH = 4,    /* a long message is copied 1.3 times in all, and claims 4 times what it has sent */
    LARGE_GROWTH = 16,  /* one that follows others as long: 1.07 times; a block of the first size is enough for 2 MiB */
};

/* Once all is parsed and nobody else has the block, it can be written from its start again. */
static void intake_rewind(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (intake->start == intake->end && intake->end > 0 && !msg_is_none(intake->block) &&
        arena_is_unshared(connection->arena, intake->block))
        intake->start = intake->end = intake->ahead_count = 0;
}

/* The size to choose the block that continues here by: all that is there of a message, some times over. */
static size_t intake_wish(const struct intake *intake)
{
    size_t tail = intake->end - intake->start, wish = intake->next_class;
    size_t needed = intake->needed + ARENA_BLOCK_OVERHEAD;
    if (needed > wish) {
        size_t grown = tail * (intake->needed <= intake->large_size ? LARGE_GROWTH : TAIL_GROWTH);
        if (grown > wish)
            wish = needed < grown ? needed : grown;
    }
    size_t least = tail + INTAKE_BLOCK_MIN;
    return wish > least ? wish : least;
}

static bool intake_replace(struct connection *connection, size_t class_size)
{
    struct intake *intake = &connection->intake;
    weir_msg block;
    size_t capacity = class_size - ARENA_BLOCK_OVERHEAD;
    /* What is read only to be thrown away, so that the peer can read the end, is the last that there is memory for. */
    bool is_last = connection->is_finishing;
    if (!is_last && !connection_may_have(connection, class_size, CONNECTION_RESERVE_RECEIVE))
        return false;
    if (arena_alloc_leaving(connection->arena, capacity, connection->budget, is_last ? 0 : LEAVES_PART, &block) !=
        WEIR_OK)
        return false;
    uint8_t *data = arena_data(connection->arena, block);
    size_t tail = intake->end - intake->start;
    if (tail > 0)
        memcpy(data, intake->data + intake->start, tail);
    arena_drop(connection->arena, intake->block);
    intake->block = block;
    intake->data = data;
    intake->capacity = (uint32_t)capacity;
    intake->block_class = (uint32_t)class_size;
    intake->start = intake->ahead_count = 0;
    intake->end = (uint32_t)tail;
    return true;
}

/* Makes room in the block that is there, once nobody else has it: what was parsed makes way for what is to come. */
static bool intake_compact(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (msg_is_none(intake->block) || intake->start == 0 || intake->needed > intake->capacity ||
        !arena_is_unshared(connection->arena, intake->block))
        return false;
    size_t tail = intake->end - intake->start;
    memmove(intake->data, intake->data + intake->start, tail);
    intake->start = intake->ahead_count = 0;
    intake->end = (uint32_t)tail;
    return true;
}

/* Whether it is the connection's own share that is used up, by what it has on its way. */
static bool intake_is_held_back(const struct connection *connection)
{
    size_t used, max;
    budget_level(connection->budget, &used, &max);
    return max > 0 && used > max / 2;
}

/* Memory comes back as topics drop records, so the peer waits; but a peer that is not read is not seen to leave either,
 * so it does not wait for ever. */
static void intake_starve(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    uint64_t now_ns = turn_now_ns(connection->turn);
    uint64_t patience_ms = intake_is_held_back(connection) ? HELD_BACK_MS : STARVED_MS;
    if (intake->starved_ns == 0)
        intake->starved_ns = now_ns;
    if (msg_is_none(intake->block) || now_ns - intake->starved_ns > patience_ms * NS_PER_MS) {
        connection_refuse(connection, REFUSAL_MEMORY, WEIR_NO_MEMORY, "there is no memory to receive into");
        return;
    }
    connection_pause(connection, PAUSE_MEMORY);
    connection_timer(connection, TIMER_MEMORY, MEMORY_RETRY_MS, false);
}

void intake_on_memory(struct connection *connection) { connection_resume(connection, PAUSE_MEMORY); }

/* Makes room to receive into; false: no memory, and the connection is paused for it. */
static bool intake_room(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    intake_rewind(connection);
    size_t tail = intake->end - intake->start, room = intake->capacity - intake->end;
    bool is_growing = tail < intake->capacity / 2;
    bool is_enough = !msg_is_none(intake->block) && room >= intake->capacity / ROOM_MIN_PART &&
                     (intake->needed <= tail + room || is_growing);
    bool is_sized = intake->start > 0 || tail > 0 || intake->block_class == intake->next_class;
    if (is_enough && is_sized)
        return true;
    if (intake_replace(connection, intake_wish(intake)) || intake_replace(connection, tail + INTAKE_BLOCK_MIN) ||
        intake_compact(connection))
        return true;
    if (room > 0 && !msg_is_none(intake->block))
        return true;
    intake_starve(connection);
    return false;
}

/* Reads fill it: double. They leave most of it empty: halve. */
static void intake_adapt(struct intake *intake, size_t size, size_t posted)
{
    uint32_t class_size = intake->next_class;
    if (size == posted && class_size < INTAKE_BLOCK_MAX)
        class_size *= 2;
    else if (size < class_size / 8 && class_size > INTAKE_BLOCK_MIN)
        class_size /= 2;
    if (class_size < intake->next_class)
        intake->large_size = 0;
    intake->next_class = class_size;
}

static void intake_take(struct connection *connection, size_t size, size_t posted)
{
    struct intake *intake = &connection->intake;
    ENSURE(size <= posted && size <= intake->capacity - intake->end);
    intake->end += (uint32_t)size;
    intake_adapt(intake, size, posted);
    intake->is_full = size == posted;
    connection->heard_ns = turn_now_ns(connection->turn);
    counter_add(&connection->counters.bytes_in, size);
}

void intake_received(struct connection *connection, size_t size)
{
    size_t posted = connection->intake.posted;
    connection->intake.posted = 0;
    intake_take(connection, size, posted);
}

static bool intake_is_open(const struct connection *connection)
{
    return connection->paused == 0 && !connection->is_closing && !connection->is_finishing;
}

/* Whether there is memory to take a message apart; false: the connection is paused until there is. */
static bool intake_can_parse(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (!intake->is_short)
        return true;
    if (!connection_may_have(connection, 0, CONNECTION_RESERVE_PARSE)) {
        intake_starve(connection);
        return false;
    }
    intake->is_short = false;
    intake->starved_ns = 0;
    return true;
}

/* Shows the messages to come to whoever will take them apart, so that what these look at is fetched meanwhile. */
static void intake_look_ahead(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (connection->ops->on_ahead == NULL)
        return;
    if (intake->ahead_count == 0)
        intake->ahead = intake->start;
    while (intake->ahead_count < AHEAD_MESSAGES) {
        size_t offset = 0, size = 0, needed = 0;
        const uint8_t *at = intake->data + intake->ahead;
        if (sp_message_find(at, intake->end - intake->ahead, connection->is_ipc, intake->body_max, &offset, &size,
                            &needed) != WEIR_OK)
            return;
        connection->ops->on_ahead(connection, view_of(at + offset, size));
        intake->ahead += (uint32_t)(offset + size);
        intake->ahead_count++;
    }
}

/* Parses one message; false when there is none whole, or the connection is paused or ends. */
static bool intake_step(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (!intake_is_open(connection) || intake->start == intake->end)
        return false;
    size_t offset = 0, size = 0;
    intake_look_ahead(connection);
    enum weir_error error = sp_message_find(intake->data + intake->start, intake->end - intake->start,
                                            connection->is_ipc, intake->body_max, &offset, &size, &intake->needed);
    if (error == WEIR_AGAIN)
        return false;
    if (error == WEIR_TOO_BIG) {
        connection_refuse(connection, REFUSAL_MESSAGE_SIZE, error, "the message is longer than the broker takes");
        return false;
    }
    if (error != WEIR_OK) {
        connection_refuse(connection, REFUSAL_FRAMING, error, "the bytes are no message of the scalability protocols");
        return false;
    }
    intake->needed = 0;
    if (!intake_can_parse(connection))
        return false;
    if (connection->ops->on_body(connection, view_of(intake->data + intake->start + offset, size)) == WEIR_AGAIN)
        return false;
    intake->start += (uint32_t)(offset + size);
    if (offset + size > intake->large_size && offset + size > INTAKE_BLOCK_MAX)
        intake->large_size = (uint32_t)(offset + size);
    intake->ahead_count -= intake->ahead_count > 0;
    counter_add(&connection->counters.messages_in, 1);
    return true;
}

static void intake_parse(struct connection *connection)
{
    connection->intake.needed = 0;
    connection->publisher.is_round_over = false;
    while (intake_step(connection) && !connection->publisher.is_round_over) {
    }
    publisher_flush(connection); /* also what came before a message that ends the connection */
}

/* True when bytes came at once, so that there is more to parse. */
static bool intake_receive(struct connection *connection, bool is_now)
{
    struct intake *intake = &connection->intake;
    if (!intake_room(connection))
        return false;
    intake->starved_ns = 0;
    size_t room = intake->capacity - intake->end, size = 0;
    if (is_now) {
        enum weir_error error = sp_pipe_receive_now(connection->pipe, intake->data + intake->end, room, &size);
        if (error == WEIR_OK) {
            intake_take(connection, size, room);
            return true;
        }
        if (error != WEIR_AGAIN)
            return false;
    }
    intake->posted = (uint32_t)room;
    sp_pipe_receive(connection->pipe, intake->data + intake->end, room);
    return false;
}

static bool intake_is_partial(const struct connection *connection)
{
    return connection->intake.start != connection->intake.end && intake_is_open(connection);
}

static void intake_watch(struct connection *connection)
{
    if (connection->intake.is_partial_armed || !intake_is_partial(connection))
        return;
    connection->intake.is_partial_armed = true;
    connection_timer(connection, TIMER_PARTIAL, INTAKE_PARTIAL_MS, false);
}

void intake_on_partial(struct connection *connection)
{
    connection->intake.is_partial_armed = false;
    uint64_t silent_ns = turn_now_ns(connection->turn) - connection->heard_ns;
    if (intake_is_partial(connection) && silent_ns >= INTAKE_PARTIAL_MS * NS_PER_MS - NS_PER_S)
        connection_refuse(connection, REFUSAL_IDLE, WEIR_TIMEOUT, "a message was begun and not ended");
    else
        intake_watch(connection);
}

/* What a finishing connection still receives is thrown away, so that the peer can read what it was sent last: a socket
 * closed with bytes unread answers with a reset, which takes what is under way with it. */
static void intake_discard(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    intake->start = intake->end;
    intake->ahead_count = 0;
    (void)intake_receive(connection, false);
}

/* Many topics have been handed something: they run before more is taken apart, or what one passes to the next would be
 * in no cache by then. A wake-up, behind the answers that came before it, goes on here. */
static bool intake_yields(struct connection *connection)
{
    if (!connection->publisher.is_round_over || !intake_is_open(connection))
        return false;
    struct message wake = {.tag = CONNECTION_WAKE};
    connection->intake.is_yielding = turn_control(connection->turn, connection->actor, &wake) == WEIR_OK;
    return connection->intake.is_yielding;
}

void intake_run(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    for (int i = 0;; i++) {
        intake_parse(connection);
        if (intake_yields(connection))
            return;
        if (intake->posted > 0 || connection->is_closing || connection->is_gone)
            return;
        if (connection->is_finishing) {
            intake_discard(connection);
            return;
        }
        if (connection->paused != 0)
            return;
        /* Only a read that filled its room promises more at once. */
        bool is_now = intake->is_full && i < RECEIVES_PER_RUN;
        if (!intake_receive(connection, is_now)) {
            intake_watch(connection);
            return;
        }
    }
}

void intake_start(struct connection *connection)
{
    connection->intake.next_class = INTAKE_BLOCK_MIN;
    if (connection->intake.body_max == 0)
        connection->intake.body_max = connection->config->message_size_max;
    intake_run(connection);
}

void intake_fini(struct connection *connection)
{
    arena_drop(connection->arena, connection->intake.block);
    connection->intake = (struct intake){.start = 0};
}
