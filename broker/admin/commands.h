/* The table of admin commands and how its files share the work: admin.c serves the socket, show.c answers from
 * counters, steer.c changes things at once, orders.c does what needs an actor, dead.c the quarantine, plugins.c
 * plugins. */
#ifndef BROKER_ADMIN_COMMANDS_H
#define BROKER_ADMIN_COMMANDS_H

#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>

#include "actors/base/limits.h"
#include "broker/admin/admin.h"
#include "broker/admin/answer.h"
#include "clients/wire/request.h"

/* Requests served at once; each is a context of the REP socket. */
#define ADMIN_CONTEXTS 8
#define ADMIN_MESSAGE_SIZE 512
/* How long an order may take: the data plane may be saturated, its control lanes are not. */
#define ADMIN_ORDER_MS 4000
/* A client that does not read its answer for so long gets none, and its context serves others. */
#define ADMIN_SEND_MS 2000
#define ADMIN_SAMPLE_MS 1000

/* An order that the admin actor carries out for one context; the actor's from the order message until its answer. */
enum order_kind {
    ORDER_NONE,
    ORDER_CREATE,
    ORDER_DELETE,
    ORDER_CLEAR,
    ORDER_DEAD_LIST,
    ORDER_DEAD_REPLAY,
    ORDER_DEAD_DROP,
    ORDER_PLUGIN_LOAD,
    ORDER_PLUGIN_RELOAD,
    ORDER_PLUGIN_UNLOAD
};

struct dead_entry {
    weir_msg block; /* key and value, encoded, as they are published again */
    struct record_slice record;
    char cause[32];
    uint64_t attempts, topic_index;
};

struct order {
    enum order_kind kind;
    uint32_t token; /* names it in messages */
    char topic[TOPIC_NAME_SIZE_MAX + 1];
    bool has_kind;
    enum topic_kind topic_kind;
    weir_timer timer;
    /* dead: */
    struct dead_entry *entries;
    size_t entry_count, entry_capacity, published, answered, refused;
    uint64_t expected, ended, seq;
    bool is_counted, is_clearing;
    char (*names)[TOPIC_NAME_SIZE_MAX + 1]; /* topics, by the order of their feeds */
    uint32_t *feeds;
    size_t name_count;
    weir_actor target;
};

struct admin_context {
    struct admin *admin;
    unsigned index;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *request;
    enum { CONTEXT_RECEIVING, CONTEXT_WORKING, CONTEXT_SENDING } phase;
    struct order order;
    /* The token of the order that the admin actor carries out; 0: none, and the order is the context's. The actor's
     * alone: it looks for a token among all contexts, and others write their orders meanwhile. */
    uint32_t under_way;
    char message[ADMIN_MESSAGE_SIZE]; /* why it was refused */
};

/* What the admin actor measured over the last second; it writes, relaxed, and the commands read: figures for people. */
struct admin_rates {
    atomic_uint_least64_t records_in, records_out, bytes_in, bytes_out, cpu_permille;
    atomic_uint_least64_t worker_permille[WORKERS_MAX];
};

struct admin {
    struct admin_options options;
    nng_socket socket;
    struct admin_context contexts[ADMIN_CONTEXTS];
    unsigned context_count;
    weir_actor actor;
    struct admin_rates rates;
    char path[256];
    bool is_listening; /* the path is ours; who opens and closes */
    /* Held while an operation of the socket begins: none may find its aio gone. */
    pthread_mutex_t gate;
    bool is_closed; /* under gate: none begins any more, and the aios are gone */
};

/* A command: writes its result into answer, or returns an error with context->message filled in. WEIR_AGAIN: an order
 * is under way, the answer comes later. */
typedef enum weir_error (*admin_command)(struct admin_context *context, struct view args, struct answer *answer);

__attribute__((format(printf, 3, 4))) enum weir_error admin_refuse(struct admin_context *context, enum weir_error error,
                                                                   const char *format, ...);
/* args[key] as text into out; WEIR_NOT_FOUND when absent. */
WEIR_MUST_USE enum weir_error admin_text(struct admin_context *context, struct view args, const char *key, char *out,
                                         size_t capacity);

/* show.c */
enum weir_error show_status(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_topics(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_connections(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_subscriptions(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_tree(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_why(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error show_config(struct admin_context *context, struct view args, struct answer *answer);

/* steer.c */
enum weir_error steer_restart(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_disconnect(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_log(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_drain(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_shutdown(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_topic(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error steer_dead(struct admin_context *context, struct view args, struct answer *answer);

/* plugins.c */
enum weir_error steer_plugin(struct admin_context *context, struct view args, struct answer *answer);
enum weir_error order_plugin(struct turn *turn, struct admin_context *context);
void order_plugin_unloaded(struct turn *turn, struct admin_context *context, uint64_t given_up);
void order_plugin_done(struct turn *turn, struct admin_context *context, const struct message *message);
/* The actors concerned have not answered in time. */
void order_plugin_late(struct admin_context *context);

/* orders.c: the admin actor. */
WEIR_MUST_USE enum weir_error orders_start(struct admin *admin);
/* Hands context->order to the actor. */
WEIR_MUST_USE enum weir_error orders_give(struct admin_context *context);
/* Ends the order and answers the request: in the actor's turns. With WEIR_OK, result is the answer's writer. */
void order_finish(struct turn *turn, struct admin_context *context, enum weir_error error, struct answer *answer);

/* dead.c: in the actor's turns. */
enum weir_error dead_begin(struct turn *turn, struct admin_context *context);
void dead_on_message(struct turn *turn, struct admin_context *context, struct message *message);
void dead_on_done(struct turn *turn, struct admin_context *context, enum weir_error error);
void dead_fini(struct turn *turn, struct order *order);
/* The context whose dead order reads that feed or waits for that number; NULL for none. */
bool dead_owns(const struct order *order, const struct message *message);

/* admin.c: sends ["ok", result] or an error and waits for the next request. Any thread that owns the context. */
void context_answer(struct admin_context *context, enum weir_error error, struct view result);

#endif
