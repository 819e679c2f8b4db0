/* Plugins in the broker: their configuration, and the table of instances that boot and admin steer. An instance is a
 * supervised actor (plugin.c) with a host (host.h) that runs the user's code. */
#ifndef ACTORS_PLUGIN_PLUGIN_H
#define ACTORS_PLUGIN_PLUGIN_H

#include "actors/plugin/host.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/supervise/supervisor.h"
#include "actors/topic/directory.h"

struct plugin_config {
    char name[PLUGIN_NAME_MAX + 1];
    char file[PLUGIN_PATH_MAX];
    enum weir_actor_role role;
    const struct plugin_host_ops *host;
    char patterns[PLUGIN_PATTERNS_MAX][256]; /* processor: what it follows */
    char emit[PLUGIN_PATTERNS_MAX][256];     /* processor: topics it may emit to */
    size_t pattern_count, emit_count;
    enum restart_type restart;
    uint32_t intensity, period_ms;
    struct runner_bounds bounds;
    uint32_t time_ms_max, start_ms_max, mailbox_max, ring_bytes;
    uint64_t emit_bytes_per_s; /* 0: no bound */
    char grants[PLUGIN_GRANTS_MAX][PLUGIN_PATH_MAX];
    size_t grant_count;
    uint8_t *value; /* its own block, one msgpack value; malloc'd, NULL: nil */
    size_t value_size;
};

/* All defaults but name, file and role. */
void plugin_config_init(struct plugin_config *config);
void plugin_config_fini(struct plugin_config *config);
/* WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error plugin_config_copy(struct plugin_config *out, const struct plugin_config *config);
/* Whether one plugin's settings fit each other: a fold follows nothing, a processor something, patterns are sound, and
 * none that it follows may match what it emits. why: at least 512 bytes. WEIR_BAD_REQUEST. */
WEIR_MUST_USE enum weir_error plugin_config_check(const struct plugin_config *config, char *why, size_t why_size);
/* Whether any name matches both. */
bool patterns_overlap(struct view a, struct view b);

struct plugins;

struct plugins_options {
    struct runtime *runtime; /* all borrowed; outlive the table */
    struct supervision *supervision;
    weir_actor supervisor; /* has each instance's own supervisor as a dynamic child */
    weir_actor directory;
    struct budget *budget;
};

WEIR_MUST_USE enum weir_error plugins_create(const struct plugins_options *options, struct plugins **out);
/* After runtime_stop. */
void plugins_destroy(struct plugins **pointer);

/* The definitions from now on, copied; those that run keep theirs until they are reloaded. Any thread. */
WEIR_MUST_USE enum weir_error plugins_config_set(struct plugins *plugins, const struct plugin_config *configs,
                                                 size_t count);
/* Starts all that are defined; at boot. */
WEIR_MUST_USE enum weir_error plugins_load_all(struct plugins *plugins);
/* Waits until all that are defined have begun, and whoever asks one by its name finds it, or have failed to; not for
 * their hosts. False: timeout_ms was not enough. Blocks: no worker; after a start of the runtime. */
bool plugins_await(struct plugins *plugins, uint64_t timeout_ms);
/* Starts one; `from`, unless it is none, is sent PLUGIN_LOADED when it is live or has failed for the first time.
 * WEIR_NOT_FOUND: not defined; WEIR_EXISTS: it runs; WEIR_BUSY: it is still being unloaded. Any thread. */
WEIR_MUST_USE enum weir_error plugins_load(struct plugins *plugins, const char *name, weir_actor from, uint64_t word);
/* Begins to end one: what waits for it is refused, and what it emitted is waited for, for PLUGIN_ENDING_MS.
 * WEIR_NOT_FOUND: it does not run. Any thread. */
WEIR_MUST_USE enum weir_error plugins_unload(struct plugins *plugins, const char *name);
/* The actor of one that runs, for PLUGIN_RELOAD. WEIR_NOT_FOUND. Any thread. */
WEIR_MUST_USE enum weir_error plugins_find(struct plugins *plugins, const char *name, weir_actor *out);

enum plugin_tag {
    /* Control, to a plugin: runs the file anew as it is now, with the definition of now, state carried over. word[0]:
     * echoed. -> PLUGIN_RELOADED */
    PLUGIN_RELOAD = 0x400,
    /* Control. word[0]: enum weir_error; word[1]: echoed. hold[0]: why not, text; none: it is done. */
    PLUGIN_RELOADED,
    /* Control, to a plugin that will then be unloaded: the sender wants to hear of the end. word[0]: echoed.
     * -> PLUGIN_UNLOADED */
    PLUGIN_UNLOAD,
    /* Control. word[0]: records that it had emitted and that their topics had not decided in time; word[1]: echoed. */
    PLUGIN_UNLOADED,
    /* Control. As PLUGIN_RELOADED: how the start went that plugins_load has ordered. */
    PLUGIN_LOADED,
};

struct plugin_status {
    char name[PLUGIN_NAME_MAX + 1], file[PLUGIN_PATH_MAX];
    const char *role, *host, *state; /* state: see state_name in plugin.c, or "unloaded" */
    char plugin[PLUGIN_TEXT_SIZE];   /* the code's own name and version */
    char cause[PLUGIN_TEXT_SIZE];    /* of the last failure; "": none yet */
    uint64_t handled, emitted, refused, dead, restarts, topics;
    uint64_t kept, kept_bytes, snapshot_bytes;
    int32_t pid; /* of the process that it runs in; 0: none of its own, or none now */
};
/* Any thread; under a short lock, so each calls nothing here. Stops when it returns false. */
void plugins_each(struct plugins *plugins, bool (*each)(const struct plugin_status *status, void *context),
                  void *context);

#endif
