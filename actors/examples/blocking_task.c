/* Blocking task: work that waits for a disk, a name server or a clock runs on the pool for such work, never on a
 * worker, and its result comes back as a message. Here a reader actor reads this program's own file in pieces, with
 * more pieces than the pool's queue takes, while another actor goes on being served by the same workers.
 *
 *   reader --blocking_run(job)--> pool thread: pread into the job's block --MESSAGE_TASK {status, number}--> reader
 *
 * Who owns what: a job is a block with two references, the reader's and the task's. The task gives its own back when it
 * is done, the reader when it has read the result, or in on_stop. So neither has to know whether the other is still
 * there: the bytes outlive a reader that was stopped meanwhile. The pool's queue is bounded: refused with WEIR_FULL,
 * the reader goes on when a result comes in.
 *
 *   blocking_task [PIECES] */
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "actors/examples/example.h"

enum { TAG_GO = 1, TAG_BEAT };
enum { PIECE_SIZE = 4096, JOBS_MAX = 4096, POOL = 4, DISK_NS = 50000 };

/* A block of the arena. Written by the reader, then by the pool's thread, then read by the reader: the queue and the
 * message pass it on. */
struct job {
    struct arena *arena;
    weir_msg self;
    uint64_t offset, size;
    unsigned char bytes[PIECE_SIZE];
};

/* Written by main before the actors that use them are spawned. */
static int file; /* open as long as the pool may read it: longer than any actor */
static uint64_t file_size, pieces;
static long disk_ns;

static _Atomic bool is_over;
static _Atomic uint64_t beats;

/* ---------------------------------------------------------------------------------------------- on the pool */

/* Any thread of the pool. The pause stands for a disk that is slower than the page cache. */
static uint64_t job_work(void *argument)
{
    struct job *job = argument;
    if (disk_ns)
        nanosleep(&(struct timespec){.tv_nsec = disk_ns}, NULL);
    ssize_t size = pread(file, job->bytes, PIECE_SIZE, (off_t)job->offset);
    job->size = size > 0 ? (uint64_t)size : 0;
    enum weir_error error = size < 0 ? WEIR_IO : WEIR_OK;
    arena_drop(job->arena, job->self); /* the task's reference; job may be gone from here on */
    return error;
}

/* ---------------------------------------------------------------------------------------------- the reader */

struct reader {
    uint64_t started, done, refused, bytes;
};

static weir_msg jobs[JOBS_MAX]; /* the reader's references, by piece modulo JOBS_MAX; its turns only */
static struct reader outcome;   /* written in the reader's last turn, read by main after it */

static enum weir_error reader_start(struct turn *turn, void *state, const void *args)
{
    (void)state;
    (void)args;
    return turn_send(turn, turn_self(turn), &(struct message){.tag = TAG_GO});
}

static enum weir_error job_start(struct turn *turn, struct reader *self)
{
    struct arena *arena = turn_arena(turn);
    weir_msg block;
    enum weir_error error = arena_alloc(arena, sizeof(struct job), turn_budget(turn), &block);
    if (error)
        return error;
    struct job *job = arena_data(arena, block);
    job->arena = arena;
    job->self = block;
    job->offset = self->started * PIECE_SIZE % file_size;
    MUST(arena_hold(arena, block)); /* the task's */
    error = blocking_run(turn_runtime(turn), job_work, job, turn_self(turn), self->started);
    if (error) { /* no task: both references are ours */
        arena_drop(arena, block);
        arena_drop(arena, block);
        return error;
    }
    jobs[self->started++ % JOBS_MAX] = block;
    return WEIR_OK;
}

static enum weir_error job_end(struct turn *turn, struct reader *self, const struct message *message)
{
    struct arena *arena = turn_arena(turn);
    weir_msg *block = &jobs[message->word[1] % JOBS_MAX];
    const struct job *job = arena_data(arena, *block);
    CHECK(message->word[0] == WEIR_OK && job->offset == message->word[1] * PIECE_SIZE % file_size);
    self->bytes += job->size;
    self->done++;
    arena_drop(arena, *block);
    *block = WEIR_MSG_NONE;
    return WEIR_OK;
}

static enum weir_error reader_message(struct turn *turn, void *state, struct message *message)
{
    struct reader *self = state;
    enum weir_error error = WEIR_OK;
    if (message->tag == MESSAGE_TASK)
        error = job_end(turn, self, message);
    while (!error && self->started < pieces && self->started - self->done < JOBS_MAX)
        error = job_start(turn, self);
    if (self->done == pieces)
        turn_exit(turn, WEIR_OK);
    self->refused += error == WEIR_FULL;
    return error == WEIR_FULL ? WEIR_OK : error; /* full: a result will come, as some tasks are under way */
}

static void reader_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)cause;
    for (int i = 0; i < JOBS_MAX; i++)
        arena_drop(turn_arena(turn), jobs[i]);
    outcome = *(const struct reader *)state;
    example_done();
}

/* ------------------------------------------------------------------------ somebody else on the same workers */

static enum weir_error heart_message(struct turn *turn, void *state, struct message *message)
{
    (void)state;
    (void)message;
    atomic_fetch_add_explicit(&beats, 1, memory_order_relaxed);
    if (atomic_load_explicit(&is_over, memory_order_relaxed)) {
        turn_exit(turn, WEIR_OK);
        return WEIR_OK;
    }
    turn_yield(turn);
    return turn_send(turn, turn_self(turn), &(struct message){.tag = TAG_BEAT});
}

static const struct behaviour reader_behaviour = {.name = "reader",
                                                  .state_size = sizeof(struct reader),
                                                  .on_start = reader_start,
                                                  .on_message = reader_message,
                                                  .on_stop = reader_stop};
static const struct behaviour heart_behaviour = {.name = "heart", .on_message = heart_message};

/* Reads all pieces, each with a pause of so long; returns the wall time. */
static double run(long pause_ns)
{
    weir_actor reader;
    disk_ns = pause_ns;
    uint64_t start = clock_now_ns();
    MUST(actor_spawn(example.runtime, &reader_behaviour, NULL, 0, NULL, &reader));
    example_wait(1);
    CHECK(outcome.done == pieces);
    return (double)(clock_now_ns() - start);
}

int main(int argc, char **argv)
{
    weir_actor heart;
    pieces = example_size(argc, argv, 3000, 1000000);
    file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    file_size = (uint64_t)lseek(file, 0, SEEK_END);
    example_begin((size_t)64 << 20, (struct runtime_config){.workers = 1, .blocking_max = POOL});
    uint64_t start = clock_cpu_ns();
    run(0);
    double cpu = (double)(clock_cpu_ns() - start);
    printf("a task, to the pool and back with %d bytes of the file: %.1f us of processor time\n", PIECE_SIZE,
           cpu / (double)pieces / 1e3);
    MUST(actor_spawn(example.runtime, &heart_behaviour, NULL, 0, NULL, &heart));
    MUST(actor_send(example.runtime, WEIR_ACTOR_NONE, heart, &(struct message){.tag = TAG_BEAT}));
    double elapsed = run(DISK_NS);
    atomic_store(&is_over, true);
    printf("%" PRIu64 " pieces of %d bytes in %.0f ms on %d threads that sleep %d us each; the queue refused %" PRIu64
           " times\n",
           outcome.done, PIECE_SIZE, elapsed / 1e6, POOL, DISK_NS / 1000, outcome.refused);
    printf("the one worker handled %" PRIu64 " other messages meanwhile\n", beats);
    CHECK(outcome.bytes > 0 && beats > 0);
    int status = example_end();
    close(file);
    return status;
}
