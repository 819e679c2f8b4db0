/* `weir plugin`: what plugin authors need that no broker is asked for. Main thread. */
#include "clients/cli/plugin.h"

#include <stdio.h>
#include <string.h>

#include "clients/cli/cli.h"

static const char help[] = "weir plugin: write and try out plugins (weir admin plugin steers those of a broker)\n"
                           "\n"
                           "usage: weir plugin VERB [options]    (weir plugin VERB --help tells more)\n"
                           "\n"
                           "  new       write a plugin that can be built, with a test\n"
                           "  test      run a plugin against recorded records, without a broker\n";

int plugin_main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "new") == 0)
        return plugin_new_main(argc - 1, argv + 1);
    if (strcmp(verb, "test") == 0)
        return plugin_test_main(argc - 1, argv + 1);
    bool is_help = strcmp(verb, "--help") == 0 || strcmp(verb, "help") == 0;
    if (!is_help && *verb != '\0')
        fprintf(stderr, "weir plugin: there is no verb '%s'\n\n", verb);
    fputs(help, is_help ? stdout : stderr);
    return is_help ? CLI_OK : CLI_USAGE;
}
