/* Byte rings between two processes; channel.h has the rules. */
#include "actors/plugin/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/base/assert.h"

/* The words have pages of their own in front of the data. */
#define CHANNEL_WORDS_BYTES 4096

enum weir_error channel_half_create(uint32_t size, int *fd)
{
    REQUIRE(size >= CHANNEL_BYTES_MIN && size <= CHANNEL_BYTES_MAX && (size & (size - 1)) == 0);
    *fd = memfd_create("weir-plugin-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return errno == ENOMEM ? WEIR_NO_MEMORY : WEIR_IO;
    /* Allocated now: a page that is missing when the machine has none left would be a SIGBUS for whoever reads it. */
    int error = posix_fallocate(*fd, 0, CHANNEL_WORDS_BYTES + (off_t)size);
    if (error == 0 && fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        return WEIR_OK;
    close(*fd);
    *fd = -1;
    return error == ENOMEM || error == ENOSPC ? WEIR_NO_MEMORY : WEIR_IO;
}

enum weir_error channel_half_seal(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ? WEIR_OK : WEIR_IO;
}

/* The words, then the data twice. */
static void *half_map(int fd, uint32_t size, int protection)
{
    size_t whole = CHANNEL_WORDS_BYTES + 2 * (size_t)size;
    uint8_t *base = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    uint8_t *first = mmap(base, CHANNEL_WORDS_BYTES + (size_t)size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    uint8_t *second =
        mmap(base + CHANNEL_WORDS_BYTES + size, size, protection, MAP_SHARED | MAP_FIXED, fd, CHANNEL_WORDS_BYTES);
    if (first != MAP_FAILED && second != MAP_FAILED)
        return base;
    munmap(base, whole);
    return NULL;
}

static void half_unmap(const void *base, uint64_t size)
{
    union {
        const void *read;
        void *write;
    } pointer = {base};
    if (base != NULL)
        munmap(pointer.write, CHANNEL_WORDS_BYTES + 2 * (size_t)size);
}

enum weir_error channel_map(struct channel *ring, int own_fd, int other_fd, uint32_t size)
{
    uint8_t *own = half_map(own_fd, size, PROT_READ | PROT_WRITE);
    const uint8_t *other = half_map(other_fd, size, PROT_READ);
    *ring = (struct channel){.own = (struct channel_words *)(void *)own,
                             .other = (const struct channel_words *)(const void *)other,
                             .size = size};
    if (own == NULL || other == NULL) {
        channel_unmap(ring);
        return WEIR_NO_MEMORY;
    }
    ring->own_data = own + CHANNEL_WORDS_BYTES;
    ring->other_data = other + CHANNEL_WORDS_BYTES;
    return WEIR_OK;
}

void channel_unmap(struct channel *ring)
{
    half_unmap(ring->own, ring->size);
    half_unmap(ring->other, ring->size);
    *ring = (struct channel){.fault = "it is closed"};
}

/* ------------------------------------------------------------------------------------- producing */

uint64_t channel_room(struct channel *ring, uint64_t wanted)
{
    uint64_t room = ring->size - (ring->written - ring->other_head);
    if (room >= wanted || ring->fault != NULL)
        return ring->fault == NULL ? room : 0;
    /* Pairs with the release in channel_consume: what it has read there we may write over. Rule 4, after a want. */
    uint64_t head = atomic_load_explicit(&ring->other->head, memory_order_seq_cst);
    if (head < ring->other_head || head > ring->written) {
        ring->fault = "its reading position is impossible";
        return 0;
    }
    ring->other_head = head;
    return ring->size - (ring->written - head);
}

uint8_t *channel_reserve(struct channel *ring, uint32_t size)
{
    uint64_t bytes = channel_frame_bytes(size);
    if (channel_room(ring, bytes) < bytes)
        return NULL;
    return ring->own_data + (ring->written & (ring->size - 1)) + sizeof(struct channel_frame);
}

void channel_commit(struct channel *ring, uint32_t size, uint32_t flags)
{
    struct channel_frame frame = {size, flags};
    memcpy(ring->own_data + (ring->written & (ring->size - 1)), &frame, sizeof frame);
    ring->written += channel_frame_bytes(size);
}

void channel_publish(struct channel *ring)
{
    /* Pairs with the acquire in channel_waiting: the frames are there before the tail says so. */
    atomic_store_explicit(&ring->own->tail, ring->written, memory_order_release);
}

/* ------------------------------------------------------------------------------------- consuming */

uint64_t channel_waiting(struct channel *ring)
{
    if (ring->fault != NULL)
        return 0;
    /* Pairs with the release in channel_publish. Rule 4, after a want. */
    uint64_t tail = atomic_load_explicit(&ring->other->tail, memory_order_seq_cst);
    if (tail < ring->other_tail || tail - ring->read > ring->size || (tail & 7) != 0) {
        ring->fault = "its writing position is impossible";
        return 0;
    }
    ring->other_tail = tail;
    return tail - ring->read;
}

bool channel_peek(struct channel *ring, struct channel_frame *frame, const uint8_t **data)
{
    if (ring->fault != NULL || (ring->other_tail == ring->read && channel_waiting(ring) == 0))
        return false;
    const uint8_t *place = ring->other_data + (ring->read & (ring->size - 1));
    /* One load: the other side may change these bytes at any time, and what was checked must be what is used. */
    uint64_t word = atomic_load_explicit((const _Atomic uint64_t *)(const void *)place, memory_order_relaxed);
    memcpy(frame, &word, sizeof *frame);
    if (channel_frame_bytes(frame->size) > ring->other_tail - ring->read || (frame->flags & ~CHANNEL_FRAME_MORE) != 0) {
        ring->fault = "a frame is longer than what was written";
        return false;
    }
    *data = place + sizeof *frame;
    return true;
}

void channel_consume(struct channel *ring, const struct channel_frame *frame)
{
    ring->read += channel_frame_bytes(frame->size);
    INVARIANT(ring->read <= ring->other_tail);
    /* Pairs with the acquire in channel_room. */
    atomic_store_explicit(&ring->own->head, ring->read, memory_order_release);
}

/* -------------------------------------------------------------------------------- sleeping, waking */

void channel_want(struct channel *ring)
{
    uint32_t wants = atomic_load_explicit(&ring->own->wants, memory_order_relaxed);
    /* Rule 4: before the last look at the other's positions. */
    atomic_store_explicit(&ring->own->wants, wants + 1, memory_order_seq_cst);
}

void channel_want_room(struct channel *ring)
{
    uint32_t rooms = atomic_load_explicit(&ring->own->rooms, memory_order_relaxed);
    atomic_store_explicit(&ring->own->rooms, rooms + 1, memory_order_seq_cst);
    channel_want(ring);
}

bool channel_must_wake_for_room(struct channel *ring)
{
    atomic_store_explicit(&ring->own->head, ring->read, memory_order_seq_cst);
    uint32_t rooms = atomic_load_explicit(&ring->other->rooms, memory_order_seq_cst);
    if (rooms == ring->made)
        return false;
    ring->made = rooms;
    return true;
}

bool channel_must_wake(struct channel *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->own->tail, memory_order_relaxed);
    /* Rule 5: there is nothing new to wake it for. */
    if (tail == ring->told_tail && ring->read == ring->told_head)
        return false;
    ring->told_tail = tail;
    ring->told_head = ring->read;
    /* Rule 4: behind the positions, which are stored once more: to do so each time that one changes would cost more
     * than once for many. */
    atomic_store_explicit(&ring->own->tail, tail, memory_order_seq_cst);
    atomic_store_explicit(&ring->own->head, ring->read, memory_order_seq_cst);
    uint32_t wants = atomic_load_explicit(&ring->other->wants, memory_order_seq_cst);
    if (wants == ring->woken)
        return false;
    ring->woken = wants;
    return true;
}

bool channel_has_moved(const struct channel *ring, struct channel_moved *seen)
{
    uint64_t tail = atomic_load_explicit(&ring->other->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->other->head, memory_order_acquire);
    /* Behind the load of head: what a child has read was published before. */
    uint64_t published = atomic_load_explicit(&ring->own->tail, memory_order_relaxed);
    bool has_written = tail > seen->tail, has_read = head > seen->head && head <= published;
    if (has_written)
        seen->tail = tail;
    if (has_read)
        seen->head = head;
    return has_written || has_read;
}

uint32_t channel_bell(const struct channel *ring)
{
    return atomic_load_explicit(&ring->other->bell, memory_order_seq_cst);
}

void channel_sleep(struct channel *ring, uint32_t seen)
{
    syscall(SYS_futex, &ring->other->bell, FUTEX_WAIT, seen, NULL, NULL, 0);
}

void channel_wake(struct channel *ring)
{
    /* Behind the wants that it answers; who is about to sleep with the old value is refused by the kernel. */
    atomic_fetch_add_explicit(&ring->own->bell, 1, memory_order_seq_cst);
    syscall(SYS_futex, &ring->own->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}
