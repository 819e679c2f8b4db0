/* The admin socket: a cooked nng REP0 socket on ipc, off the data plane, that shows and steers what runs inside. It
 * answers on nng's threads from counters and short locks, never by waiting for a busy actor's turn, so that it also
 * answers when the data plane is saturated; orders that need an actor (topic delete, dead replay, ...) go through one
 * admin actor on the control lane and are answered when it has heard back, or with WEIR_TIMEOUT.
 *
 * Requests and replies are those of clients/wire/request.h: [command, {args}] -> ["ok", {...}] | ["error", {...}]. */
#ifndef BROKER_ADMIN_ADMIN_H
#define BROKER_ADMIN_ADMIN_H

#include "actors/plugin/plugin.h"
#include "actors/runtime/runtime.h"
#include "actors/supervise/supervisor.h"
#include "actors/topic/directory.h"
#include "broker/gateway/gateway.h"
#include "clients/wire/value.h"

struct admin;

/* What only the program itself can do; called on an nng thread, must not block. */
struct admin_program {
    void (*shutdown)(void *context); /* begin a clean stop */
    void (*drain)(void *context);    /* stop accepting and say goodbye to clients, keep running for the admin */
    /* Every setting: key, value, default and whether a reload can change it. */
    void (*config_each)(void (*each)(const char *key, uint64_t value, uint64_t initial, bool can_reload,
                                     void *each_context),
                        void *each_context, void *context);
    void *context;
};

struct admin_options {
    struct runtime *runtime; /* all borrowed; outlive the admin */
    struct supervision *supervision;
    weir_actor supervisor; /* of the admin actor */
    struct directory *directory;
    struct gateway *gateway;
    struct plugins *plugins; /* NULL: there are none */
    struct budget *budget;   /* the broker's root budget, for memory by owner */
    struct admin_program program;
    uint64_t started_ns;
};

/* Answers nobody yet but admin_describe. */
WEIR_MUST_USE enum weir_error admin_create(const struct admin_options *options, struct admin **out);
/* Makes the directory (0700), listens (socket 0600) and serves. Once. On failure *reason is a sentence in static
 * storage. */
WEIR_MUST_USE enum weir_error admin_listen(struct admin *admin, const char *url, const char **reason);
/* What the command of that name answers ("status", "topics", "connections", "tree"), but for what changes by itself as
 * time goes by. pattern: of topics; NULL: all. *size: what fitted; with rows, a last one that did not fit may be cut.
 * WEIR_TOO_BIG: not all did. Any thread that may wait for short locks, tens of milliseconds with very many rows. */
WEIR_MUST_USE enum weir_error admin_describe(struct admin *admin, const char *command, const char *pattern, void *data,
                                             size_t capacity, size_t *size);
/* Stops answering. Blocks until no handler runs. NULL is fine. */
void admin_close(struct admin *admin);
/* After runtime_stop, since an order may still be with the admin actor. */
void admin_destroy(struct admin **admin);

#endif
