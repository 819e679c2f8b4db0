/* `weir sub`: topics as lines, their present state first. Main thread. */
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "clients/cli/cli.h"
#include "clients/wire/frame.h"

static const char help[] =
    "weir sub: follow topics: their present state first, then every update\n"
    "\n"
    "usage: weir sub [options] PATTERN...\n"
    "\n"
    "  PATTERN is a topic, or has '+' for one segment and a last '#' for the rest: 'sensors/+/temperature', "
    "'prices/#'\n"
    "\n" CLI_OPTIONS_HELP
    "      --policy P          when this reader is too slow: resync (default; a fresh snapshot once it reads again),\n"
    "                          block (the topic waits, and with it its publishers), conflate (only the newest of each\n"
    "                          key comes), drop (the oldest waiting updates go; 'gap' says which) or disconnect (the\n"
    "                          subscription ends)\n"
    "      --interval-ms N     conflate: at least so long between two batches of updates\n"
    "      --key K             only the entry and updates of this key\n"
    "      --prefix P          only entries and updates of keys that begin so; 'idle' says how far the topic is\n"
    "      --block-ms N        block: the topic waits at most so long, then it is as resync\n"
    "      --since CURSOR      resume behind TOPIC:EPOCH:SEQ as --json prints them; may be repeated\n"
    "      --count N           end after N entries and updates\n"
    "      --snapshot-only     end after the present state\n"
    "      --no-snapshot       only updates from now on\n"
    "      --verbose           also say on stderr what happens to the subscription\n"
    "\n"
    "Without --json one line a record: TOPIC [KEY] VALUE, text as it is, other values as JSON, a deleted key as "
    "'TOPIC\n"
    "KEY null'. With --json one object a line: "
    "{\"event\":\"begin\"|\"entry\"|\"end\"|\"update\"|\"gap\"|\"conflated\"|\"reset\"\n"
    "|\"idle\"|\"stale\"|\"live\"|\"ended\"|\"subscribed\",\"topic\",\"epoch\",\"seq\",\"key\"?,\"value\"?,...}.\n"
    "--timeout bounds the wait for the broker's answer to the subscription, not the reading.\n" CLI_EXIT_HELP;

enum {
    OPTION_POLICY = CLI_OPTION_VERB,
    OPTION_INTERVAL_MS,
    OPTION_KEY,
    OPTION_PREFIX,
    OPTION_BLOCK_MS,
    OPTION_SINCE,
    OPTION_COUNT,
    OPTION_SNAPSHOT_ONLY,
    OPTION_NO_SNAPSHOT,
    OPTION_VERBOSE
};

static const struct option options[] = {CLI_OPTIONS,
                                        {"policy", required_argument, NULL, OPTION_POLICY},
                                        {"interval-ms", required_argument, NULL, OPTION_INTERVAL_MS},
                                        {"key", required_argument, NULL, OPTION_KEY},
                                        {"prefix", required_argument, NULL, OPTION_PREFIX},
                                        {"block-ms", required_argument, NULL, OPTION_BLOCK_MS},
                                        {"since", required_argument, NULL, OPTION_SINCE},
                                        {"count", required_argument, NULL, OPTION_COUNT},
                                        {"snapshot-only", no_argument, NULL, OPTION_SNAPSHOT_ONLY},
                                        {"no-snapshot", no_argument, NULL, OPTION_NO_SNAPSHOT},
                                        {"verbose", no_argument, NULL, OPTION_VERBOSE},
                                        {NULL, 0, NULL, 0}};

enum {
    PATTERNS_MAX = 256,
    LOOK_MS = 200 /* how soon it is noticed that nobody reads the output any more */
};

struct following {
    struct cli cli;
    struct weir_subscribe_options wanted;
    struct weir_cursor *cursors;
    bool verbose;
    uint64_t count_max, count;
    struct weir_subscription *subscriptions[PATTERNS_MAX];
    uint64_t expected[PATTERNS_MAX], ended[PATTERNS_MAX]; /* feeds; UINT64_MAX: not known yet */
    size_t patterns, over;
    uint64_t answer_deadline_ns;
};

/* --------------------------------------------------------------------------------------------- arguments */

/* TOPIC:EPOCH:SEQ, cut from the right, since a topic may have colons. */
static bool cursor_add(struct following *f, char *text)
{
    char *seq = strrchr(text, ':'), *epoch = NULL;
    if (seq != NULL) {
        *seq++ = '\0';
        epoch = strrchr(text, ':');
    }
    if (epoch == NULL) {
        cli_fail(&f->cli, CLI_USAGE, "--since: not TOPIC:EPOCH:SEQ");
        return false;
    }
    *epoch++ = '\0';
    struct weir_cursor cursor = {.topic = text};
    if (!cli_number(&f->cli, "--since", epoch, 0, UINT64_MAX, &cursor.epoch) ||
        !cli_number(&f->cli, "--since", seq, 0, UINT64_MAX, &cursor.seq))
        return false;
    struct weir_cursor *cursors = realloc(f->cursors, (f->wanted.cursor_count + 1) * sizeof *cursors);
    if (cursors == NULL)
        return false;
    cursors[f->wanted.cursor_count++] = cursor;
    f->wanted.cursors = f->cursors = cursors;
    return true;
}

static int arguments_read(struct following *f, int argc, char **argv)
{
    int option = 0, code = -1;
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (cli_option(&f->cli, option, help, &code)) {
            if (code >= 0)
                return code;
            continue;
        }
        switch (option) {
        case OPTION_POLICY:
            if (policy_find(view_text(optarg), &(enum overflow_policy){POLICY_RESYNC}) != WEIR_OK)
                return cli_fail(&f->cli, CLI_USAGE,
                                "--policy: '%s' is none of resync, block, conflate, drop, disconnect", optarg);
            f->wanted.policy = optarg;
            break;
        case OPTION_INTERVAL_MS:
            if (!cli_number(&f->cli, "--interval-ms", optarg, 0, UINT32_MAX, &f->wanted.interval_ms))
                return CLI_USAGE;
            break;
        case OPTION_KEY: f->wanted.key = optarg; break;
        case OPTION_PREFIX: f->wanted.prefix = optarg; break;
        case OPTION_BLOCK_MS:
            if (!cli_number(&f->cli, "--block-ms", optarg, 0, UINT32_MAX, &f->wanted.block_ms))
                return CLI_USAGE;
            break;
        case OPTION_SINCE:
            if (!cursor_add(f, optarg))
                return CLI_USAGE;
            break;
        case OPTION_COUNT:
            if (!cli_number(&f->cli, "--count", optarg, 1, UINT64_MAX, &f->count_max))
                return CLI_USAGE;
            break;
        case OPTION_SNAPSHOT_ONLY: f->wanted.snapshot_only = true; break;
        case OPTION_NO_SNAPSHOT: f->wanted.no_snapshot = true; break;
        default: f->verbose = true; break;
        }
    }
    if (f->wanted.key != NULL && f->wanted.prefix != NULL)
        return cli_fail(&f->cli, CLI_USAGE, "give --key or --prefix, not both");
    if (optind == argc || argc - optind > PATTERNS_MAX || (f->wanted.snapshot_only && f->wanted.no_snapshot)) {
        fprintf(stderr, "weir sub: give 1 to %d patterns, and not both --snapshot-only and --no-snapshot\n",
                PATTERNS_MAX);
        return CLI_USAGE;
    }
    return -1;
}

/* ------------------------------------------------------------------------------------------------ output */

static void print_json(const struct weir_event *event)
{
    printf("{\"event\":\"%s\"", weir_event_name(event->kind));
    if (event->topic.size > 0) {
        printf(",\"topic\":");
        cli_print_string(stdout, event->topic.data, event->topic.size);
    }
    if (event->epoch != 0)
        printf(",\"epoch\":%llu", (unsigned long long)event->epoch);
    if (event->kind == WEIR_EVENT_GAP || event->kind == WEIR_EVENT_CONFLATED)
        printf(",\"from\":%llu,\"to\":%llu", (unsigned long long)event->seq, (unsigned long long)event->seq_to);
    else if (event->kind == WEIR_EVENT_BEGIN || event->kind == WEIR_EVENT_END || event->kind == WEIR_EVENT_UPDATE ||
             event->kind == WEIR_EVENT_IDLE)
        printf(",\"seq\":%llu", (unsigned long long)event->seq);
    if (event->kind == WEIR_EVENT_SUBSCRIBED)
        printf(",\"topics\":%llu", (unsigned long long)event->count);
    if (event->kind == WEIR_EVENT_BEGIN)
        printf(",\"kind\":\"%s\",\"resumed\":%s", event->topic_kind, event->resumed ? "true" : "false");
    if (event->delta)
        printf(",\"delta\":true");
    if (event->key.data != NULL) {
        printf(",\"key\":");
        cli_print_string(stdout, event->key.data, event->key.size);
    }
    if (event->value.data != NULL) {
        printf(",\"value\":");
        cli_print_value(stdout, view_of(event->value.data, event->value.size), true);
    }
    if (event->kind == WEIR_EVENT_ENDED)
        printf(",\"code\":\"%s\"", weir_error_code(event->error));
    if (event->cause.size > 0) {
        printf(",\"cause\":");
        cli_print_string(stdout, event->cause.data, event->cause.size);
    }
    printf("}\n");
}

static void print_text(const struct following *f, const struct weir_event *event)
{
    if (event->kind == WEIR_EVENT_ENTRY || event->kind == WEIR_EVENT_UPDATE) {
        fwrite(event->topic.data, 1, event->topic.size, stdout);
        if (event->key.data != NULL) {
            putchar(' ');
            fwrite(event->key.data, 1, event->key.size, stdout);
        }
        putchar(' ');
        cli_print_value(stdout, view_of(event->value.data, event->value.size), false);
        putchar('\n');
    } else if (f->verbose) {
        fflush(stdout);
        fprintf(stderr, "# %s %.*s epoch %llu seq %llu %.*s\n", weir_event_name(event->kind), (int)event->topic.size,
                (const char *)event->topic.data, (unsigned long long)event->epoch, (unsigned long long)event->seq,
                (int)event->cause.size, (const char *)event->cause.data);
    }
}

/* ----------------------------------------------------------------------------------------------- following */

static bool is_complete(const struct following *f, size_t i)
{
    return f->wanted.snapshot_only && f->expected[i] != UINT64_MAX && f->ended[i] >= f->expected[i];
}

/* Returns an exit code, -1 to go on. */
static int on_event(struct following *f, size_t i, const struct weir_event *event)
{
    if (f->cli.json)
        print_json(event);
    else
        print_text(f, event);
    if (event->kind == WEIR_EVENT_SUBSCRIBED)
        f->expected[i] = event->count;
    if (event->kind == WEIR_EVENT_ENDED && event->topic.size > 0)
        f->ended[i]++;
    if (event->kind == WEIR_EVENT_ENDED && event->topic.size == 0 && event->error != WEIR_OK)
        return cli_fail(&f->cli, cli_code(event->error), "the broker ended the subscription: %.*s (%s)",
                        (int)event->cause.size, (const char *)event->cause.data, weir_error_code(event->error));
    if (event->kind == WEIR_EVENT_ENTRY || event->kind == WEIR_EVENT_UPDATE) {
        if (++f->count == f->count_max)
            return CLI_OK;
    }
    return -1;
}

/* Everything that is there already from one subscription; -1 to go on. */
static int drain(struct following *f, size_t i)
{
    struct weir_event event;
    enum weir_error error = WEIR_OK;
    while ((error = weir_next(f->subscriptions[i], 0, &event)) == WEIR_OK) {
        int code = on_event(f, i, &event);
        if (code >= 0)
            return code;
        if (is_complete(f, i))
            break;
    }
    if (error == WEIR_CLOSED || is_complete(f, i)) {
        weir_unsubscribe(&f->subscriptions[i]);
        f->over++;
    }
    return -1;
}

static bool is_answered(const struct following *f)
{
    for (size_t i = 0; i < f->patterns; i++) {
        if (f->subscriptions[i] != NULL && f->expected[i] == UINT64_MAX)
            return false;
    }
    return true;
}

/* Has the reader of standard output gone (head, for example)? Without this an idle topic would keep the command for
 * ever. */
static bool is_unread(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return ferror(stdout) || (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLNVAL)) != 0);
}

static size_t index_of(const struct following *f, const struct weir_subscription *subscription)
{
    size_t i = 0;
    while (i < f->patterns && f->subscriptions[i] != subscription)
        i++;
    return i;
}

static int follow(struct following *f, struct weir *client)
{
    while (f->over < f->patterns) {
        struct weir_subscription *ready = NULL;
        int code = -1;
        if (weir_await(client, LOOK_MS, &ready) == WEIR_OK)
            code = drain(f, index_of(f, ready));
        fflush(stdout);
        if (code >= 0)
            return code;
        if (is_unread())
            return CLI_OK;
        if (clock_now_ns() > f->answer_deadline_ns && !is_answered(f))
            return cli_fail(&f->cli, CLI_TIMEOUT, "the broker did not answer the subscription in time");
    }
    return CLI_OK;
}

int sub_main(int argc, char **argv)
{
    struct following f = {.over = 0};
    struct weir *client = NULL;
    cli_init(&f.cli, "sub");
    int code = arguments_read(&f, argc, argv);
    if (code < 0)
        code = cli_connect(&f.cli, NULL, &client);
    else {
        free(f.cursors);
        return code;
    }
    f.answer_deadline_ns = clock_now_ns() + f.cli.timeout_ms * NS_PER_MS;
    for (int i = optind; code == CLI_OK && i < argc; i++) {
        f.expected[f.patterns] = UINT64_MAX;
        enum weir_error error = weir_subscribe(client, argv[i], &f.wanted, &f.subscriptions[f.patterns]);
        if (error == WEIR_OK)
            f.patterns++;
        else
            code = cli_fail(&f.cli, CLI_USAGE, "'%s': %s", argv[i], weir_reason());
    }
    if (code == CLI_OK)
        code = follow(&f, client);
    fflush(stdout);
    weir_close(&client, 0);
    free(f.cursors);
    return code;
}
