/* `weir admin`: one request to the admin socket. Main thread. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/limits.h"
#include "broker/main/config.h"
#include "clients/cli/ask.h"
#include "clients/cli/cli.h"
#include "clients/wire/request.h"

static const char help[] =
    "weir admin: look into a running broker and steer it\n"
    "\n"
    "usage: weir admin [options] COMMAND [ARGUMENTS]\n"
    "\n"
    "  status                       version, uptime, rates, memory by owner, load of the workers\n"
    "  topics [PATTERN]             kind, epoch, seq, bytes, mailbox, subscribers, refusals\n"
    "  connections                  who is connected, and what they did\n"
    "  subscriptions [PATTERN]      lag, credit, policy, resyncs\n"
    "  tree                         the supervision tree: state, restarts, last cause\n"
    "  why TOPIC                    who holds this topic back, and since when\n"
    "  restart ACTOR                by its name in the tree\n"
    "  dead [TOPIC]                 quarantined records\n"
    "  dead replay|drop TOPIC       publish them again, or forget them\n"
    "  disconnect ID                cut a connection (ID from connections)\n"
    "  topic create TOPIC [KIND]    KIND: last, map, log, merge or plugin:NAME; else by the rules\n"
    "  topic delete|clear TOPIC     end it, or forget its state\n"
    "  plugin list                  plugins: state, process, counts, restarts, why they last failed\n"
    "  plugin load NAME             start one that is configured, and say whether it runs\n"
    "  plugin unload NAME           end one, and say what its topics would not take in time\n"
    "  plugin reload NAME           run its file as it is now, with its state carried over\n"
    "  config show                  every setting, its default and whether SIGHUP can change it\n"
    "  log LEVEL                    debug, info, warning, error or off\n"
    "  drain                        no new clients; say goodbye to those that are there\n"
    "  shutdown                     stop the broker in order\n"
    "\n"
    "  -s, --server URL    the admin socket, ipc://PATH; default $WEIR_ADMIN, else as weir serve chooses it\n"
    "      --json          the reply as JSON\n"
    "      --timeout MS    give up after so long; default 5000\n"
    "      --help          this text\n"
    "\n" CLI_EXIT_HELP;

static const struct option options[] = {CLI_OPTIONS, {NULL, 0, NULL, 0}};

/* For figures beside a measurement, which can do without them. */
enum { ADMIN_NUMBER_MS = 1000 };

/* What each command takes. action: a second word of the command; arguments: their names, the
 * first `needed` of which must be given. */
static const struct command {
    const char *name, *action;
    const char *arguments[2];
    int needed;
} commands[] = {
    {"status", NULL, {NULL}, 0},       {"topics", NULL, {"pattern"}, 0},
    {"connections", NULL, {NULL}, 0},  {"subscriptions", NULL, {"pattern"}, 0},
    {"tree", NULL, {NULL}, 0},         {"why", NULL, {"topic"}, 1},
    {"restart", NULL, {"actor"}, 1},   {"dead", "replay", {"topic"}, 1},
    {"dead", "drop", {"topic"}, 1},    {"dead", NULL, {"topic"}, 0},
    {"disconnect", NULL, {"id"}, 1},   {"topic", "create", {"topic", "kind"}, 1},
    {"topic", "delete", {"topic"}, 1}, {"topic", "clear", {"topic"}, 1},
    {"config", "show", {NULL}, 0},     {"log", NULL, {"level"}, 1},
    {"plugin", "list", {NULL}, 0},     {"plugin", "load", {"name"}, 1},
    {"plugin", "unload", {"name"}, 1}, {"plugin", "reload", {"name"}, 1},
    {"drain", NULL, {NULL}, 0},        {"shutdown", NULL, {NULL}, 0},
};

static const struct command *command_find(int count, char **words)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *c = &commands[i];
        int used = c->action != NULL ? 2 : 1, takes = 0;
        if (count < used || strcmp(words[0], c->name) != 0 || (used == 2 && strcmp(words[1], c->action) != 0))
            continue;
        while (takes < 2 && c->arguments[takes] != NULL)
            takes++;
        if (count - used >= c->needed && count - used <= takes)
            return c;
    }
    return NULL;
}

/* [command, {action?, arguments...}] */
static size_t request_make(const struct command *command, int count, char **words, uint8_t *out, size_t capacity)
{
    struct value_writer args, body;
    uint8_t encoded[1024];
    int used = command->action != NULL ? 2 : 1;
    value_writer_init(&args, encoded, sizeof encoded);
    value_write_map(&args, (uint32_t)(count - used + (command->action != NULL)));
    if (command->action != NULL) {
        value_write_str(&args, view_text("action"));
        value_write_str(&args, view_text(command->action));
    }
    for (int i = used; i < count; i++) {
        const char *name = command->arguments[i - used];
        value_write_str(&args, view_text(name));
        if (strcmp(name, "id") == 0)
            value_write_uint(&args, strtoull(words[i], NULL, 10));
        else
            value_write_str(&args, view_text(words[i]));
    }
    value_writer_init(&body, out, capacity);
    request_write(&body, view_text(command->name), view_of(encoded, args.size));
    return args.is_full || body.is_full ? 0 : body.size;
}

static int answer_print(const struct cli *cli, const char *command, struct view body)
{
    struct reply reply;
    if (reply_read(body, 64, &reply) != WEIR_OK)
        return cli_fail(cli, CLI_CONNECT, "what answered is no Weir admin socket");
    if (!reply.ok) {
        enum weir_error error = weir_error_from_code((const char *)reply.code.data, reply.code.size);
        return cli_fail(cli, error == WEIR_TIMEOUT ? CLI_TIMEOUT : CLI_REFUSED, "%s: %.*s (%.*s)", command,
                        (int)reply.message.size, (const char *)reply.message.data, (int)reply.code.size,
                        (const char *)reply.code.data);
    }
    cli_print_result(cli, stdout, reply.result);
    return CLI_OK;
}

static int admin_ask(const struct cli *cli, const struct command *command, struct view request)
{
    uint8_t *answer = NULL;
    size_t answer_size = 0;
    const char *reason = "";
    enum weir_error error = ask(cli->url, cli->timeout_ms, request, &answer, &answer_size, &reason);
    if (error == WEIR_TIMEOUT)
        return cli_fail(cli, CLI_TIMEOUT, "no answer from %s in time", cli->url);
    if (error != WEIR_OK)
        return cli_fail(cli, CLI_CONNECT,
                        "cannot reach the admin socket %s: %s; is a broker running there, started by the same user?",
                        cli->url, reason);
    int code = answer_print(cli, command->name, view_of(answer, answer_size));
    free(answer);
    return code;
}

const char *cli_admin_url(const struct cli *cli)
{
    const char *fallback = getenv("WEIR_ADMIN");
    if (cli->url != NULL)
        return cli->url;
    return fallback != NULL && *fallback != '\0' ? fallback : config_admin_default();
}

bool cli_admin_number(const char *url, const char *key, uint64_t *out)
{
    uint8_t request[64], *answer = NULL;
    size_t answer_size = 0;
    struct reply reply;
    const char *reason = "";
    char *words[] = {(char[]){"status"}};
    size_t size = request_make(&commands[0], 1, words, request, sizeof request);
    if (ask(url, ADMIN_NUMBER_MS, view_of(request, size), &answer, &answer_size, &reason) != WEIR_OK)
        return false;
    bool is_found = reply_read(view_of(answer, answer_size), 64, &reply) == WEIR_OK && reply.ok &&
                    args_find_uint(reply.result, key, out) == WEIR_OK;
    free(answer);
    return is_found;
}

int admin_main(int argc, char **argv)
{
    struct cli cli;
    uint8_t request[2048];
    int option = 0, code = -1;
    cli_init(&cli, "admin");
    while ((option = getopt_long(argc, argv, "+s:", options, NULL)) != -1) {
        if (cli_option(&cli, option, help, &code) && code >= 0)
            return code;
    }
    /* Options may also stand behind the command. */
    char *words[8];
    int count = 0;
    while (optind < argc && count < 8) {
        words[count++] = argv[optind++];
        while ((option = getopt_long(argc, argv, "+s:", options, NULL)) != -1) {
            if (cli_option(&cli, option, help, &code) && code >= 0)
                return code;
        }
    }
    const struct command *command = count > 0 && optind == argc ? command_find(count, words) : NULL;
    if (command == NULL) {
        fputs(count == 0 ? help : "weir admin: no such command, or wrong arguments; see weir admin --help\n", stderr);
        return CLI_USAGE;
    }
    cli.url = cli_admin_url(&cli);
    size_t size = request_make(command, count, words, request, sizeof request);
    if (size == 0)
        return cli_fail(&cli, CLI_USAGE, "the arguments are too long");
    return admin_ask(&cli, command, view_of(request, size));
}
