/* The part of the configuration that is about plugins. Called by config_load.c and config.c, on the main thread. */
#ifndef BROKER_MAIN_CONFIG_PLUGINS_H
#define BROKER_MAIN_CONFIG_PLUGINS_H

#include "broker/main/config.h"

struct raw_config;

/* What is being loaded, and where to say what is wrong with it. */
struct loading {
    const char *path;
    char *error; /* CONFIG_ERROR_SIZE */
};

/* Takes a number over if it was given; false, with the error said, when it is none or out of range. */
bool config_number_take(const struct loading *loading, const char *section, const char *key, const char *given,
                        uint64_t min, uint64_t max, uint64_t *out);
/* Says so; false. */
bool config_no_memory(const struct loading *loading);

/* False, with the error said. */
bool config_plugins_take(const struct loading *loading, const struct raw_config *raw, struct config *config);
/* What only the whole shows: every kind plugin:NAME is a fold's that is there. */
WEIR_MUST_USE enum weir_error config_plugins_check(const struct config *config, char error[CONFIG_ERROR_SIZE]);

/* The value at plugins.INDEX.config of a YAML file as msgpack; *out is the caller's to free, NULL where there is none.
 * Plain scalars are what they look like (null, ~, true, false, numbers), all others text. error: what is wrong with
 * it, in line *line. */
WEIR_MUST_USE enum weir_error config_value_read(const char *path, size_t index, uint8_t **out, size_t *size,
                                                size_t *line, char error[CONFIG_ERROR_SIZE]);

#endif
