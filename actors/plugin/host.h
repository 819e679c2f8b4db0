/* Hosts: where a plugin instance runs. The plugin actor (plugin.c) gives inputs and takes outputs, in its own turns
 * only; a host never blocks it. What an instance is told and answers is in runner.h. */
#ifndef ACTORS_PLUGIN_HOST_H
#define ACTORS_PLUGIN_HOST_H

#include "actors/plugin/runner.h"

struct plugin_host;

/* What to run. Borrowed for the call. */
struct plugin_spec {
    const char *name; /* of the instance, for people */
    const char *file; /* the shared object */
    enum weir_actor_role role;
    struct view config; /* one msgpack value */
    struct runner_bounds bounds;
    uint32_t time_ms_max;      /* one input; beyond: the process host kills the child, the thread host reports */
    uint32_t start_ms_max;     /* opening, init and restore */
    uint32_t ring_bytes;       /* process: each way */
    const char *const *grants; /* process: files and folders it may read, NULL-terminated; NULL: none */
};

/* Rung by a host, on any thread, when take may have something or give has room again. Must not block for long. */
struct plugin_bell {
    void (*ring)(void *context);
    void *context;
};

/* How an instance ended, for the tree, the log and the quarantine. */
struct plugin_end {
    enum weir_error cause; /* WEIR_OK: it was asked to */
    uint64_t number;       /* of the input in hand; 0: none */
    char text[256];        /* "killed by SIGSEGV while handling", "no end after 100 ms: killed", ... */
};

/* Where the first emission of an input may go at once, instead of waiting to be taken: worth it where it is the only
 * thing that most inputs bring about. */
struct plugin_shortcut {
    bool (*take)(void *context, const struct plugin_output *output); /* false: it is to wait as others do */
    /* Something else came of the input as well: it is not taken, and its bytes are given back, until the next call. */
    void (*take_back)(void *context, struct plugin_output *out);
    void *context;
};

struct plugin_host_ops {
    const char *name; /* "thread", "process" */
    uint32_t ahead;   /* inputs that may well be given before take is asked again */
    /* Starts an instance: opens it and calls init. How that went is told by an OUTPUT_DONE with number 0, before which
     * nothing may be given: OK with has_snapshot and, as text, the plugin's name and version; or FAILED with the reason
     * as text, after which take says WEIR_CLOSED. The process host returns at once; the thread host has done it all
     * when this returns. An error here: nothing was started, why (at least 256 bytes) says what is wrong. */
    enum weir_error (*start)(const struct plugin_spec *spec, struct plugin_bell bell, struct plugin_host **out,
                             char *why, size_t why_size);
    /* Hands over one input, which is copied. WEIR_FULL: not now: take what there is, and try again; else the bell rings
     * when there is room (what can never fit: WEIR_TOO_BIG). WEIR_CLOSED: it has ended, see take. */
    enum weir_error (*give)(struct plugin_host *host, const struct plugin_input *input);
    /* As give, where that has handled the input when it returns. is_over: one emission was taken by the shortcut, that
     * is all it brought about, and of this input there is nothing to take. NULL: it is not handled by then. */
    enum weir_error (*call)(struct plugin_host *host, const struct plugin_input *input,
                            const struct plugin_shortcut *shortcut, bool *is_over);
    /* After the inputs of a turn: wakes the instance, once for all of them. */
    void (*flush)(struct plugin_host *host);
    /* The next output; its views live until the first take after the end of its input was taken, or until the next
     * give or stop. WEIR_AGAIN: none now. WEIR_CLOSED: none any
     * more, end says why. Everything that a child may have written has been checked: kinds, bounds, UTF-8 and values.
     */
    enum weir_error (*take)(struct plugin_host *host, struct plugin_output *out, struct plugin_end *end);
    /* The process that it runs in, as people know it; 0: there is none at present. NULL: it has none of its own. */
    int32_t (*pid)(const struct plugin_host *host);
    /* Ends it without its consent and gives everything back; never blocks (the spawner reaps). No bell afterwards. */
    void (*stop)(struct plugin_host **pointer);
};

extern const struct plugin_host_ops plugin_host_thread, plugin_host_process;

#endif
