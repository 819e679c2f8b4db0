/* Handshakes under way on accepted connections. Started by the listener's accept callback and moved on by nng's
 * threads, each slot by one at a time.
 *
 * No aio on a stream has a timeout of nng's: its expiry thread may call into a stream that the aio's callback has freed
 * meanwhile (nng 1.5.2 aborts the process then). Deadlines are kept by an aio that only sleeps, and it and evictions
 * cancel under the pool's lock, which each callback passes once before it goes on.
 *
 * A slot's aio lives as long as the pool, because an aio may not be freed from its own callback; a slot is given back
 * as the last act of that callback, and nng itself lets an aio begin again while its callback returns. */
#include "clients/sp/handshake.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define HANDSHAKES_MAGIC 0x48534b53u
#define WATCH_AGAIN_MS 5

struct slot {
    struct sp_handshakes *pool;
    nng_aio *aio;       /* NULL until the slot is first used */
    nng_stream *stream; /* NULL while the slot is free */
    struct slot *next;  /* under the pool's lock: in the free list, or the next younger handshake */
    struct slot *older; /* under the pool's lock */
    uint64_t deadline_ns;
    size_t done; /* bytes of the header received or sent */
    uint16_t peer_protocol;
    bool is_answering;
    atomic_bool is_evicted; /* relaxed: read after the cancel that follows it, or else a little late, which is fine */
    uint8_t header[SP_HEADER_SIZE];
    struct sp_peer peer;
};

struct sp_handshakes {
    uint32_t magic;
    uint64_t timeout_ns;
    struct sp_handshake_handlers handlers;
    void *owner;
    size_t handshaking_max;
    size_t slots_count;
    pthread_mutex_t lock; /* guards what follows */
    size_t handshaking_count;
    nng_aio *watch; /* sleeps until the oldest handshake's deadline */
    bool is_watching;
    bool is_stopping;
    struct slot *free;
    struct slot *oldest;
    struct slot *youngest;
    struct slot slots[];
};

/* Evicted handshakes end on another thread, a moment later: until then they hold a slot beyond the bound. */
static size_t slots_spare(size_t handshaking_max) { return handshaking_max / 8 + 1; }

/* Under the lock. */
static void watch_arm(struct sp_handshakes *pool)
{
    if (pool->is_watching || pool->is_stopping || pool->oldest == NULL)
        return;
    nng_duration left_ms = sp_time_left_ms(pool->oldest->deadline_ns);
    pool->is_watching = true;
    /* One that is late already ends a moment from now: its callback is on its way. */
    nng_sleep_aio(left_ms > WATCH_AGAIN_MS ? left_ms : WATCH_AGAIN_MS, pool->watch);
}

/* Cancels what is beyond its deadline: its callback then sees the clock. */
static void on_watch(void *argument)
{
    struct sp_handshakes *pool = argument;
    pthread_mutex_lock(&pool->lock);
    pool->is_watching = false;
    for (struct slot *slot = pool->oldest; slot && sp_time_left_ms(slot->deadline_ns) == 0; slot = slot->next) {
        if (slot->aio)
            nng_aio_cancel(slot->aio);
    }
    watch_arm(pool);
    pthread_mutex_unlock(&pool->lock);
}

enum weir_error sp_handshakes_create(size_t handshaking_max, uint64_t timeout_ms,
                                     const struct sp_handshake_handlers *handlers, void *owner,
                                     struct sp_handshakes **out)
{
    REQUIRE(handshaking_max > 0 && timeout_ms > 0);
    size_t slots_count = handshaking_max + slots_spare(handshaking_max);
    struct sp_handshakes *pool = calloc(1, sizeof *pool + slots_count * sizeof pool->slots[0]);
    if (!pool)
        return WEIR_NO_MEMORY;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return WEIR_NO_MEMORY;
    }
    if (nng_aio_alloc(&pool->watch, on_watch, pool) != 0) {
        pthread_mutex_destroy(&pool->lock);
        free(pool);
        return WEIR_NO_MEMORY;
    }
    pool->magic = HANDSHAKES_MAGIC;
    pool->timeout_ns = timeout_ms * NS_PER_MS;
    pool->handlers = *handlers;
    pool->owner = owner;
    pool->handshaking_max = handshaking_max;
    pool->slots_count = slots_count;
    for (size_t i = slots_count; i-- > 0;) {
        pool->slots[i].pool = pool;
        atomic_init(&pool->slots[i].is_evicted, false);
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
    *pool_pointer = NULL;
    for (size_t i = 0; i < pool->slots_count; i++) {
        REQUIRE(pool->slots[i].stream == NULL);
        nng_aio_free(pool->slots[i].aio);
    }
    nng_aio_free(pool->watch);
    pthread_mutex_destroy(&pool->lock);
    pool->magic = 0;
    free(pool);
}

/* The handshake that has taken longest is the likeliest to be an idler's, so it makes room: strangers that only connect
 * cannot keep newcomers out. Under the lock; canceling only queues the callback. */
static void oldest_evict(struct sp_handshakes *pool)
{
    struct slot *slot = pool->oldest;
    while (slot && atomic_load_explicit(&slot->is_evicted, memory_order_relaxed))
        slot = slot->next;
    if (!slot || !slot->aio)
        return;
    atomic_store_explicit(&slot->is_evicted, true, memory_order_relaxed);
    nng_aio_cancel(slot->aio);
}

static struct slot *slot_take(struct sp_handshakes *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct slot *slot = pool->free;
    if (pool->handshaking_count >= pool->handshaking_max)
        oldest_evict(pool);
    if (slot) {
        pool->free = slot->next;
        pool->handshaking_count++;
        slot->deadline_ns = clock_now_ns() + pool->timeout_ns;
        slot->next = NULL;
        slot->older = pool->youngest;
        if (slot->older)
            slot->older->next = slot;
        else
            pool->oldest = slot;
        pool->youngest = slot;
        watch_arm(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return slot;
}

/* The slot may be in other hands as soon as this returns. */
static void slot_give_back(struct slot *slot)
{
    struct sp_handshakes *pool = slot->pool;
    pthread_mutex_lock(&pool->lock);
    if (slot->older)
        slot->older->next = slot->next;
    else
        pool->oldest = slot->next;
    if (slot->next)
        slot->next->older = slot->older;
    else
        pool->youngest = slot->older;
    pool->handshaking_count--;
    slot->stream = NULL;
    atomic_store_explicit(&slot->is_evicted, false, memory_order_relaxed);
    slot->next = pool->free;
    pool->free = slot;
    pthread_mutex_unlock(&pool->lock);
}

static void slot_fail(struct slot *slot, enum weir_error error, const char *reason)
{
    sp_stream_drop(slot->stream);
    slot->pool->handlers.on_failed(slot->pool->owner, &slot->peer, error, reason);
    slot_give_back(slot);
}

static void slot_succeed(struct slot *slot)
{
    struct sp_pipe *pipe = NULL;
    if (sp_pipe_create(slot->stream, &slot->peer, slot->peer_protocol, &pipe)) {
        slot_fail(slot, WEIR_NO_MEMORY, "no memory for the connection");
        return;
    }
    slot->pool->handlers.on_done(slot->pool->owner, pipe);
    slot_give_back(slot);
}

/* Receives or sends what is left of the header, within what is left of the time: the deadline is one for the whole
 * handshake, so a peer that drips bytes gains nothing. */
static void slot_step(struct slot *slot)
{
    if (atomic_load_explicit(&slot->is_evicted, memory_order_relaxed)) {
        slot_fail(slot, WEIR_FULL, "too many connections are in the handshake");
        return;
    }
    if (sp_time_left_ms(slot->deadline_ns) == 0) {
        slot_fail(slot, WEIR_TIMEOUT, "the handshake took too long");
        return;
    }
    nng_iov part = {.iov_buf = slot->header + slot->done, .iov_len = SP_HEADER_SIZE - slot->done};
    nng_aio_set_timeout(slot->aio, NNG_DURATION_INFINITE);
    int failed = nng_aio_set_iov(slot->aio, 1, &part);
    ENSURE(failed == 0);
    if (slot->is_answering)
        nng_stream_send(slot->stream, slot->aio);
    else
        nng_stream_recv(slot->stream, slot->aio);
}

static void slot_answer(struct slot *slot)
{
    enum sp_protocol answer;
    if (sp_header_read(slot->header, &slot->peer_protocol)) {
        slot_fail(slot, WEIR_PROTOCOL, "the first 8 bytes are not the header of an SP protocol");
        return;
    }
    if (sp_protocol_answer(slot->peer_protocol, &answer)) {
        slot_fail(slot, WEIR_PROTOCOL, "only push0, req0, pair0 and sub0 sockets are served");
        return;
    }
    sp_header_write(slot->header, answer);
    slot->is_answering = true;
    slot->done = 0;
    slot_step(slot);
}

static void slot_moved(void *argument)
{
    struct slot *slot = argument;
    struct sp_handshakes *pool = slot->pool;
    int code = nng_aio_result(slot->aio);
    /* Whoever cancels holds the lock: behind it nobody is inside the stream any more. */
    pthread_mutex_lock(&pool->lock);
    bool is_stopping = pool->is_stopping;
    pthread_mutex_unlock(&pool->lock);
    if (is_stopping) {
        slot_fail(slot, WEIR_CLOSED, "the listener stops");
        return;
    }
    if (code == NNG_ECANCELED) { /* evicted, too late, or meant for what the slot did before */
        slot_step(slot);
        return;
    }
    if (code != 0) {
        slot_fail(slot, WEIR_CLOSED, "the connection ended in the handshake");
        return;
    }
    slot->done += nng_aio_count(slot->aio);
    if (slot->done < SP_HEADER_SIZE)
        slot_step(slot);
    else if (slot->is_answering)
        slot_succeed(slot);
    else
        slot_answer(slot);
}

/* Gives the slot its aio, once; others look at it under the lock. */
static bool slot_ready(struct slot *slot)
{
    nng_aio *aio = NULL;
    if (slot->aio)
        return true;
    if (nng_aio_alloc(&aio, slot_moved, slot) != 0)
        return false;
    pthread_mutex_lock(&slot->pool->lock);
    slot->aio = aio;
    pthread_mutex_unlock(&slot->pool->lock);
    return true;
}

void sp_handshakes_start(struct sp_handshakes *pool, nng_stream *stream, const struct sp_peer *peer)
{
    MAGIC_CHECK(pool, HANDSHAKES_MAGIC);
    struct slot *slot = slot_take(pool);
    if (!slot) {
        sp_stream_drop(stream);
        pool->handlers.on_failed(pool->owner, peer, WEIR_FULL, "too many connections are in the handshake");
        return;
    }
    slot->stream = stream;
    slot->peer = *peer;
    slot->done = 0;
    slot->is_answering = false;
    if (!slot_ready(slot)) {
        slot_fail(slot, WEIR_NO_MEMORY, "no memory for a handshake");
        return;
    }
    slot_step(slot);
}

void sp_handshakes_stop(struct sp_handshakes *pool)
{
    MAGIC_CHECK(pool, HANDSHAKES_MAGIC);
    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    for (struct slot *slot = pool->oldest; slot; slot = slot->next) {
        if (slot->aio)
            nng_aio_cancel(slot->aio);
    }
    pthread_mutex_unlock(&pool->lock);
    nng_aio_stop(pool->watch);
    for (size_t i = 0; i < pool->slots_count; i++) {
        struct slot *slot = &pool->slots[i];
        if (!slot->aio)
            continue;
        nng_aio_wait(slot->aio);
        nng_aio_stop(slot->aio);
        /* Left over when the callback wanted to go on with an aio that had just been stopped. */
        if (slot->stream)
            slot_fail(slot, WEIR_CLOSED, "the listener stops");
    }
}
