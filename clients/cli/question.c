/* `weir ask`: one question to a plugin, which answers by its own code. Main thread. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/wire/json.h"
#include "clients/wire/request.h"

static const char help[] =
    "weir ask: ask a plugin, and print its reply\n"
    "\n"
    "usage: weir ask [options] TOPIC [VALUE]           TOPIC of kind plugin:NAME\n"
    "       weir ask [options] --plugin NAME [VALUE]   a plugin by its own name, of either role\n"
    "\n" CLI_OPTIONS_HELP "                      with --json VALUE and the reply are JSON, else text; default: nil\n"
    "      --plugin NAME   as above\n"
    "\n"
    "What can be asked is the plugin's to say: weir admin plugin list names those that run. The broker waits for a\n"
    "reply as long as its reply deadline (5 s) says.\n" CLI_EXIT_HELP;

enum { OPTION_PLUGIN = CLI_OPTION_VERB, DEPTH_MAX = 64, ARGS_EXTRA = 64 };

static const struct option options[] = {
    CLI_OPTIONS, {"plugin", required_argument, NULL, OPTION_PLUGIN}, {NULL, 0, NULL, 0}};

struct question {
    struct cli cli;
    const char *by, *name; /* "topic" or "plugin"; which */
    const char *text;      /* NULL: nil */
};

/* Returns an exit code, -1 to go on. */
static int arguments_read(struct question *question, int argc, char **argv)
{
    int option = 0, code = -1;
    question->by = "topic";
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (cli_option(&question->cli, option, help, &code)) {
            if (code >= 0)
                return code;
            continue;
        }
        question->by = "plugin";
        question->name = optarg;
    }
    if (question->name == NULL && optind < argc)
        question->name = argv[optind++];
    if (question->name == NULL || argc - optind > 1) {
        fputs(help, stderr);
        return CLI_USAGE;
    }
    question->text = argv[optind];
    return -1;
}

/* {by: name, "value": value} in memory of its own. NULL, and why: *reason. */
static uint8_t *args_make(const struct question *question, size_t *size, const char **reason)
{
    const char *json = question->text == NULL ? "null" : question->text;
    uint8_t *value = NULL;
    size_t value_size = 0, text_size = strlen(json);
    bool is_text = question->text != NULL && !question->cli.json;
    *reason = "no memory";
    if (!is_text && json_to_msgpack(view_text(json), DEPTH_MAX, &value, &value_size, reason) != WEIR_OK)
        return NULL;
    size_t capacity = strlen(question->name) + value_size + text_size + ARGS_EXTRA;
    uint8_t *args = malloc(capacity);
    if (args != NULL) {
        struct value_writer writer;
        value_writer_init(&writer, args, capacity);
        value_write_map(&writer, 2);
        value_write_str(&writer, view_text(question->by));
        value_write_str(&writer, view_text(question->name));
        value_write_str(&writer, view_text("value"));
        if (is_text)
            value_write_str(&writer, view_text(question->text));
        else
            value_write_raw(&writer, view_of(value, value_size));
        *size = writer.size;
    }
    free(value);
    return args;
}

static int ask(const struct question *question, struct weir *client, struct weir_view args)
{
    const struct cli *cli = &question->cli;
    struct weir_reply reply;
    struct view value;
    int code = CLI_OK;
    enum weir_error error = weir_request(client, "ask", args, cli->timeout_ms, &reply);
    if (error != WEIR_OK) {
        code = cli_fail(cli, cli_code(error), "%s: %s", question->name, weir_reason());
    } else if (reply.error != WEIR_OK) {
        code = cli_fail(cli, cli_code(reply.error) == CLI_OK ? CLI_REFUSED : cli_code(reply.error), "%s: %s (%s)",
                        question->name, reply.message != NULL ? reply.message : weir_error_text(reply.error),
                        weir_error_code(reply.error));
    } else if (args_find(view_of(reply.result, reply.result_size), VALUE_DEPTH_LIMIT, "value", &value) == WEIR_OK) {
        cli_print_value(stdout, value, cli->json);
        putchar('\n');
    } else {
        code = cli_fail(cli, CLI_CONNECT, "%s: the broker's reply has no value", question->name);
    }
    weir_reply_free(&reply);
    return code;
}

int ask_main(int argc, char **argv)
{
    struct question question = {.text = NULL};
    struct weir *client = NULL;
    const char *reason = "";
    size_t size = 0;
    cli_init(&question.cli, "ask");
    int code = arguments_read(&question, argc, argv);
    if (code >= 0)
        return code;
    uint8_t *args = args_make(&question, &size, &reason);
    if (args == NULL)
        return cli_fail(&question.cli, CLI_USAGE, "VALUE: %s", reason);
    code = cli_connect(&question.cli, NULL, &client);
    if (code == CLI_OK)
        code = ask(&question, client, (struct weir_view){args, size});
    if (client != NULL)
        weir_close(&client, 0);
    free(args);
    return code;
}
