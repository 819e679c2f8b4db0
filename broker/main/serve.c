/* `weir serve`: its arguments, its greeting and its exit codes. Main thread. */
#include "broker/main/serve.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/plugin/processes.h"
#include "broker/main/boot.h"

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };

static const char help[] =
    "weir serve: run the broker in the foreground\n"
    "\n"
    "usage: weir serve [options]\n"
    "       weir serve --check FILE\n"
    "\n"
    "  -l, --listen URL        listen here, tcp://HOST:PORT or ipc://PATH; may be repeated. Port 0 takes a free\n"
    "                          one. Default: tcp://127.0.0.1:7450. Replaces what the file lists.\n"
    "      --admin URL         the admin socket, ipc://PATH. Default: ipc:///run/weir/admin.sock for root, else\n"
    "                          below $XDG_RUNTIME_DIR or /tmp/weir-UID\n"
    "  -t, --topic PATTERN=KIND[,SETTING=NUMBER]...\n"
    "                          how topics that match behave: last, map, log or merge; may be repeated. The first\n"
    "                          match decides, these before those of the file. 'prices/#=map',\n"
    "                          'events/+=log,log_count_max=1000'\n"
    "  -c, --config FILE       read this YAML file; deploy/weir.yaml lists every key with its default and reason\n"
    "      --check FILE        say whether the file is right, and exit\n"
    "      --workers N         scheduler threads; default: one for each processor\n"
    "      --log-level LEVEL   debug, info, warning, error or off\n"
    "      --insecure          allow listening outside loopback, although there is no authentication yet\n"
    "      --help              this text\n"
    "\n"
    "Signals: SIGINT and SIGTERM stop it in order, SIGHUP reads the file again and logs what cannot change.\n"
    "Logs are logfmt lines on stderr; the greeting goes to stdout.\n"
    "Exit: 0 stopped in order, 1 could not start or stop in order, 2 usage or configuration.\n";

struct serve_options {
    int argc;
    char **argv;
    const char *config_path, *check_path;
};

enum { OPTION_ADMIN = 256, OPTION_CHECK, OPTION_WORKERS, OPTION_LOG_LEVEL, OPTION_INSECURE, OPTION_HELP };

static const struct option long_options[] = {{"listen", required_argument, NULL, 'l'},
                                             {"admin", required_argument, NULL, OPTION_ADMIN},
                                             {"topic", required_argument, NULL, 't'},
                                             {"config", required_argument, NULL, 'c'},
                                             {"check", required_argument, NULL, OPTION_CHECK},
                                             {"workers", required_argument, NULL, OPTION_WORKERS},
                                             {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
                                             {"insecure", no_argument, NULL, OPTION_INSECURE},
                                             {"help", no_argument, NULL, OPTION_HELP},
                                             {NULL, 0, NULL, 0}};

static const char short_options[] = "l:t:c:";

/* The first pass: which file to read. Returns an exit code, -1 to go on. */
static int options_scan(struct serve_options *options)
{
    int option = 0;
    optind = 1;
    while ((option = getopt_long(options->argc, options->argv, short_options, long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(help, stdout);
            return EXIT_SUCCESS;
        }
        if (option == '?')
            return EXIT_USAGE;
        if (option == 'c')
            options->config_path = optarg;
        if (option == OPTION_CHECK)
            options->check_path = optarg;
    }
    if (optind < options->argc) {
        fprintf(stderr, "weir serve: unexpected argument '%s'; see weir serve --help\n", options->argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

static void listen_forget(struct config *config)
{
    while (config->listen_count > 0)
        free(config->listen[--config->listen_count]);
}

static enum weir_error number_parse(const char *name, const char *text, uint64_t max, uint64_t *out, char *error)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text == '\0' || *text == '-' || *end != '\0' || value > max) {
        snprintf(error, CONFIG_ERROR_SIZE, "%s: '%.100s' is no number from 0 to %llu", name, text,
                 (unsigned long long)max);
        return WEIR_BAD_REQUEST;
    }
    *out = value;
    return WEIR_OK;
}

struct applying {
    size_t rule_position;
    bool has_listen;
};

static enum weir_error option_apply(struct config *config, int option, const char *value, struct applying *applying,
                                    char *error)
{
    switch (option) {
    case 'l':
        if (!applying->has_listen)
            listen_forget(config);
        applying->has_listen = true;
        return config_listen_add(config, value, error);
    case 't': return config_topic_add(config, applying->rule_position++, value, error);
    case OPTION_ADMIN:
        free(config->admin);
        config->admin = strdup(value);
        return config->admin == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    case OPTION_WORKERS: return number_parse("--workers", value, 64, &config->broker.workers, error);
    case OPTION_INSECURE: config->insecure = true; return WEIR_OK;
    case OPTION_LOG_LEVEL:
        if (log_level_find(value, &config->log_level) == WEIR_OK)
            return WEIR_OK;
        snprintf(error, CONFIG_ERROR_SIZE, "--log-level: '%.100s' is none of debug, info, warning, error, off", value);
        return WEIR_BAD_REQUEST;
    default: return WEIR_OK;
    }
}

/* Defaults, then the file, then the command line; also the way of a reload. *config is to be finished in any case. */
static enum weir_error config_make(struct config *config, char error[CONFIG_ERROR_SIZE], void *context)
{
    struct serve_options *options = context;
    const char *path = options->check_path != NULL ? options->check_path : options->config_path;
    struct applying applying = {.has_listen = false};
    enum weir_error result = WEIR_OK;
    int option = 0;
    config_init(config);
    if (path != NULL)
        result = config_load(config, path, error);
    optind = 1;
    while (result == WEIR_OK &&
           (option = getopt_long(options->argc, options->argv, short_options, long_options, NULL)) != -1)
        result = option_apply(config, option, optarg != NULL ? optarg : "", &applying, error);
    if (result == WEIR_OK && config->listen_count == 0)
        result = config_listen_add(config, "tcp://127.0.0.1:7450", error);
    if (result == WEIR_OK && config->admin == NULL) {
        config->admin = strdup(config_admin_default());
        result = config->admin == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    }
    return result == WEIR_OK ? config_check(config, error) : result;
}

static void greet(const struct boot *boot)
{
    const char *first = boot_listener_url(boot, 0);
    for (size_t i = 0; boot_listener_url(boot, i) != NULL; i++)
        printf("weir %s listens on %s\n", WEIR_VERSION, boot_listener_url(boot, i));
    printf("admin socket: %s\n\n", boot_admin_url(boot));
    printf("Try, in another terminal:\n");
    printf("  weir sub -s %s 'greetings/#'\n", first);
    printf("  weir pub -s %s greetings/world 'hello'\n", first);
    printf("  weir admin -s %s status\n", boot_admin_url(boot));
    fflush(stdout);
}

static int serve_run(struct serve_options *options, struct config *config)
{
    char error[CONFIG_ERROR_SIZE] = "";
    struct boot *boot = NULL;
    struct boot_source source = {options->config_path, config_make, options};
    sigset_t signals;
    /* Before any thread is made, so that every thread has them blocked and the main one waits for them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (boot_start(config, &source, &boot, error) != WEIR_OK) {
        fprintf(stderr, "weir serve: %s\n", error);
        return EXIT_REFUSED;
    }
    greet(boot);
    enum weir_error result = boot_wait(boot);
    enum weir_error stopped = boot_stop(&boot);
    return result == WEIR_OK && stopped == WEIR_OK ? EXIT_SUCCESS : EXIT_REFUSED;
}

int serve_main(int argc, char **argv)
{
    struct serve_options options = {.argc = argc, .argv = argv};
    struct config config = {.listen_count = 0};
    char error[CONFIG_ERROR_SIZE] = "";
    int code = options_scan(&options);
    if (code >= 0)
        return code;
    /* Before there are descriptors that it would have to close, and where a failure can still be told. */
    if (options.check_path == NULL && processes_open(error, sizeof error) != WEIR_OK) {
        fprintf(stderr, "weir serve: %s\n", error);
        return EXIT_REFUSED;
    }
    if (config_make(&config, error, &options) != WEIR_OK) {
        fprintf(stderr, "weir serve: %s\n", error);
        config_fini(&config);
        processes_close();
        return EXIT_USAGE;
    }
    if (options.check_path != NULL) {
        printf("%s: fine\n", options.check_path);
        code = EXIT_SUCCESS;
    } else {
        code = serve_run(&options, &config);
    }
    config_fini(&config);
    processes_close();
    return code;
}
