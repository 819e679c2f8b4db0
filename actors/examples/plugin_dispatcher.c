/* Plugin actors and dispatcher: every message goes to each of N plugins through its own mailbox, as `process`, and at
 * the end one `shutdown` behind the last. One plugin fails now and then: the message that made it fail is logged and
 * counted, its supervisor restarts it in place, and the others never notice. One is slow: its mailbox fills, the
 * dispatcher mutes its own, and so the source is held back. No queue grows.
 *
 *   source --> dispatcher --> {length, sum, failing, slow}        each under the supervisor "plugins"
 *
 * Who owns what: the dispatcher owns a message's block while any plugin still has to get it, and holds one reference
 * more for each. A refused send leaves that one with the dispatcher.
 *
 *   plugin_dispatcher [MESSAGES] */
#include <stdatomic.h>

#include "actors/base/log.h"
#include "actors/examples/dispatcher.h"
#include "actors/examples/example.h"
#include "actors/examples/source.h"
#include "actors/supervise/supervisor.h"

enum { TAG_PROCESS = 1, TAG_SHUTDOWN };
enum { PLUGINS = 4, MAILBOX_PLUGIN = 8, PAYLOAD = 64, FAIL_EVERY = 1000, SLOW = 2000 };

static const char *const names[PLUGINS] = {"length", "sum", "failing", "slow"};

static uint64_t messages, processed[PLUGINS];
static _Atomic uint64_t dead_letters;

/* ---------------------------------------------------------------------------------------------- a plugin */

struct plugin {
    unsigned kind; /* of names */
    uint64_t result, count;
};

static enum weir_error plugin_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    ((struct plugin *)state)->kind = *(const unsigned *)args;
    return WEIR_OK;
}

/* Fails before any change: the state is then what it was before the message. */
static enum weir_error plugin_process(struct plugin *self, uint64_t number, const char *text)
{
    if (self->kind == 2 && number % FAIL_EVERY == 0)
        return WEIR_BAD_REQUEST;
    for (int i = 0; i < (self->kind == 3 ? SLOW : 1); i++) {
        for (const char *at = text; *at; at++)
            self->result = self->kind == 0 ? self->result + 1 : self->result * 31 + (unsigned char)*at;
    }
    self->count++;
    return WEIR_OK;
}

/* TAG_SHUTDOWN is data, so that it comes behind the last `process`. MESSAGE_SHUTDOWN, the supervisor's, is control and
 * ends a plugin at once. */
static enum weir_error plugin_message(struct turn *turn, void *state, struct message *message)
{
    if (message->tag == TAG_PROCESS)
        return plugin_process(state, message->word[0], arena_data(turn_arena(turn), message->hold[0]));
    if (message->tag == TAG_SHUTDOWN)
        turn_exit(turn, WEIR_OK);
    return WEIR_OK;
}

static void plugin_stop(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    (void)cause;
    const struct plugin *self = state;
    processed[self->kind] = self->count;
    example_done();
}

/* The runtime gives up on a message after attempts_max tries. On the worker, in the failed actor's name. */
static bool on_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                           void *context)
{
    (void)context;
    struct actor_status status;
    bool is_known = actor_status(turn_runtime(turn), turn_self(turn), &status) == WEIR_OK;
    uint64_t count = atomic_fetch_add(&dead_letters, 1) + 1;
    log_warning("plugin.failed", "plugin=%s message=%" PRIu64 " cause=%s attempts=%u count=%" PRIu64 "",
                is_known ? status.label : "", message->word[0], weir_error_code(cause), attempts, count);
    return true;
}

/* ------------------------------------------------------------------------------------ messages, and the tree */

static enum weir_error message_make(struct turn *turn, uint64_t number, struct message *out)
{
    if (number == messages) {
        out->tag = TAG_SHUTDOWN;
        return WEIR_OK;
    }
    *out = (struct message){.tag = TAG_PROCESS, .word = {number + 1}};
    enum weir_error error = arena_alloc(turn_arena(turn), PAYLOAD, NULL, &out->hold[0]);
    if (!error)
        snprintf(arena_data(turn_arena(turn), out->hold[0]), PAYLOAD, "message number %" PRIu64, number + 1);
    return error;
}

static const struct behaviour plugin_behaviour = {.name = "plugin",
                                                  .state_size = sizeof(struct plugin),
                                                  .on_start = plugin_start,
                                                  .on_message = plugin_message,
                                                  .on_stop = plugin_stop};
/* A transient child is restarted when it fails and forgotten when it ends in order. One try a message: what made a
 * plugin fail once is not given to it again. */
static weir_actor child_start(struct supervision *tree, weir_actor root, const struct behaviour *behaviour,
                              const void *args, size_t args_size, const char *name, uint32_t mailbox_max)
{
    weir_actor out;
    struct child_spec spec = {.name = name,
                              .behaviour = behaviour,
                              .args = args,
                              .args_size = args_size,
                              .restart = RESTART_TRANSIENT,
                              .options = {.mailbox_max = mailbox_max, .attempts_max = 1, .label = name}};
    MUST(supervisor_child_start(tree, root, &spec, WEIR_ACTOR_NONE, 0, &out));
    return out;
}

int main(int argc, char **argv)
{
    struct supervision *tree = NULL;
    weir_actor root, dispatcher;
    struct dispatcher_args args = {.count = PLUGINS, .tag_last = TAG_SHUTDOWN};
    struct supervisor_config config = {
        .name = "plugins", .dynamic_max = PLUGINS + 1, .period_ms = 1, .intensity = SUPERVISOR_INTENSITY_UNLIMITED};
    messages = example_size(argc, argv, 10000, 100000000);
    example_begin((size_t)64 << 20, (struct runtime_config){.on_dead_letter = on_dead_letter});
    MUST(supervision_create(&(struct supervision_config){.runtime = example.runtime}, &tree));
    MUST(supervisor_spawn(tree, WEIR_ACTOR_NONE, &config, &root));
    MUST(supervision_wait_ready(tree, 1000 * EXAMPLE_SECONDS_MAX));
    for (unsigned i = 0; i < PLUGINS; i++)
        args.receivers[i] = child_start(tree, root, &plugin_behaviour, &i, sizeof i, names[i], MAILBOX_PLUGIN);
    dispatcher = child_start(tree, root, &dispatcher_behaviour, &args, sizeof args, "dispatcher", DISPATCHER_MAILBOX);
    source_spawn((struct source){.to = dispatcher, .count = messages + 1, .make = message_make});
    example_wait(PLUGINS);
    for (unsigned i = 0; i < PLUGINS; i++) {
        printf("%-8s processed %" PRIu64 "\n", names[i], processed[i]);
        CHECK(processed[i] == messages - (i == 2 ? messages / FAIL_EVERY : 0));
    }
    printf("failed, logged and counted: %" PRIu64 "\n", dead_letters);
    CHECK(dead_letters == messages / FAIL_EVERY);
    printf("held back: the dispatcher %" PRIu64 " times, the source %" PRIu64 " times; at most %" PRIu64
           " of %d kept\n",
           dispatcher_waits, source_waits, dispatcher_backlog, DISPATCHER_BACKLOG);
    supervision_shutdown(tree);
    MUST(supervision_wait(tree, 1000 * EXAMPLE_SECONDS_MAX));
    runtime_stop(example.runtime);
    supervision_destroy(&tree);
    return example_end();
}
