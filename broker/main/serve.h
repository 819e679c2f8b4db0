/* `weir serve`: the broker as a process. */
#ifndef BROKER_MAIN_SERVE_H
#define BROKER_MAIN_SERVE_H

/* The verb's arguments, argv[0] being "serve"; returns the process's exit code. Main thread, before any other. */
int serve_main(int argc, char **argv);

#endif
