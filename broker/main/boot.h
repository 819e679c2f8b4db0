/* The broker from its first allocation to its last: the only place that sees every part. Main thread. */
#ifndef BROKER_MAIN_BOOT_H
#define BROKER_MAIN_BOOT_H

#include "broker/main/config.h"

struct boot;

/* Where the configuration came from, so that SIGHUP can read it again. */
struct boot_source {
    const char *path; /* NULL: no file */
    /* Reads it again over fresh defaults, command line included; error as config_load. */
    enum weir_error (*reload)(struct config *out, char error[CONFIG_ERROR_SIZE], void *context);
    void *context;
};

/* Starts everything. On failure everything that stood is taken down again and error says what was wrong and what to do.
 * SIGINT, SIGTERM and SIGHUP must be blocked in the calling thread beforehand. config is taken over. */
WEIR_MUST_USE enum weir_error boot_start(struct config *config, const struct boot_source *source, struct boot **out,
                                         char error[CONFIG_ERROR_SIZE]);

/* The addresses it listens on, with real ports; NULL beyond the last. */
const char *boot_listener_url(const struct boot *boot, size_t index);
const char *boot_admin_url(const struct boot *boot);

/* Waits for signals and serves them until one asks for the end (or the supervision tree gave up). */
enum weir_error boot_wait(struct boot *boot);

/* Stops everything in order, at most shutdown_ms for connections to drain: no new connections, what is under way handed
 * on, sessions told, actors stopped in reverse order, threads ended, arena empty. WEIR_INTERNAL: blocks were left (each
 * was logged with its owner). Nulls *boot. */
enum weir_error boot_stop(struct boot **boot);

#endif
