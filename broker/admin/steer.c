/* Commands that change something: those that can be done at once are, the others become orders for the admin actor. On
 * an nng thread. */
#include <string.h>

#include "actors/base/log.h"
#include "broker/admin/commands.h"
#include "clients/wire/name.h"

struct search {
    const char *name;
    weir_actor actor;
};

static bool search_row(const struct supervision_row *row, void *context)
{
    struct search *search = context;
    if (strcmp(row->name, search->name) != 0)
        return true;
    search->actor = row->actor;
    return false;
}

/* Children that joined by themselves (topics, connections) are known by the names that the tree shows. */
static enum weir_error restart_shown(struct supervision *supervision, const char *name)
{
    struct search search = {.name = name};
    supervision_each(supervision, search_row, &search);
    return actor_is_none(search.actor) ? WEIR_NOT_FOUND : supervisor_restart(supervision, search.actor);
}

enum weir_error steer_restart(struct admin_context *context, struct view args, struct answer *answer)
{
    char name[TOPIC_NAME_SIZE_MAX + 16];
    enum weir_error error = admin_text(context, args, "actor", name, sizeof name);
    if (error != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_REQUEST,
                            "restart needs the name of an actor, as weir admin tree shows it");
    error = supervisor_restart_named(context->admin->options.supervision, name);
    if (error == WEIR_NOT_FOUND)
        error = restart_shown(context->admin->options.supervision, name);
    if (error == WEIR_NOT_FOUND)
        return admin_refuse(context, error, "there is no actor '%s'; weir admin tree lists them", name);
    if (error == WEIR_FORBIDDEN)
        return admin_refuse(context, error,
                            "'%s' runs and has state that a restart would lose: only a failed one is restarted", name);
    if (error != WEIR_OK)
        return admin_refuse(context, error, "'%s': %s", name, weir_error_text(error));
    log_info("admin.restart", "actor=\"%s\"", name);
    answer_text(answer, "restarted", name);
    return WEIR_OK;
}

enum weir_error steer_disconnect(struct admin_context *context, struct view args, struct answer *answer)
{
    uint64_t id = 0;
    if (args_find_uint(args, "id", &id) != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_REQUEST, "disconnect needs an id, as weir admin connections shows it");
    enum weir_error error = gateway_disconnect(context->admin->options.gateway, id);
    if (error != WEIR_OK)
        return admin_refuse(context, error, "there is no connection %llu", (unsigned long long)id);
    log_info("admin.disconnect", "connection=%llu", (unsigned long long)id);
    answer_uint(answer, "disconnected", id);
    return WEIR_OK;
}

enum weir_error steer_log(struct admin_context *context, struct view args, struct answer *answer)
{
    char name[16];
    enum log_level level = LOG_INFO;
    if (admin_text(context, args, "level", name, sizeof name) != WEIR_OK || log_level_find(name, &level) != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_REQUEST, "log needs a level: debug, info, warning, error or off");
    log_level_set(level);
    answer_text(answer, "log_level", log_level_name(level));
    return WEIR_OK;
}

enum weir_error steer_drain(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    log_info("admin.drain", "asked=true");
    context->admin->options.program.drain(context->admin->options.program.context);
    answer_bool(answer, "draining", true);
    return WEIR_OK;
}

enum weir_error steer_shutdown(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)args;
    log_info("admin.shutdown", "asked=true");
    context->admin->options.program.shutdown(context->admin->options.program.context);
    answer_bool(answer, "stopping", true);
    return WEIR_OK;
}

static enum weir_error order_topic(struct admin_context *context, struct view args, struct order *order)
{
    const char *reason = "it is missing";
    enum weir_error error = admin_text(context, args, "topic", order->topic, sizeof order->topic);
    if (error != WEIR_OK || name_check(view_text(order->topic), &reason) != WEIR_OK)
        return admin_refuse(context, WEIR_BAD_TOPIC, "topic '%s': %s", order->topic, reason);
    return WEIR_OK;
}

static enum weir_error order_give(struct admin_context *context)
{
    if (orders_give(context) != WEIR_OK)
        return admin_refuse(context, WEIR_BUSY, "the admin actor takes no orders at present");
    return WEIR_AGAIN;
}

enum weir_error steer_topic(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)answer;
    char action[16] = "", kind[16 + PLUGIN_NAME_MAX] = "";
    struct order *order = &context->order;
    *order = (struct order){.kind = ORDER_NONE};
    if (admin_text(context, args, "action", action, sizeof action) == WEIR_OK)
        order->kind = strcmp(action, "create") == 0   ? ORDER_CREATE
                      : strcmp(action, "delete") == 0 ? ORDER_DELETE
                      : strcmp(action, "clear") == 0  ? ORDER_CLEAR
                                                      : ORDER_NONE;
    if (order->kind == ORDER_NONE)
        return admin_refuse(context, WEIR_BAD_REQUEST, "topic needs an action: create, delete or clear");
    enum weir_error error = order_topic(context, args, order);
    if (error != WEIR_OK)
        return error;
    if (order->kind == ORDER_CREATE && name_is_reserved(view_text(order->topic)))
        return admin_refuse(context, WEIR_FORBIDDEN, "topic '%s': names that start with '$' are the broker's own",
                            order->topic);
    if (order->kind == ORDER_CREATE && admin_text(context, args, "kind", kind, sizeof kind) == WEIR_OK) {
        order->has_kind = true;
        if (topic_kind_find(view_text(kind), &order->topic_kind) != WEIR_OK)
            return admin_refuse(context, WEIR_BAD_REQUEST,
                                "'%s' is no kind of topic: last, map, log, merge or plugin:NAME", kind);
    }
    return order_give(context);
}

enum weir_error steer_dead(struct admin_context *context, struct view args, struct answer *answer)
{
    (void)answer;
    char action[16] = "list";
    struct order *order = &context->order;
    *order = (struct order){.kind = ORDER_NONE};
    enum weir_error error = admin_text(context, args, "action", action, sizeof action);
    if (error == WEIR_OK || error == WEIR_NOT_FOUND)
        order->kind = strcmp(action, "list") == 0     ? ORDER_DEAD_LIST
                      : strcmp(action, "replay") == 0 ? ORDER_DEAD_REPLAY
                      : strcmp(action, "drop") == 0   ? ORDER_DEAD_DROP
                                                      : ORDER_NONE;
    if (order->kind == ORDER_NONE)
        return admin_refuse(context, WEIR_BAD_REQUEST, "dead takes replay or drop, or nothing to list");
    struct view topic;
    if (order->kind != ORDER_DEAD_LIST || args_find_str(args, "topic", &topic) == WEIR_OK) {
        error = order_topic(context, args, order);
        if (error != WEIR_OK)
            return error;
    }
    return order_give(context);
}
