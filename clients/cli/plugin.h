/* The verbs of `weir plugin`: argv[0] is the verb; the exit code is returned. */
#ifndef CLIENTS_CLI_PLUGIN_H
#define CLIENTS_CLI_PLUGIN_H

int plugin_new_main(int argc, char **argv);
int plugin_test_main(int argc, char **argv);

#endif
