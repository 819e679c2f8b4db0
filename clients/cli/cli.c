/* Options, connection and exit codes that the verbs share. Main thread. */
#include "clients/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void cli_init(struct cli *cli, const char *verb) { *cli = (struct cli){.verb = verb, .timeout_ms = 5000}; }

int cli_fail(const struct cli *cli, int code, const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "weir %s: ", cli->verb);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

int cli_code(enum weir_error error)
{
    switch (error) {
    case WEIR_OK: return CLI_OK;
    case WEIR_CONNECT:
    case WEIR_PROTOCOL:
    case WEIR_CLOSED:
    case WEIR_IO: return CLI_CONNECT;
    case WEIR_TIMEOUT: return CLI_TIMEOUT;
    default: return CLI_REFUSED;
    }
}

bool cli_number(const struct cli *cli, const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || errno != 0 || *end != '\0' || value < min || value > max) {
        cli_fail(cli, CLI_USAGE, "%s: '%s' is no number from %llu to %llu", option, text, (unsigned long long)min,
                 (unsigned long long)max);
        return false;
    }
    *out = value;
    return true;
}

bool cli_option(struct cli *cli, int option, const char *help, int *code)
{
    *code = -1;
    switch (option) {
    case 's': cli->url = optarg; return true;
    case CLI_OPTION_JSON: cli->json = true; return true;
    case CLI_OPTION_TIMEOUT:
        if (!cli_number(cli, "--timeout", optarg, 0, UINT32_MAX, &cli->timeout_ms))
            *code = CLI_USAGE;
        return true;
    case CLI_OPTION_HELP:
        fputs(help, stdout);
        *code = CLI_OK;
        return true;
    case '?':
    case ':':
        fprintf(stderr, "see weir %s --help\n", cli->verb);
        *code = CLI_USAGE;
        return true;
    default: return false;
    }
}

int cli_connect(const struct cli *cli, const struct weir_options *options, struct weir **out)
{
    struct weir_options used = {.connect_timeout_ms = cli->timeout_ms};
    const char *reason = "";
    if (options != NULL)
        used = *options;
    used.url = cli->url;
    enum weir_error error = weir_open(&used, out, &reason);
    if (error == WEIR_OK)
        return CLI_OK;
    const char *fallback = getenv("WEIR_URL");
    const char *url = cli->url != NULL ? cli->url : fallback != NULL && *fallback != '\0' ? fallback : WEIR_DEFAULT_URL;
    return cli_fail(cli, CLI_CONNECT, "cannot connect to %s: %s; is a broker running there (weir serve)?", url,
                    *reason != '\0' ? reason : weir_error_text(error));
}
