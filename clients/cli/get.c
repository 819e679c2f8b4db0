/* `weir get` and `weir list`: one question, one answer. Main thread. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/limits.h"
#include "clients/cli/cli.h"
#include "clients/wire/json.h"
#include "clients/wire/request.h"

static const char get_help[] =
    "weir get: print the state of a topic, of one key of it, or of some\n"
    "\n"
    "usage: weir get [options] TOPIC [KEY]\n"
    "\n" CLI_OPTIONS_HELP "      --prefix P          of a map or merged map: only keys that begin so\n"
    "      --limit N           of these: at most N entries; where others follow, stderr says behind which key\n"
    "      --after K           of these: go on behind this key, in the broker's own order\n"
    "      --all               of these: page after page (of --limit entries; default 1000), until all are printed\n"
    "\n"
    "Prints the state alone; with --json {\"topic\",\"epoch\",\"seq\",\"kind\",\"state\",\"next\"?}, with --all one a\n"
    "page. A state too large for one message is refused: use --all, or weir sub --snapshot-only. Pages are each of "
    "their\n"
    "own moment: a key that stays in the map meanwhile is printed exactly once.\n" CLI_EXIT_HELP;

static const char list_help[] = "weir list: list topics\n"
                                "\n"
                                "usage: weir list [options] [PATTERN]        (default '#': all)\n"
                                "\n" CLI_OPTIONS_HELP "\n" CLI_EXIT_HELP;

enum { OPTION_PREFIX = CLI_OPTION_VERB, OPTION_LIMIT, OPTION_AFTER, OPTION_ALL, PAGE_ENTRIES = 1000 };

static const struct option list_options[] = {CLI_OPTIONS, {NULL, 0, NULL, 0}};
static const struct option get_options[] = {CLI_OPTIONS,
                                            {"prefix", required_argument, NULL, OPTION_PREFIX},
                                            {"limit", required_argument, NULL, OPTION_LIMIT},
                                            {"after", required_argument, NULL, OPTION_AFTER},
                                            {"all", no_argument, NULL, OPTION_ALL},
                                            {NULL, 0, NULL, 0}};

struct getting {
    struct cli cli;
    const char *topic, *key;
    struct weir_page page;
    bool is_paged, is_all;
    bool is_scalar; /* what was printed is no map */
    uint64_t epoch; /* of the pages so far; 0: none yet */
    uint64_t printed;
};

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
        if (args_find(result, VALUE_DEPTH_LIMIT, "state", &state) == WEIR_OK)
            cli_print_value(stdout, state, false);
        putchar('\n');
        return;
    }
    uint64_t epoch = 0, seq = 0;
    struct view kind = view_text(""), next;
    bool is_whole = args_find_uint(result, "epoch", &epoch) == WEIR_OK &&
                    args_find_uint(result, "seq", &seq) == WEIR_OK && args_find_str(result, "kind", &kind) == WEIR_OK;
    printf("{\"topic\":");
    cli_print_string(stdout, topic, strlen(topic));
    if (is_whole)
        printf(",\"epoch\":%llu,\"seq\":%llu,\"kind\":\"%.*s\"", (unsigned long long)epoch, (unsigned long long)seq,
               (int)kind.size, (const char *)kind.data);
    printf(",\"state\":");
    if (args_find(result, VALUE_DEPTH_LIMIT, "state", &state) == WEIR_OK)
        cli_print_value(stdout, state, true);
    else
        printf("null");
    if (args_find_str(result, "next", &next) == WEIR_OK) {
        printf(",\"next\":");
        cli_print_string(stdout, next.data, next.size);
    }
    printf("}\n");
}

/* Returns an exit code, -1 to go on. */
static int get_arguments(struct getting *get, int argc, char **argv)
{
    int option = 0, code = -1;
    while ((option = getopt_long(argc, argv, "s:", get_options, NULL)) != -1) {
        if (cli_option(&get->cli, option, get_help, &code)) {
            if (code >= 0)
                return code;
            continue;
        }
        get->is_paged = true;
        switch (option) {
        case OPTION_PREFIX: get->page.prefix = optarg; break;
        case OPTION_AFTER: get->page.after = (struct weir_view){(const uint8_t *)optarg, strlen(optarg)}; break;
        case OPTION_LIMIT:
            if (!cli_number(&get->cli, "--limit", optarg, 1, UINT32_MAX, &get->page.limit))
                return CLI_USAGE;
            break;
        default: get->is_all = true; break;
        }
    }
    if (argc - optind < 1 || argc - optind > (get->is_paged ? 1 : 2)) {
        fputs(get_help, stderr);
        return CLI_USAGE;
    }
    get->topic = argv[optind];
    get->key = argv[optind + 1];
    if (get->is_all && get->page.limit == 0)
        get->page.limit = PAGE_ENTRIES;
    return -1;
}

/* The entries of a page as members of one JSON object that all pages share. A merge topic's state that is no map has no
 * pages. */
static void print_members(struct getting *get, struct view result)
{
    struct view state;
    char *text = NULL;
    size_t size = 0;
    if (args_find(result, VALUE_DEPTH_LIMIT, "state", &state) != WEIR_OK ||
        json_from_msgpack(state, 65, &text, &size) != WEIR_OK)
        return;
    bool is_map = size > 1 && text[0] == '{';
    if (is_map && size > 2) {
        putchar(get->printed++ == 0 ? '{' : ',');
        fwrite(text + 1, 1, size - 2, stdout);
    } else if (!is_map) {
        get->is_scalar = true;
        fwrite(text, 1, size, stdout);
    }
    free(text);
}

/* Prints one answer. -1: there is more to ask for; its key is in *next. */
static int get_print(struct getting *get, struct view result, struct view *next)
{
    uint64_t epoch = 0;
    bool has_next = args_find_str(result, "next", next) == WEIR_OK;
    bool is_whole = args_find_uint(result, "epoch", &epoch) == WEIR_OK;
    if (get->epoch != 0 && (!is_whole || epoch != get->epoch))
        return cli_fail(&get->cli, CLI_REFUSED, "%s: the topic was emptied between two pages: start over", get->topic);
    get->epoch = epoch;
    if (get->cli.json || !get->is_all) {
        print_state(&get->cli, get->topic, result);
    } else {
        print_members(get, result);
        if (!has_next)
            puts(get->is_scalar ? "" : get->printed == 0 ? "{}" : "}");
    }
    if (has_next && !get->is_all && !get->cli.json) {
        fflush(stdout);
        fprintf(stderr, "# more follow: --after %.*s\n", (int)next->size, (const char *)next->data);
    }
    return has_next && get->is_all ? -1 : CLI_OK;
}

/* Asks once, prints, and moves the page on. -1: once more. */
static int get_once(struct getting *get, struct weir *client, uint8_t after[KEY_SIZE_MAX])
{
    struct weir_reply reply;
    struct view next = view_of(NULL, 0);
    int code = CLI_OK;
    enum weir_error error = get->is_paged ? weir_get_page(client, get->topic, &get->page, get->cli.timeout_ms, &reply)
                                          : weir_get(client, get->topic, get->key, get->cli.timeout_ms, &reply);
    if (error != WEIR_OK)
        code = cli_fail(&get->cli, cli_code(error), "%s: %s", get->topic, weir_reason());
    else if (reply.error != WEIR_OK)
        code = reply_refused(&get->cli, get->topic, &reply);
    else
        code = get_print(get, view_of(reply.result, reply.result_size), &next);
    bool is_key = next.data != NULL && next.size <= KEY_SIZE_MAX;
    if (code == -1 && is_key) {
        memcpy(after, next.data, next.size);
        get->page.after = (struct weir_view){after, next.size};
    } else if (code == -1) {
        code = cli_fail(&get->cli, CLI_CONNECT, "%s: the broker names a key that cannot be", get->topic);
    }
    weir_reply_free(&reply);
    return code;
}

int get_main(int argc, char **argv)
{
    struct getting get = {.topic = NULL};
    struct weir *client = NULL;
    uint8_t after[KEY_SIZE_MAX];
    cli_init(&get.cli, "get");
    int code = get_arguments(&get, argc, argv);
    if (code >= 0)
        return code;
    code = cli_connect(&get.cli, NULL, &client);
    if (code != CLI_OK)
        return code;
    do
        code = get_once(&get, client, after);
    while (code == -1);
    weir_close(&client, 0);
    return code;
}

/* Returns an exit code, -1 to go on. */
static int list_begin(struct cli *cli, int argc, char **argv, struct weir **client)
{
    int option = 0, code = -1;
    while ((option = getopt_long(argc, argv, "s:", list_options, NULL)) != -1) {
        if (cli_option(cli, option, list_help, &code) && code >= 0)
            return code;
    }
    if (argc - optind > 1) {
        fputs(list_help, stderr);
        return CLI_USAGE;
    }
    code = cli_connect(cli, NULL, client);
    return code == CLI_OK ? -1 : code;
}

int list_main(int argc, char **argv)
{
    struct cli cli;
    struct weir *client = NULL;
    struct weir_reply reply;
    cli_init(&cli, "list");
    int code = list_begin(&cli, argc, argv, &client);
    if (code >= 0)
        return code;
    const char *pattern = optind < argc ? argv[optind] : "#";
    enum weir_error error = weir_list(client, pattern, cli.timeout_ms, &reply);
    if (error != WEIR_OK) {
        code = cli_fail(&cli, cli_code(error), "%s: %s", pattern, weir_reason());
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
