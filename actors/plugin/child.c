/* What a plugin's child does: sandbox, object, init, then inputs from one ring and outputs into the other. Runs in the
 * child alone, in its one thread.
 *
 * Outputs become visible to the broker after each input, but the broker is woken only once for several: when nothing is
 * left to do, after CHILD_BATCH inputs, or when CHILD_BATCH_NS have passed. */
#include "actors/plugin/child.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/plugin/child_spec.h"
#include "actors/plugin/object.h"
#include "actors/plugin/parcel.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/runner_state.h"
#include "actors/plugin/sandbox.h"
#include "actors/plugin/spawner.h"
#include "actors/plugin/spin.h"

/* Enough that a wake-up costs little of each, and 200 us are little beside a budget in milliseconds. */
#define CHILD_BATCH 256
#define CHILD_BATCH_NS (UINT64_C(200) * NS_PER_US)
/* Where so many inputs take no more than a fourth of that, the clock is read for each so many. */
#define CHILD_STRIDE 16
/* What the handler of fatal signals needs, when the stack is what overflowed. */
#define CHILD_SIGNAL_STACK ((size_t)64 << 10)

struct child {
    struct plugin_spec spec;
    struct channel ring;
    struct parcel_inbox inbox;
    struct runner *runner;
    uint32_t handled; /* inputs since the broker was last woken */
    uint64_t woken_ns;
    uint32_t clock_in;    /* inputs until the clock is looked at */
    uint64_t clock_ns;    /* as of then */
    struct parcel parcel; /* of the output on its way */
    bool is_unseen;       /* it is the last one in the ring, and not published */
    struct spin spin;
};

/* For the signal handler; the one instance of this process. */
static struct child child;

/* ------------------------------------------------------------------------------------------ outputs */

static void broker_wake(void)
{
    const uint64_t one = 1;
    child.handled = 0;
    if (!channel_must_wake(&child.ring))
        return;
    ssize_t written = write(SPAWNER_CHILD_FD + SPAWNER_FD_BELL, &one, sizeof one);
    (void)written; /* full: it has been rung often enough */
}

/* Sleeps until the broker has done something since `seen` was read. */
static void broker_await(uint32_t seen)
{
    if (child.ring.fault != NULL)
        _exit(EXIT_FAILURE);
    broker_wake();
    channel_sleep(&child.ring, seen);
}

/* The runner's sink. Waits for room: the broker takes outputs when it can do something with them. */
static bool output_put(void *context, const struct plugin_output *output)
{
    bool is_end = output->kind == OUTPUT_DONE && output->result == WEIR_ACTOR_OK && output->number != 0;
    (void)context;
    /* The emission before it, which can only be of the same input, says so itself. */
    if (is_end && child.is_unseen && parcel_make_last(&child.parcel))
        return true;
    if (!parcel_of_output(&child.parcel, output))
        return false;
    child.is_unseen = true;
    while (!parcel_push(&child.ring, &child.parcel)) {
        channel_publish(&child.ring);
        uint32_t seen = channel_bell(&child.ring);
        channel_want_room(&child.ring);
        if (!parcel_push(&child.ring, &child.parcel))
            broker_await(seen);
        else
            break;
    }
    return true;
}

static void output_tell(struct plugin_output *output, const char *text)
{
    output->text = view_text(text);
    output_put(NULL, output);
    channel_publish(&child.ring);
}

/* ------------------------------------------------------------------------------------------- inputs */

/* Looks for an input for a moment, if that was worth it lately. */
static bool input_spin(struct view *bytes)
{
    if (!spin_is_worth(&child.spin))
        return false;
    uint64_t until_ns = clock_now_ns() + SPIN_NS;
    bool has_come = false;
    do {
        for (int i = 0; i < 16 && channel_waiting(&child.ring) == 0; i++)
            spin_pause();
        has_come = parcel_pull(&child.ring, &child.inbox, true, bytes);
    } while (!has_come && child.ring.fault == NULL && clock_now_ns() < until_ns);
    spin_over(&child.spin, has_come);
    return has_come;
}

/* The next input; sleeps for it. Points into the ring (read-only to this process) or the inbox. */
static void input_await(struct plugin_input *out)
{
    struct view bytes;
    for (;;) {
        if (parcel_pull(&child.ring, &child.inbox, true, &bytes))
            break;
        broker_wake();
        if (input_spin(&bytes))
            break;
        uint32_t seen = channel_bell(&child.ring);
        channel_want(&child.ring);
        if (parcel_pull(&child.ring, &child.inbox, true, &bytes))
            break;
        uint64_t began_ns = clock_now_ns();
        broker_await(seen);
        spin_slept(&child.spin, clock_now_ns() - began_ns);
    }
    if (!parcel_to_input(bytes, out))
        _exit(EXIT_FAILURE);
}

static void batch_end(void)
{
    channel_publish(&child.ring);
    child.is_unseen = false;
    child.handled++;
    if (child.clock_in > 1 && child.handled < CHILD_BATCH) {
        child.clock_in--;
        return;
    }
    uint64_t now_ns = clock_now_ns();
    child.clock_in = now_ns - child.clock_ns < CHILD_BATCH_NS / 4 ? CHILD_STRIDE : 1;
    child.clock_ns = now_ns;
    if (child.handled < CHILD_BATCH && now_ns - child.woken_ns < CHILD_BATCH_NS)
        return;
    broker_wake();
    child.woken_ns = now_ns;
}

static void inputs_run(void)
{
    struct plugin_input input;
    for (;;) {
        input_await(&input);
        atomic_store_explicit(&child.ring.own->number, input.number, memory_order_relaxed);
        enum weir_actor_result result = runner_handle(child.runner, &input);
        if (input.kind == INPUT_STOP)
            return;
        parcel_release(&child.ring, &child.inbox);
        if (result == WEIR_ACTOR_FAILED) {
            /* Nobody can tell what state it is in. The broker has the reason and starts another one. */
            channel_publish(&child.ring);
            broker_wake();
            return;
        }
        batch_end();
    }
}

/* ------------------------------------------------------------------------------------------- its end */

/* Leaves a hint for people: a crash with no memory left is most likely for want of it. Then dies of the signal. */
static void on_fatal(int number)
{
    size_t probe = (size_t)(child.spec.bounds.memory_bytes_max / 16 + 4096);
    void *memory = mmap(NULL, probe, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        atomic_store_explicit(&child.ring.own->hint, CHANNEL_HINT_NO_MEMORY, memory_order_relaxed);
    signal(number, SIG_DFL);
    raise(number);
}

static void fatal_signals_catch(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    static char memory[CHILD_SIGNAL_STACK];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESETHAND};
    if (!SANDBOX_HAS_MEMORY_LIMIT)
        return; /* sanitizers have handlers of their own */
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        sigaction(numbers[i], &action, NULL);
}

/* ---------------------------------------------------------------------------------------- its start */

static enum weir_error child_start(char *why)
{
    int copy = -1;
    struct sandbox sandbox = {.grants = child.spec.grants, .memory_bytes_max = child.spec.bounds.memory_bytes_max};
    /* Before the namespace, in which every other user looks like this one. */
    enum weir_error error = object_copy(child.spec.file, &copy, why, PLUGIN_TEXT_SIZE);
    if (error != WEIR_OK)
        return error;
    sandbox.fd_max = copy;
    if ((error = sandbox_enter(&sandbox, why, PLUGIN_TEXT_SIZE)) != WEIR_OK)
        return error;
    error = runner_open_copy(copy, child.spec.file, child.spec.role, &child.spec.bounds, output_put, NULL,
                             &child.runner, why, PLUGIN_TEXT_SIZE);
    if (error != WEIR_OK || (error = sandbox_close(&sandbox, why, PLUGIN_TEXT_SIZE)) != WEIR_OK)
        return error;
    if (sandbox.missing[0] != '\0') {
        char text[PLUGIN_TEXT_SIZE];
        snprintf(text, sizeof text, "its sandbox is without: %.220s", sandbox.missing);
        output_tell(&(struct plugin_output){.kind = OUTPUT_LOG, .level = WEIR_LOG_WARNING}, text);
    }
    return runner_start(child.runner, child.spec.config, why, PLUGIN_TEXT_SIZE);
}

void child_prepare(void) { sandbox_filters_make(); }

void child_main(void)
{
    char why[PLUGIN_TEXT_SIZE] = "";
    if (!child_spec_read(SPAWNER_CHILD_FD + SPAWNER_FD_SPEC, &child.spec) ||
        channel_map(&child.ring, SPAWNER_CHILD_FD + SPAWNER_FD_FROM_CHILD, SPAWNER_CHILD_FD + SPAWNER_FD_TO_CHILD,
                    child.spec.ring_bytes) != WEIR_OK)
        _exit(EXIT_FAILURE);
    close(SPAWNER_CHILD_FD + SPAWNER_FD_SPEC);
    close(SPAWNER_CHILD_FD + SPAWNER_FD_FROM_CHILD);
    close(SPAWNER_CHILD_FD + SPAWNER_FD_TO_CHILD);
    child.inbox.size_max = SIZE_MAX / 2; /* the broker's word; RLIMIT_DATA bounds it */
    fatal_signals_catch();
    spin_init(&child.spin);
    enum weir_error error = child_start(why);
    struct plugin_output done = {.kind = OUTPUT_DONE, .result = error == WEIR_OK ? WEIR_ACTOR_OK : WEIR_ACTOR_FAILED};
    if (error == WEIR_OK) {
        const struct weir_actor_plugin *plugin = runner_plugin(child.runner);
        done.has_snapshot = plugin->snapshot != NULL;
        char names[2 * PLUGIN_TEXT_SIZE];
        snprintf(names, sizeof names, "%.100s %.100s", plugin->name, plugin->version);
        (void)text_cut(why, sizeof why, names); /* whatever the plugin calls itself, it is a text */
    }
    output_tell(&done, why);
    broker_wake();
    if (error == WEIR_OK)
        inputs_run();
    _exit(error == WEIR_OK ? EXIT_SUCCESS : EXIT_FAILURE);
}
