/* `weir get` and `weir list`: one question, one answer. Main thread. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/wire/request.h"

static const char get_help[] =
    "weir get: print the state of a topic, or of one key of it\n"
    "\n"
    "usage: weir get [options] TOPIC [KEY]\n"
    "\n" CLI_OPTIONS_HELP "\n"
    "Prints the state alone; with --json {\"topic\",\"epoch\",\"seq\",\"kind\",\"state\"}. A state too large for one\n"
    "message is refused: use weir sub --snapshot-only.\n" CLI_EXIT_HELP;

static const char list_help[] = "weir list: list topics\n"
                                "\n"
                                "usage: weir list [options] [PATTERN]        (default '#': all)\n"
                                "\n" CLI_OPTIONS_HELP "\n" CLI_EXIT_HELP;

static const struct option options[] = {CLI_OPTIONS, {NULL, 0, NULL, 0}};

static int reply_refused(const struct cli *cli, const char *what, const struct weir_reply *reply)
{
    return cli_fail(cli, cli_code(reply->error) == CLI_OK ? CLI_REFUSED : cli_code(reply->error), "%s: %s (%s)", what,
                    reply->message != NULL ? reply->message : weir_error_text(reply->error),
                    weir_error_code(reply->error));
}

static void print_state(const struct cli *cli, const char *topic, struct view result)
{
    struct view state;
    if (!cli->json) {
        if (args_find(result, 64, "state", &state) == WEIR_OK)
            cli_print_value(stdout, state, false);
        putchar('\n');
        return;
    }
    uint64_t epoch = 0, seq = 0;
    struct view kind = view_text("");
    bool is_whole = args_find_uint(result, "epoch", &epoch) == WEIR_OK &&
                    args_find_uint(result, "seq", &seq) == WEIR_OK && args_find_str(result, "kind", &kind) == WEIR_OK;
    printf("{\"topic\":");
    cli_print_string(stdout, topic, strlen(topic));
    if (is_whole)
        printf(",\"epoch\":%llu,\"seq\":%llu,\"kind\":\"%.*s\"", (unsigned long long)epoch, (unsigned long long)seq,
               (int)kind.size, (const char *)kind.data);
    printf(",\"state\":");
    if (args_find(result, 64, "state", &state) == WEIR_OK)
        cli_print_value(stdout, state, true);
    else
        printf("null");
    printf("}\n");
}

/* Common to both: options, arguments, connection. Returns an exit code, -1 to go on. */
static int ask_begin(struct cli *cli, int argc, char **argv, const char *help, int min, int max, struct weir **client)
{
    int option = 0, code = -1;
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (cli_option(cli, option, help, &code) && code >= 0)
            return code;
    }
    if (argc - optind < min || argc - optind > max) {
        fputs(help, stderr);
        return CLI_USAGE;
    }
    code = cli_connect(cli, NULL, client);
    return code == CLI_OK ? -1 : code;
}

int get_main(int argc, char **argv)
{
    struct cli cli;
    struct weir *client = NULL;
    struct weir_reply reply;
    cli_init(&cli, "get");
    int code = ask_begin(&cli, argc, argv, get_help, 1, 2, &client);
    if (code >= 0)
        return code;
    const char *topic = argv[optind];
    enum weir_error error =
        weir_get(client, topic, optind + 1 < argc ? argv[optind + 1] : NULL, cli.timeout_ms, &reply);
    if (error != WEIR_OK) {
        code = cli_fail(&cli, cli_code(error), "%s: %s", topic, weir_error_text(error));
    } else if (reply.error != WEIR_OK) {
        code = reply_refused(&cli, topic, &reply);
    } else {
        print_state(&cli, topic, view_of(reply.result, reply.result_size));
        code = CLI_OK;
    }
    weir_reply_free(&reply);
    weir_close(&client, 0);
    return code;
}

int list_main(int argc, char **argv)
{
    struct cli cli;
    struct weir *client = NULL;
    struct weir_reply reply;
    cli_init(&cli, "list");
    int code = ask_begin(&cli, argc, argv, list_help, 0, 1, &client);
    if (code >= 0)
        return code;
    const char *pattern = optind < argc ? argv[optind] : "#";
    enum weir_error error = weir_list(client, pattern, cli.timeout_ms, &reply);
    if (error != WEIR_OK) {
        code = cli_fail(&cli, cli_code(error), "%s: %s", pattern, weir_error_text(error));
    } else if (reply.error != WEIR_OK) {
        code = reply_refused(&cli, pattern, &reply);
    } else {
        cli_print_result(&cli, stdout, view_of(reply.result, reply.result_size));
        code = CLI_OK;
    }
    weir_reply_free(&reply);
    weir_close(&client, 0);
    return code;
}
