/* The actor behind the topics below $sys/. One round after the other, each in three steps: a task on the blocking pool
 * looks at the boards that are followed or were asked for; what differs from the last time is published, a batch at a
 * time, each when the one before was folded; subscriptions that waited for the round are told to go on. In its turns,
 * but for job_work. */
#include "broker/sys/sys.h"

#include <stdatomic.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/sys/board.h"
#include "clients/wire/name.h"

/* A topic that has not answered for so long was deleted under our hands. */
#define ANSWER_MS 5000
/* A topic that cannot be made or filled (memory, topics.max) is shown as it is after so many rounds. */
#define ROUNDS_WAITED_MAX 3

enum { TIMER_ROUND = 1, TIMER_ANSWER = 2 };

/* Who frees what a job has found: the actor, or the task when the actor has ended before it. */
enum job_phase { JOB_RUNS, JOB_IS_DONE, JOB_IS_FORSAKEN };

/* A look at the boards, in an arena block with a reference of the actor's and one of the task's. */
struct job {
    weir_msg self;
    struct sys_options options;
    uint32_t wanted;                       /* boards, as bits */
    struct board_view before[BOARD_COUNT]; /* with references of the job's own */
    _Atomic int phase;
    /* what it found */
    uint32_t followed, looked;
    struct board_view now[BOARD_COUNT], changes[BOARD_COUNT];
};

struct sys {
    struct sys_options options;
    struct board_view views[BOARD_COUNT]; /* what the topics show */
    weir_actor topics[BOARD_COUNT];
    uint64_t epochs[BOARD_COUNT];
    weir_msg job;                           /* none: no task is under way */
    struct board_view changes[BOARD_COUNT]; /* to be published yet */
    bool is_publishing;
    uint32_t board, next; /* where publishing is */
    uint32_t unanswered;  /* records of the batch under way */
    uint64_t batches;     /* numbers them, so that an answer that comes too late is none */
    weir_timer answer_timer;
    uint32_t wanted;        /* boards that were asked for since the last round began */
    uint32_t looked;        /* boards of the present round */
    uint32_t rounds_waited; /* that did not bring up to date what was waited for */
    bool has_waiters, has_timer;
    uint32_t unmade; /* topics that the directory was told to make and has not answered for */
};

_Static_assert(BOARD_COUNT == SYS_TOPICS, "one topic a board");

static struct view board_name(enum board board) { return view_text(board_kinds[board].topic); }

/* ----------------------------------------------------------------------------------------- on the pool */

static bool on_followed(const struct topic_status *status, void *context)
{
    uint32_t *followed = context;
    for (int i = 0; i < BOARD_COUNT; i++)
        if (status->subscribers > 0 && strcmp(status->name, board_kinds[i].topic) == 0)
            *followed |= 1u << i;
    return true;
}

static void job_free(struct arena *arena, struct job *job)
{
    for (int i = 0; i < BOARD_COUNT; i++) {
        board_view_drop(arena, &job->before[i]);
        board_view_drop(arena, &job->now[i]);
        board_view_drop(arena, &job->changes[i]);
    }
}

static uint64_t job_work(void *argument)
{
    struct job *job = argument;
    struct arena *arena = runtime_arena(job->options.runtime);
    directory_topics_each(job->options.directory, view_text("$sys/+"), on_followed, &job->followed);
    for (int i = 0; i < BOARD_COUNT; i++) {
        if (((job->wanted | job->followed) & 1u << i) == 0)
            continue;
        if (board_look(job->options.admin, arena, job->options.budget, (enum board)i, &job->before[i], &job->now[i],
                       &job->changes[i]) == WEIR_OK)
            job->looked |= 1u << i;
    }
    if (atomic_exchange_explicit(&job->phase, JOB_IS_DONE, memory_order_acq_rel) == JOB_IS_FORSAKEN)
        job_free(arena, job);
    arena_drop(arena, job->self); /* the task's reference; job may be gone from here on */
    return 0;
}

/* ----------------------------------------------------------------------------------------- publishing */

static void topic_create(struct turn *turn, struct sys *sys, enum board board)
{
    struct view name = board_name(board);
    struct message message = {.tag = DIRECTORY_CREATE, .word = {board}};
    if (arena_alloc(turn_arena(turn), sizeof(struct directory_create) + name.size, sys->options.budget,
                    &message.hold[0]))
        return; /* the next round tries again */
    struct directory_create *create = arena_data(turn_arena(turn), message.hold[0]);
    *create =
        (struct directory_create){.name_size = (uint32_t)name.size, .has_kind = true, .kind = board_kinds[board].kind};
    memcpy(create->name, name.data, name.size);
    if (turn_send(turn, directory_actor(sys->options.directory), &message))
        arena_drop(turn_arena(turn), message.hold[0]);
    else
        sys->unmade++;
}

static void on_topic(struct sys *sys)
{
    if (sys->unmade > 0 && --sys->unmade == 0)
        sem_post(sys->options.made);
}

/* What the topic shows is not known any more: the next round empties it and fills it again. */
static void board_forget(struct turn *turn, struct sys *sys, enum board board)
{
    board_view_drop(turn_arena(turn), &sys->views[board]);
    board_view_drop(turn_arena(turn), &sys->changes[board]);
    sys->topics[board] = WEIR_ACTOR_NONE;
    sys->epochs[board] = 0;
    sys->wanted |= 1u << board;
}

/* Whether there is something to publish to the topic that is there now. One that was not ours is emptied first. */
static bool board_is_ready(struct turn *turn, struct sys *sys, enum board board)
{
    struct message clear = {.tag = TOPIC_CLEAR};
    weir_actor topic;
    if ((sys->looked & 1u << board) == 0)
        return false;
    if (directory_find(sys->options.directory, board_name(board), &topic) != WEIR_OK) {
        topic_create(turn, sys, board);
        board_forget(turn, sys, board);
        return false;
    }
    bool is_first = actor_is_none(sys->topics[board]);
    if (!actor_is_same(topic, sys->topics[board]) && (!is_first || turn_control(turn, topic, &clear) != WEIR_OK)) {
        board_forget(turn, sys, board);
        return false;
    }
    sys->topics[board] = topic;
    return sys->changes[board].count > 0;
}

/* Sends one batch of the changes of the present board. */
static enum weir_error batch_send(struct turn *turn, struct sys *sys)
{
    struct arena *arena = turn_arena(turn);
    const struct board_view *changes = &sys->changes[sys->board];
    uint32_t count = changes->count - sys->next < TOPIC_BATCH_MAX ? changes->count - sys->next : TOPIC_BATCH_MAX;
    const struct record_slice *slices = (struct record_slice *)arena_data(arena, changes->slices) + sys->next;
    struct message message = {.tag = TOPIC_PUBLISH, .detail = count, .hold = {changes->pairs}};
    message.word[2] = TOPIC_NUMBER_WORD(++sys->batches << 16, ACK_FOLDED);
    if (count == 1) {
        message.word[0] = TOPIC_WORD(slices->key_offset, slices->key_size);
        message.word[1] = TOPIC_WORD(slices->value_offset, slices->value_size);
    } else {
        enum weir_error error = arena_alloc(arena, count * sizeof *slices, sys->options.budget, &message.hold[1]);
        if (error != WEIR_OK)
            return error;
        memcpy(arena_data(arena, message.hold[1]), slices, count * sizeof *slices);
    }
    enum weir_error error = arena_hold(arena, changes->pairs);
    if (error == WEIR_OK) {
        error = turn_send(turn, sys->topics[sys->board], &message);
        if (error != WEIR_OK)
            arena_drop(arena, changes->pairs);
    }
    if (error != WEIR_OK) {
        arena_drop(arena, message.hold[1]);
        return error;
    }
    sys->next += count;
    sys->unanswered = count;
    return timer_start(turn_runtime(turn), turn_self(turn), ANSWER_MS * NS_PER_MS, 0, TIMER_ANSWER, &sys->answer_timer);
}

static void round_begin(struct turn *turn, struct sys *sys);

static void round_end(struct turn *turn, struct sys *sys, bool goes_on)
{
    struct message fresh = {.tag = DIRECTORY_FRESH};
    weir_timer timer;
    sys->is_publishing = false;
    /* Who waits will follow, so that the next round finds out whether somebody does. */
    goes_on = goes_on || sys->has_waiters;
    bool is_fresh = sys->wanted == 0 || ++sys->rounds_waited == ROUNDS_WAITED_MAX;
    if (sys->has_waiters && is_fresh &&
        turn_control(turn, directory_actor(sys->options.directory), &fresh) == WEIR_OK) {
        sys->has_waiters = false;
        sys->rounds_waited = 0;
    }
    if (sys->has_waiters && !is_fresh)
        round_begin(turn, sys);
    else if (goes_on && !sys->has_timer)
        sys->has_timer = timer_start(turn_runtime(turn), turn_self(turn), sys->options.interval_ms * NS_PER_MS, 0,
                                     TIMER_ROUND, &timer) == WEIR_OK;
}

/* Goes on with the next batch, or the next board. */
static void publish_next(struct turn *turn, struct sys *sys)
{
    for (; sys->board < BOARD_COUNT; sys->board++, sys->next = 0) {
        enum board board = (enum board)sys->board;
        if (sys->next == 0 && !board_is_ready(turn, sys, board))
            continue;
        if (sys->next < sys->changes[board].count) {
            if (batch_send(turn, sys) == WEIR_OK)
                return;
            board_forget(turn, sys, board);
        }
        board_view_drop(turn_arena(turn), &sys->changes[board]);
    }
    round_end(turn, sys, true);
}

static void on_answer(struct turn *turn, struct sys *sys, const struct message *message)
{
    if (message->word[0] >> 16 != sys->batches || !sys->is_publishing || sys->unanswered == 0)
        return;
    enum board board = (enum board)sys->board;
    bool is_other = message->tag == TOPIC_ACK && sys->epochs[board] != 0 && sys->epochs[board] != message->word[1];
    if (message->tag == TOPIC_ACK)
        sys->epochs[board] = message->word[1];
    sys->unanswered -= message->detail < sys->unanswered ? message->detail : sys->unanswered;
    if (message->tag == TOPIC_NACK || is_other) {
        board_forget(turn, sys, board); /* refused, or somebody has emptied the topic */
        sys->unanswered = 0;
    }
    if (sys->unanswered > 0)
        return;
    timer_cancel(turn_runtime(turn), sys->answer_timer);
    publish_next(turn, sys);
}

/* --------------------------------------------------------------------------------------------- rounds */

static enum weir_error job_start(struct turn *turn, struct sys *sys)
{
    struct arena *arena = turn_arena(turn);
    enum weir_error error = arena_alloc(arena, sizeof(struct job), sys->options.budget, &sys->job);
    if (error != WEIR_OK)
        return error;
    struct job *job = arena_data(arena, sys->job);
    *job = (struct job){.self = sys->job, .options = sys->options, .wanted = sys->wanted};
    for (int i = 0; i < BOARD_COUNT && error == WEIR_OK; i++) {
        if (sys->views[i].count == 0)
            continue;
        error = arena_hold(arena, sys->views[i].pairs);
        if (error == WEIR_OK)
            error = arena_hold(arena, sys->views[i].slices);
        job->before[i] = sys->views[i];
    }
    ENSURE(error == WEIR_OK); /* they are ours */
    error = arena_hold(arena, sys->job);
    ENSURE(error == WEIR_OK);
    error = blocking_run(turn_runtime(turn), job_work, job, turn_self(turn), 0);
    if (error != WEIR_OK) {
        job_free(arena, job);
        arena_drop(arena, sys->job);
        arena_drop(arena, sys->job);
        sys->job = WEIR_MSG_NONE;
    }
    return error;
}

static void round_begin(struct turn *turn, struct sys *sys)
{
    if (!msg_is_none(sys->job) || sys->is_publishing)
        return; /* its end looks at what was wanted meanwhile */
    if (job_start(turn, sys) == WEIR_OK) {
        sys->wanted = 0;
        return;
    }
    sys->wanted = 0; /* no memory, or the pool is busy: who waits gets what is there, and the next round tries again */
    round_end(turn, sys, true);
}

static void on_job(struct turn *turn, struct sys *sys)
{
    struct arena *arena = turn_arena(turn);
    struct job *job = arena_data(arena, sys->job);
    uint32_t followed = job->followed;
    for (int i = 0; i < BOARD_COUNT; i++) {
        if ((job->looked & 1u << i) == 0)
            continue;
        board_view_drop(arena, &sys->views[i]);
        sys->views[i] = job->now[i];
        sys->changes[i] = job->changes[i];
        job->now[i] = job->changes[i] = (struct board_view){.count = 0};
    }
    sys->looked = job->looked;
    job_free(arena, job);
    arena_drop(arena, sys->job);
    sys->job = WEIR_MSG_NONE;
    if (sys->looked == 0) {
        round_end(turn, sys, followed != 0);
        return;
    }
    sys->is_publishing = true;
    sys->board = sys->next = 0;
    publish_next(turn, sys);
}

static void on_wanted(struct turn *turn, struct sys *sys, const struct message *message)
{
    const struct directory_subscribe *request = arena_data(turn_arena(turn), message->hold[0]);
    for (int i = 0; request != NULL && i < BOARD_COUNT; i++)
        if (pattern_matches(view_of(request->bytes, request->pattern_size), board_name((enum board)i)))
            sys->wanted |= 1u << i;
    sys->has_waiters = true;
    round_begin(turn, sys);
}

static void on_timer(struct turn *turn, struct sys *sys, uint64_t word)
{
    if (word == TIMER_ROUND) {
        sys->has_timer = false;
        round_begin(turn, sys);
    } else if (sys->is_publishing && sys->unanswered > 0) {
        sys->unanswered = 0;
        board_forget(turn, sys, (enum board)sys->board);
        publish_next(turn, sys);
    }
}

/* ------------------------------------------------------------------------------------------- the actor */

static enum weir_error sys_message(struct turn *turn, void *state, struct message *message)
{
    struct sys *sys = state;
    switch (message->tag) {
    case DIRECTORY_TOPIC: on_topic(sys); break;
    case DIRECTORY_WANTED: on_wanted(turn, sys, message); break;
    case MESSAGE_TASK: on_job(turn, sys); break;
    case TOPIC_ACK:
    case TOPIC_NACK: on_answer(turn, sys, message); break;
    case MESSAGE_TIMER: on_timer(turn, sys, message->word[0]); break;
    default: break;
    }
    return WEIR_OK;
}

static enum weir_error sys_on_start(struct turn *turn, void *state, const void *args)
{
    struct sys *sys = state;
    struct message patron = {.tag = DIRECTORY_PATRON};
    *sys = (struct sys){.job = WEIR_MSG_NONE};
    memcpy(&sys->options, args, sizeof sys->options);
    enum weir_error error = turn_send(turn, directory_actor(sys->options.directory), &patron);
    for (int i = 0; i < BOARD_COUNT && error == WEIR_OK; i++)
        topic_create(turn, sys, (enum board)i);
    return error;
}

static void sys_on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct sys *sys = state;
    struct arena *arena = turn_arena(turn);
    (void)cause;
    for (int i = 0; i < BOARD_COUNT; i++) {
        board_view_drop(arena, &sys->views[i]);
        board_view_drop(arena, &sys->changes[i]);
    }
    if (msg_is_none(sys->job))
        return;
    struct job *job = arena_data(arena, sys->job);
    if (atomic_exchange_explicit(&job->phase, JOB_IS_FORSAKEN, memory_order_acq_rel) == JOB_IS_DONE)
        job_free(arena, job);
    arena_drop(arena, sys->job);
}

static const struct behaviour behaviour = {.name = "sys",
                                           .state_size = sizeof(struct sys),
                                           .on_start = sys_on_start,
                                           .on_message = sys_message,
                                           .on_stop = sys_on_stop};

enum weir_error sys_start(const struct sys_options *options)
{
    weir_actor actor;
    struct actor_options actor_options = {.supervisor = options->supervisor, .label = "sys"};
    return actor_spawn(options->runtime, &behaviour, options, sizeof *options, &actor_options, &actor);
}
