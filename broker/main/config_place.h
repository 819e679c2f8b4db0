/* Where in a YAML file a key stands, for error messages: libcyaml names lines for what it refuses itself, not for what
 * is refused afterwards. Called by config_load.c. */
#ifndef BROKER_MAIN_CONFIG_PLACE_H
#define BROKER_MAIN_CONFIG_PLACE_H

#include <stddef.h>

/* The line (from 1) of the key at path, e.g. "topics.rules.2.kind" (sequence items from 0); 0 when it is not there.
 * With path "*.NAME" the first key NAME at or after line `from`, at any depth. */
size_t config_place_find(const char *file, const char *path, size_t from);

#endif
