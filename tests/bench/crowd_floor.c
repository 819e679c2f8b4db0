/* The floor under `weir-actors-bench big`: the same messages between the same receivers in the same order, on structs
 * of the same cache lines (two of control, one of state, one a message), with nothing around them: one thread, no
 * atomics, no bounds, no handles. What is left is mostly the wait for memory. A program for people.
 *
 *   crowd_floor ACTORS PINGS [pages [ahead]]   pages=1: of 2 MiB; ahead=1: turns to come are fetched ahead */
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "actors/base/clock.h"

enum { PAGE_SIZE = 2 << 20, TURN_MAX = 128, PING = 0, PONG = 1 };

struct letter {
    alignas(64) uint32_t next;
    uint32_t tag, from;
    uint64_t words[6];
};

struct talker {
    alignas(64) uint32_t waiting; /* letters, those of this turn included */
    uint32_t first, last;
    alignas(64) uint64_t handled;
    alignas(64) uint64_t random;
    uint64_t left, received;
};

static struct talker *talkers;
static struct letter *letters;
static uint32_t letter_free;
static uint32_t *queue; /* a ring */
static uint64_t queue_mask, queue_head, queue_tail;
static bool is_ahead;

/* Zeroed; never given back. */
static void *map(size_t size, bool has_pages)
{
    char *memory = mmap(NULL, size + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("crowd_floor");
        exit(1);
    }
    memory += -(uintptr_t)memory % PAGE_SIZE;
    if (has_pages)
        (void)madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static void push(uint32_t to, uint32_t from, uint32_t tag)
{
    struct talker *talker = &talkers[to];
    uint32_t index = letter_free;
    struct letter *letter = &letters[index];
    letter_free = letter->next;
    *letter = (struct letter){.tag = tag, .from = from, .words = {from}};
    if (talker->first)
        letters[talker->last].next = index;
    else
        talker->first = index;
    talker->last = index;
    if (talker->waiting++ == 0)
        queue[queue_tail++ & queue_mask] = to;
}

static void fetch_ahead(void)
{
    const struct talker *far = &talkers[queue[(queue_head + 3) & queue_mask]];
    __builtin_prefetch(far);
    __builtin_prefetch(&far->handled);
    __builtin_prefetch(&far->random);
    __builtin_prefetch(&letters[talkers[queue[(queue_head + 1) & queue_mask]].first]);
}

static void handle(uint32_t self, const struct letter *letter, uint64_t count)
{
    struct talker *talker = &talkers[self];
    if (letter->tag == PING) {
        talker->received++;
        push(letter->from, self, PONG);
    } else if (talker->left > 0) {
        talker->left--;
        talker->random = (talker->random * 1309 + 13849) & 65535;
        push((uint32_t)((talker->random >> 4) % count), self, PING);
    }
}

/* One turn; returns the messages handled. */
static uint64_t turn(uint64_t count)
{
    uint32_t self = queue[queue_head++ & queue_mask], handled = 0, index;
    struct talker *talker = &talkers[self];
    if (is_ahead)
        fetch_ahead();
    for (; handled < TURN_MAX && (index = talker->first) != 0; handled++) {
        struct letter letter = letters[index];
        talker->first = letter.next;
        letters[index].next = letter_free;
        letter_free = index;
        handle(self, &letter, count);
    }
    talker->handled += handled;
    talker->waiting -= handled;
    if (talker->waiting > 0)
        queue[queue_tail++ & queue_mask] = self;
    return handled;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000,
             pings = argc > 2 ? strtoull(argv[2], NULL, 10) : 6;
    bool has_pages = argc > 3 && *argv[3] == '1';
    is_ahead = argc > 4 && *argv[4] == '1';
    if (count < 1 || count > UINT32_MAX / 2 || pings < 3) {
        fputs("usage: crowd_floor ACTORS PINGS(3 or more) [0|1: pages of 2 MiB [0|1: fetch ahead]]\n", stderr);
        return 2;
    }
    talkers = map(count * sizeof *talkers, has_pages);
    letters = map((count + 2) * sizeof *letters, has_pages);
    for (queue_mask = 1; queue_mask < count + 1; queue_mask *= 2)
        continue;
    queue = map(queue_mask-- * sizeof *queue, has_pages);
    for (uint32_t i = 1; i <= count; i++)
        letters[i].next = i < count ? i + 1 : 0;
    letter_free = 1;
    for (uint32_t i = 0; i < count; i++) {
        talkers[i].random = i;
        talkers[i].left = pings;
        push(i, 0, PONG);
    }
    /* As the bench's warm figure: from a third of the way on. */
    uint64_t messages = 0, warm = 2 * count * pings / 3, warm_messages = 0, cpu = 0;
    while (queue_head != queue_tail) {
        messages += turn(count);
        if (cpu == 0 && messages >= warm) {
            cpu = clock_cpu_ns();
            warm_messages = messages;
        }
    }
    printf("%.1f ns of processor time a message (%llu messages, %llu warm)\n",
           (double)(clock_cpu_ns() - cpu) / (double)(messages - warm_messages), (unsigned long long)messages,
           (unsigned long long)(messages - warm_messages));
    return 0;
}
