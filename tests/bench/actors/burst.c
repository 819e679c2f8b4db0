/* timer_burst: many timers that are due at one moment. What does one cost, and how long does somebody else wait
 * meanwhile: a thread that arms and cancels timers, and an actor that has nothing to do with them? Handlers run in
 * turns; the thread that looks on is one of its own. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/bench/actors/bench.h"

enum {
    /* Armed beside the burst and cancelled at once. */
    FAR_NS = 1000 * 1000 * 1000,
    /* Between two looks; and how many are kept: about a minute's. */
    LOOK_NS = 50 * 1000,
    LOOKS_MAX = 1 << 20,
    /* Before the burst, for comparison. */
    QUIET_LOOKS = 2000,
};

static uint64_t timer_count, owner_count;
static weir_actor *owners, bystander_actor;
static _Atomic uint64_t fired;      /* timers handled */
static _Atomic bool is_burst_over;  /* set once they all are */
static _Atomic bool is_ping_out;    /* set by the looker, cleared by the bystander: one at a time */
static uint64_t due_ns, cpu_at_due; /* when the burst begins, and the processor time until then: the looker's */
static uint64_t cpu_at_end, end_ns; /* the last handler's, before is_burst_over */

/* What somebody waited: before the burst and in it. A series has one writer; all are read after the end. */
struct series {
    uint64_t *ns;
    size_t count;
};

static struct series armed[2], cancelled[2], delayed[2];
static pthread_t looker_thread;

static void series_add(struct series *series, uint64_t ns)
{
    if (series->count < LOOKS_MAX)
        series->ns[series->count++] = ns;
}

static enum weir_error owner_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state;
    if (message->tag != MESSAGE_TIMER || atomic_fetch_add(&fired, 1) + 1 < timer_count)
        return WEIR_OK;
    cpu_at_end = clock_cpu_ns();
    end_ns = clock_now_ns();
    atomic_store(&is_burst_over, true);
    return WEIR_OK;
}

/* word[0]: when it was sent. */
static enum weir_error bystander_message(struct turn *turn, void *state, struct message *message)
{
    (void)turn, (void)state;
    if (message->tag == STOP) {
        bench_finish(timer_count);
        return WEIR_OK;
    }
    series_add(&delayed[message->word[1]], clock_now_ns() - message->word[0]);
    atomic_store(&is_ping_out, false);
    return WEIR_OK;
}

static const struct behaviour owner = {.name = "owner", .on_message = owner_message};
static const struct behaviour bystander = {.name = "bystander", .on_message = bystander_message};

static void look(int series)
{
    weir_timer timer;
    uint64_t before = clock_now_ns();
    must(timer_start(bench_runtime, bystander_actor, FAR_NS, 0, 0, &timer));
    uint64_t between = clock_now_ns();
    timer_cancel(bench_runtime, timer);
    uint64_t after = clock_now_ns();
    series_add(&armed[series], between - before);
    series_add(&cancelled[series], after - between);
    if (!atomic_load(&is_ping_out)) {
        struct message ping = {.tag = PING, .word = {after, (uint64_t)series}};
        atomic_store(&is_ping_out, true);
        must(actor_send(bench_runtime, WEIR_ACTOR_NONE, bystander_actor, &ping));
    }
    nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
}

static void *looker(void *unused)
{
    (void)unused;
    for (int i = 0; i < QUIET_LOOKS && clock_now_ns() < due_ns; i++)
        look(0);
    while (clock_now_ns() < due_ns)
        nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
    cpu_at_due = clock_cpu_ns();
    while (!atomic_load(&is_burst_over))
        look(1);
    struct message stop = {.tag = STOP};
    must(actor_control(bench_runtime, WEIR_ACTOR_NONE, bystander_actor, &stop));
    return NULL;
}

static void timers_arm(void)
{
    /* Time to arm them all and for the quiet looks. */
    due_ns = clock_now_ns() + 500 * NS_PER_MS + timer_count * 4000;
    for (uint64_t i = 0; i < timer_count; i++) {
        weir_timer timer;
        uint64_t now = clock_now_ns();
        must(timer_start(bench_runtime, owners[i % owner_count], due_ns > now ? due_ns - now : 0, 0, i, &timer));
    }
    if (clock_now_ns() > due_ns) {
        fputs("weir-actors-bench: the machine was too busy to arm the timers before they were due\n", stderr);
        exit(1);
    }
}

static void timer_burst(struct outcome *outcome)
{
    timer_count = param("n", 1000000);
    owner_count = param("actors", 1000);
    outcome->msgs = timer_count;
    outcome->unit = "timer";
    owners = allocate(owner_count, sizeof *owners);
    for (int i = 0; i < 2; i++) {
        armed[i].ns = allocate(LOOKS_MAX, sizeof(uint64_t));
        cancelled[i].ns = allocate(LOOKS_MAX, sizeof(uint64_t));
        delayed[i].ns = allocate(LOOKS_MAX, sizeof(uint64_t));
    }
    for (uint64_t i = 0; i < owner_count; i++)
        owners[i] = spawn(&owner, NULL, 0);
    bystander_actor = spawn(&bystander, NULL, 0);
    timers_arm();
    if (pthread_create(&looker_thread, NULL, looker, NULL) != 0)
        must(WEIR_NO_MEMORY);
}

static size_t series_print(const char *name, const struct series *series, char *out, size_t room)
{
    size_t count = series->count;
    if (count == 0)
        return (size_t)snprintf(out, room, ",\"%s_us\":[]", name);
    qsort(series->ns, count, sizeof *series->ns, compare_numbers);
    return (size_t)snprintf(out, room, ",\"%s_us\":[%.1f,%.1f,%.1f]", name, (double)series->ns[count / 2] / 1e3,
                            (double)series->ns[count * 99 / 100] / 1e3, (double)series->ns[count - 1] / 1e3);
}

/* Of each series: the middle, one in a hundred, and the longest. */
static void timer_burst_report(struct outcome *outcome)
{
    pthread_join(looker_thread, NULL);
    char *out = outcome->extra;
    size_t room = sizeof outcome->extra;
    size_t used =
        (size_t)snprintf(out, room, ",\"fire_cpu_ns_per_timer\":%.1f,\"fire_ns_per_timer\":%.1f,\"looks\":%zu",
                         (double)(cpu_at_end - cpu_at_due) / (double)timer_count,
                         (double)(end_ns - due_ns) / (double)timer_count, armed[1].count);
    used += series_print("quiet_arm", &armed[0], out + used, room - used);
    used += series_print("quiet_cancel", &cancelled[0], out + used, room - used);
    used += series_print("quiet_turn", &delayed[0], out + used, room - used);
    used += series_print("burst_arm", &armed[1], out + used, room - used);
    used += series_print("burst_cancel", &cancelled[1], out + used, room - used);
    series_print("burst_turn", &delayed[1], out + used, room - used);
}

const struct benchmark burst_benchmarks[] = {{"timer_burst", timer_burst, timer_burst_report}, {NULL, NULL, NULL}};
