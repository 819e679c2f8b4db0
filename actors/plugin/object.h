/* The shared object of one plugin instance: a checked copy of a file, opened. */
#ifndef ACTORS_PLUGIN_OBJECT_H
#define ACTORS_PLUGIN_OBJECT_H

#include "actors/plugin/weir_actor.h"
#include "weir_error.h"

struct object {
    void *library;
    int copy; /* memfd: its number is in the name that the loader knows the library by, so it stays open */
    const struct weir_actor_plugin *plugin;
};

/* Both: runner_open says what is checked; it calls one after the other. A copy is a sealed memfd. Reads a file: blocks
 * as that does. */
WEIR_MUST_USE enum weir_error object_copy(const char *file, int *out, char *why, size_t why_size);
/* Opens the copy, which is taken over, also when it fails; file is its name for people. */
WEIR_MUST_USE enum weir_error object_open(int copy, const char *file, enum weir_actor_role role, struct object *out,
                                          char *why, size_t why_size);
void object_close(struct object *object);

#endif
