/* The one binary: finds the verb and hands over. */
#include <stdio.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/plugin/processes.h"
#include "broker/main/serve.h"
#include "clients/cli/cli.h"

static const char help[] = "weir: a message broker whose topics have a present state\n"
                           "\n"
                           "usage: weir VERB [options]    (weir VERB --help tells more)\n"
                           "\n"
                           "  serve     run the broker\n"
                           "  pub       publish one record, or many from standard input\n"
                           "  sub       follow topics: their state first, then every update\n"
                           "  get       print the state of a topic, or of one key\n"
                           "  list      list topics\n"
                           "  ask       ask a plugin, and print its reply\n"
                           "  admin     look into a running broker and steer it\n"
                           "  bench     measure a broker\n"
                           "  plugin    write and try out plugins\n"
                           "  version   print the version\n";

static int version_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("weir %s\n", weir_version());
    return CLI_OK;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} verbs[] = {{"serve", serve_main},   {"pub", pub_main},        {"sub", sub_main},     {"get", get_main},
             {"list", list_main},     {"ask", ask_main},        {"admin", admin_main}, {"bench", bench_main},
             {"plugin", plugin_main}, {"version", version_main}};

int main(int argc, char **argv)
{
    processes_main(argc, argv);
    const char *verb = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (strcmp(verb, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    }
    if (strcmp(verb, "--version") == 0)
        return version_main(argc, argv);
    bool is_help = strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0;
    if (!is_help && *verb != '\0')
        fprintf(stderr, "weir: there is no verb '%s'\n\n", verb);
    fputs(help, is_help ? stdout : stderr);
    return is_help ? CLI_OK : CLI_USAGE;
}
