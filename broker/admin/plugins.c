/* Plugins: listed from their counters, loaded and unloaded through their supervisors, reloaded by an order to their
 * actors. On an nng thread; the order's part in the admin actor's turns. */
#include <string.h>

#include "actors/base/log.h"
#include "broker/admin/commands.h"

static bool plugin_row(const struct plugin_status *status, void *context)
{
    static const uint8_t nil = 0xc0;
    struct answer *answer = context;
    answer_map(answer, NULL);
    answer_text(answer, "name", status->name);
    answer_text(answer, "role", status->role);
    answer_text(answer, "host", status->host);
    answer_text(answer, "state", status->state);
    /* Not 0, which would be the caller's own group to kill. */
    if (status->pid > 0)
        answer_uint(answer, "pid", (uint64_t)status->pid);
    else
        answer_raw(answer, "pid", view_of(&nil, 1));
    answer_text(answer, "code", status->plugin);
    answer_text(answer, "file", status->file);
    answer_uint(answer, "topics", status->topics);
    answer_uint(answer, "handled", status->handled);
    answer_uint(answer, "emitted", status->emitted);
    answer_uint(answer, "refused", status->refused);
    answer_uint(answer, "dead", status->dead);
    answer_uint(answer, "restarts", status->restarts);
    answer_uint(answer, "kept", status->kept);
    answer_uint(answer, "kept_bytes", status->kept_bytes);
    answer_uint(answer, "snapshot_bytes", status->snapshot_bytes);
    answer_text(answer, "cause", status->cause);
    answer_end(answer);
    return true;
}

/* Begun by the admin actor, which then waits for what becomes of it. */
static enum weir_error plugin_order(struct admin_context *context, enum order_kind kind, const char *name)
{
    struct order *order = &context->order;
    *order = (struct order){.kind = kind};
    memcpy(order->topic, name, strlen(name) + 1);
    if (orders_give(context) != WEIR_OK)
        return admin_refuse(context, WEIR_BUSY, "the admin actor takes no orders at present");
    return WEIR_AGAIN;
}

static enum weir_error plugin_reload(struct admin_context *context, const char *name)
{
    weir_actor actor;
    if (plugins_find(context->admin->options.plugins, name, &actor) != WEIR_OK)
        return admin_refuse(context, WEIR_NOT_FOUND, "no plugin '%s' runs", name);
    return plugin_order(context, ORDER_PLUGIN_RELOAD, name);
}

enum weir_error steer_plugin(struct admin_context *context, struct view args, struct answer *answer)
{
    char action[16] = "list", name[PLUGIN_NAME_MAX + 1] = "";
    struct plugins *plugins = context->admin->options.plugins;
    enum weir_error error = admin_text(context, args, "action", action, sizeof action);
    if (error != WEIR_OK && error != WEIR_NOT_FOUND)
        return error;
    if (strcmp(action, "list") == 0) {
        answer_rows(answer, "plugins");
        if (plugins != NULL)
            plugins_each(plugins, plugin_row, answer);
        answer_end(answer);
        return WEIR_OK;
    }
    if (admin_text(context, args, "name", name, sizeof name) != WEIR_OK || plugins == NULL)
        return admin_refuse(context, WEIR_BAD_REQUEST, "plugin %s needs the name of a plugin", action);
    if (strcmp(action, "load") == 0)
        return plugin_order(context, ORDER_PLUGIN_LOAD, name);
    if (strcmp(action, "unload") == 0)
        return plugin_order(context, ORDER_PLUGIN_UNLOAD, name);
    if (strcmp(action, "reload") == 0)
        return plugin_reload(context, name);
    return admin_refuse(context, WEIR_BAD_REQUEST, "plugin takes list, load, unload or reload");
}

/* Ends when the plugin is live, or has failed to be. */
static enum weir_error load_begin(struct turn *turn, struct admin_context *context)
{
    const char *name = context->order.topic;
    enum weir_error error = plugins_load(context->admin->options.plugins, name, turn_self(turn), context->order.token);
    if (error == WEIR_NOT_FOUND)
        return admin_refuse(context, error, "no plugin '%s' is configured (SIGHUP reads the file again)", name);
    if (error == WEIR_EXISTS)
        return admin_refuse(context, error, "plugin '%s' runs already; reload runs its file anew", name);
    if (error == WEIR_BUSY)
        return admin_refuse(context, error, "plugin '%s' is still being unloaded; try again in a moment", name);
    if (error != WEIR_OK)
        return admin_refuse(context, error, "plugin '%s': %s", name, weir_error_text(error));
    return WEIR_OK;
}

/* Ends when the plugin has: it says so itself, unless it was given up before and has no actor. */
static enum weir_error unload_begin(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    struct plugins *plugins = context->admin->options.plugins;
    struct message message = {.tag = PLUGIN_UNLOAD, .word = {order->token}};
    bool is_told = plugins_find(plugins, order->topic, &order->target) == WEIR_OK &&
                   turn_control(turn, order->target, &message) == WEIR_OK;
    enum weir_error error = plugins_unload(plugins, order->topic);
    if (error == WEIR_NOT_FOUND)
        return admin_refuse(context, error, "no plugin '%s' runs", order->topic);
    if (error != WEIR_OK)
        return admin_refuse(context, error, "plugin '%s': %s", order->topic, weir_error_text(error));
    if (!is_told)
        order_plugin_unloaded(turn, context, 0);
    return WEIR_OK;
}

void order_plugin_unloaded(struct turn *turn, struct admin_context *context, uint64_t given_up)
{
    uint8_t data[ADMIN_MESSAGE_SIZE];
    struct answer answer;
    log_info("admin.plugin", "unloaded=%s given_up=%llu", context->order.topic, (unsigned long long)given_up);
    answer_init(&answer, data, sizeof data);
    answer_text(&answer, "unloaded", context->order.topic);
    answer_uint(&answer, "given_up", given_up);
    order_finish(turn, context, WEIR_OK, &answer);
}

enum weir_error order_plugin(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    struct message message = {.tag = PLUGIN_RELOAD, .word = {order->token}};
    if (order->kind == ORDER_PLUGIN_LOAD)
        return load_begin(turn, context);
    if (order->kind == ORDER_PLUGIN_UNLOAD)
        return unload_begin(turn, context);
    enum weir_error error = plugins_find(context->admin->options.plugins, order->topic, &order->target);
    return error == WEIR_OK ? turn_control(turn, order->target, &message) : error;
}

void order_plugin_done(struct turn *turn, struct admin_context *context, const struct message *message)
{
    uint8_t data[ADMIN_MESSAGE_SIZE];
    struct answer answer;
    enum weir_error error = (enum weir_error)message->word[0];
    bool has_why = !msg_is_none(message->hold[0]);
    const char *why = has_why ? arena_data(turn_arena(turn), message->hold[0]) : NULL;
    int size = why != NULL ? (int)arena_size(turn_arena(turn), message->hold[0]) : 0;
    bool is_load = message->tag == PLUGIN_LOADED;
    if (error != WEIR_OK && size == 0) {
        why = weir_error_text(error);
        size = (int)strlen(why);
    }
    if (error != WEIR_OK)
        admin_refuse(context, error,
                     is_load ? "plugin '%s' does not run: %.*s (plugin list tells whether it is tried again)"
                             : "plugin '%s' goes on as it was: %.*s",
                     context->order.topic, size, why);
    else
        log_info("admin.plugin", "%s=%s", is_load ? "loaded" : "reloaded", context->order.topic);
    answer_init(&answer, data, sizeof data);
    answer_text(&answer, is_load ? "loaded" : "reloaded", context->order.topic);
    order_finish(turn, context, error, &answer);
}

void order_plugin_late(struct admin_context *context)
{
    admin_refuse(context, WEIR_TIMEOUT, "plugin '%s' has not started within %d ms; it may yet: plugin list tells",
                 context->order.topic, ADMIN_ORDER_MS);
}
