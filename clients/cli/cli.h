/* What the verbs of `weir` share: common options, the connection, exit codes and output. Main thread. */
#ifndef CLIENTS_CLI_CLI_H
#define CLIENTS_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "clients/lib/weir.h"
#include "clients/wire/view.h"

enum cli_exit { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_CONNECT = 3, CLI_TIMEOUT = 4 };

struct cli {
    const char *verb; /* for messages */
    const char *url;
    bool json;
    uint64_t timeout_ms;
};

/* Options that every verb has; they go into its getopt_long table by CLI_OPTIONS. */
enum { CLI_OPTION_JSON = 1000, CLI_OPTION_TIMEOUT, CLI_OPTION_HELP, CLI_OPTION_VERB };
#define CLI_OPTIONS                                                                         \
    {"server", required_argument, NULL, 's'}, {"json", no_argument, NULL, CLI_OPTION_JSON}, \
        {"timeout", required_argument, NULL, CLI_OPTION_TIMEOUT},                           \
    {                                                                                       \
        "help", no_argument, NULL, CLI_OPTION_HELP                                          \
    }
#define CLI_OPTIONS_HELP                                                                         \
    "  -s, --server URL    the broker, tcp://HOST:PORT or ipc://PATH; default $WEIR_URL, else\n" \
    "                      tcp://127.0.0.1:7450\n"                                               \
    "      --json          JSON in and out, one object a line\n"                                 \
    "      --timeout MS    give up after so long; default 5000\n"                                \
    "      --help          this text\n"
#define CLI_EXIT_HELP "Exit: 0 ok, 1 refused by the broker, 2 usage, 3 cannot connect, 4 timeout.\n"

void cli_init(struct cli *cli, const char *verb);
/* Takes a common option; false when it is none, so that the verb looks at it. *code is an exit code to end with, or -1.
 */
bool cli_option(struct cli *cli, int option, const char *help, int *code);

/* Prints "weir VERB: ..." to stderr and returns code. */
__attribute__((format(printf, 3, 4))) int cli_fail(const struct cli *cli, int code, const char *format, ...);
/* The exit code for an error. */
int cli_code(enum weir_error error);

/* 0, or an exit code with the message printed. options may be NULL. */
int cli_connect(const struct cli *cli, const struct weir_options *options, struct weir **out);

/* Numbers on the command line. False with the message printed. */
bool cli_number(const struct cli *cli, const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* A msgpack value for people: text as it is, everything else as JSON; with json everything as JSON. */
void cli_print_value(FILE *out, struct view value, bool json);
/* Text as a JSON string, quotes included. */
void cli_print_string(FILE *out, const void *text, size_t size);

/* An encoded map for people: scalars as "key: value" lines, arrays of maps as tables with a head; or as JSON. */
void cli_print_result(const struct cli *cli, FILE *out, struct view result);

/* The admin socket's URL: --server, $WEIR_ADMIN or where weir serve puts it. */
const char *cli_admin_url(const struct cli *cli);
/* A number of the broker's status; false when it cannot be had. */
bool cli_admin_number(const char *url, const char *key, uint64_t *out);

/* The verbs: argv[0] is the verb; the exit code is returned. */
int pub_main(int argc, char **argv);
int sub_main(int argc, char **argv);
int get_main(int argc, char **argv);
int list_main(int argc, char **argv);
int ask_main(int argc, char **argv);
int admin_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int plugin_main(int argc, char **argv);

#endif
