/* Handshakes under way on accepted connections. Everything but create and destroy runs on the listener's poller, so
 * that nothing here needs a lock. The deadline is one for the whole handshake: a peer that drips bytes gains nothing.
 */
#include "clients/sp/handshake.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDSHAKES_MAGIC 0x48534b53u

struct slot {
    struct sp_source source;
    struct sp_handshakes *pool;
    int descriptor;     /* -1: the slot is free */
    struct slot *next;  /* in the free list, or the next younger handshake */
    struct slot *older; /* NULL: the oldest */
    uint64_t deadline_ns;
    size_t done; /* bytes of the header received or sent */
    uint16_t peer_protocol;
    bool is_answering;
    uint8_t header[SP_HEADER_SIZE];
    struct sp_peer peer;
};

struct sp_handshakes {
    uint32_t magic;
    struct sp_poller *poller;
    uint64_t timeout_ns;
    struct sp_handshake_handlers handlers;
    void *owner;
    struct sp_alarm watch; /* the oldest handshake's deadline */
    struct slot *free, *oldest, *youngest;
    size_t slots_count;
    struct slot slots[];
};

static void slot_fail(struct slot *slot, enum weir_error error, const char *reason);
static void on_slot_events(struct sp_source *source, uint32_t events);

static void watch_arm(struct sp_handshakes *pool)
{
    if (pool->oldest != NULL)
        sp_alarm_set(pool->poller, &pool->watch, pool->oldest->deadline_ns);
    else
        sp_alarm_clear(pool->poller, &pool->watch);
}

static void on_watch(struct sp_alarm *alarm)
{
    struct sp_handshakes *pool = CONTAINER_OF(alarm, struct sp_handshakes, watch);
    while (pool->oldest != NULL && sp_time_left_ms(pool->oldest->deadline_ns) == 0)
        slot_fail(pool->oldest, WEIR_TIMEOUT, "the handshake took too long");
    watch_arm(pool);
}

enum weir_error sp_handshakes_create(struct sp_poller *poller, size_t handshaking_max, uint64_t timeout_ms,
                                     const struct sp_handshake_handlers *handlers, void *owner,
                                     struct sp_handshakes **out)
{
    REQUIRE(handshaking_max > 0 && timeout_ms > 0);
    struct sp_handshakes *pool = calloc(1, sizeof *pool + handshaking_max * sizeof pool->slots[0]);
    if (!pool)
        return WEIR_NO_MEMORY;
    pool->magic = HANDSHAKES_MAGIC;
    pool->poller = poller;
    pool->timeout_ns = timeout_ms * NS_PER_MS;
    pool->handlers = *handlers;
    pool->owner = owner;
    pool->watch.run = on_watch;
    pool->slots_count = handshaking_max;
    for (size_t i = handshaking_max; i-- > 0;) {
        pool->slots[i] = (struct slot){.source.on_events = on_slot_events, .pool = pool, .descriptor = -1};
        pool->slots[i].next = pool->free;
        pool->free = &pool->slots[i];
    }
    *out = pool;
    return WEIR_OK;
}

void sp_handshakes_destroy(struct sp_handshakes **pool_pointer)
{
    struct sp_handshakes *pool = *pool_pointer;
    if (!pool)
        return;
    MAGIC_CHECK(pool, HANDSHAKES_MAGIC);
    REQUIRE(pool->oldest == NULL);
    *pool_pointer = NULL;
    pool->magic = 0;
    free(pool);
}

static struct slot *slot_take(struct sp_handshakes *pool)
{
    /* The handshake that has taken longest is the likeliest to be an idler's, so it makes room: strangers that only
     * connect cannot keep newcomers out. */
    if (pool->free == NULL)
        slot_fail(pool->oldest, WEIR_FULL, "too many connections are in the handshake");
    struct slot *slot = pool->free;
    INVARIANT(slot != NULL);
    pool->free = slot->next;
    slot->deadline_ns = clock_now_ns() + pool->timeout_ns;
    slot->next = NULL;
    slot->older = pool->youngest;
    if (slot->older)
        slot->older->next = slot;
    else
        pool->oldest = slot;
    pool->youngest = slot;
    if (pool->oldest == slot)
        watch_arm(pool);
    return slot;
}

/* The next deadline's alarm, where it was this one's, comes early and finds nothing: cheaper than setting it again for
 * each handshake. */
static void slot_give_back(struct slot *slot)
{
    struct sp_handshakes *pool = slot->pool;
    if (slot->older)
        slot->older->next = slot->next;
    else
        pool->oldest = slot->next;
    if (slot->next)
        slot->next->older = slot->older;
    else
        pool->youngest = slot->older;
    slot->descriptor = -1;
    slot->next = pool->free;
    pool->free = slot;
}

static void slot_fail(struct slot *slot, enum weir_error error, const char *reason)
{
    struct sp_peer peer = slot->peer;
    struct sp_handshakes *pool = slot->pool;
    close(slot->descriptor); /* which ends its watch, too */
    slot_give_back(slot);
    pool->handlers.on_failed(pool->owner, &peer, error, reason);
}

static void slot_succeed(struct slot *slot)
{
    struct sp_handshakes *pool = slot->pool;
    struct sp_pipe *pipe = NULL;
    sp_poller_forget(pool->poller, slot->descriptor);
    if (sp_pipe_create(slot->descriptor, &slot->peer, slot->peer_protocol, &pipe)) {
        slot_fail(slot, WEIR_NO_MEMORY, "no memory for the connection");
        return;
    }
    slot_give_back(slot);
    pool->handlers.on_done(pool->owner, pipe);
}

/* True when our answer may be sent. */
static bool slot_answer(struct slot *slot)
{
    enum sp_protocol answer;
    if (sp_header_read(slot->header, &slot->peer_protocol)) {
        slot_fail(slot, WEIR_PROTOCOL, "the first 8 bytes are not the header of an SP protocol");
        return false;
    }
    if (sp_protocol_answer(slot->peer_protocol, &answer)) {
        slot_fail(slot, WEIR_PROTOCOL, "only push0, req0, pair0 and sub0 sockets are served");
        return false;
    }
    sp_header_write(slot->header, answer);
    slot->is_answering = true;
    slot->done = 0;
    return true;
}

/* Receives or sends what is left of the header: 1 when that is done, 0 to wait, -1 when it failed. */
static int slot_move(struct slot *slot)
{
    while (slot->done < SP_HEADER_SIZE) {
        uint8_t *at = slot->header + slot->done;
        size_t left = SP_HEADER_SIZE - slot->done;
        ssize_t moved = slot->is_answering ? send(slot->descriptor, at, left, MSG_NOSIGNAL | MSG_DONTWAIT)
                                           : recv(slot->descriptor, at, left, MSG_DONTWAIT);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved < 0 && errno == EAGAIN)
            return 0;
        if (moved <= 0) {
            enum weir_error error = moved == 0 ? WEIR_CLOSED : sp_errno_error(errno);
            slot_fail(slot, error, moved == 0 ? sp_errno_reason(ECONNRESET) : sp_errno_reason(errno));
            return -1;
        }
        slot->done += (size_t)moved;
    }
    return 1;
}

static void slot_step(struct slot *slot)
{
    int moved = slot_move(slot);
    if (moved == 1 && !slot->is_answering) {
        if (!slot_answer(slot))
            return;
        moved = slot_move(slot);
        if (moved == 0)
            sp_poller_change(slot->pool->poller, slot->descriptor, EPOLLOUT, &slot->source);
    }
    if (moved == 1)
        slot_succeed(slot);
}

static void on_slot_events(struct sp_source *source, uint32_t events)
{
    struct slot *slot = CONTAINER_OF(source, struct slot, source);
    (void)events;
    if (slot->descriptor >= 0) /* else it failed for another one's sake, in the same batch */
        slot_step(slot);
}

void sp_handshakes_start(struct sp_handshakes *pool, int descriptor, const struct sp_peer *peer)
{
    struct slot *slot = slot_take(pool);
    slot->descriptor = descriptor;
    slot->peer = *peer;
    slot->done = 0;
    slot->is_answering = false;
    if (sp_poller_watch(pool->poller, descriptor, EPOLLIN, &slot->source))
        slot_fail(slot, WEIR_NO_MEMORY, "no memory for a handshake");
}

void sp_handshakes_stop(struct sp_handshakes *pool)
{
    MAGIC_CHECK(pool, HANDSHAKES_MAGIC);
    while (pool->oldest != NULL)
        slot_fail(pool->oldest, WEIR_CLOSED, "the listener stops");
    sp_alarm_clear(pool->poller, &pool->watch);
}
