/* What the status functions and the watcher tell about actors they do not own. Any thread. */
#ifndef ACTORS_RUNTIME_STATUS_H
#define ACTORS_RUNTIME_STATUS_H

#include <stddef.h>

struct runtime;
struct worker;

/* Longest text: a behaviour's name or a label, and the final NUL. */
enum { STATUS_NAME_SIZE = 128 };

/* Who the worker runs at present, "NAME LABEL"; returns the length, 0 for nobody. */
size_t status_running_name(struct runtime *runtime, const struct worker *worker, char out[STATUS_NAME_SIZE]);

#endif
