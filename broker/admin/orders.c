/* The admin actor: carries out the orders that need other actors, and measures rates once a second. In its turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "broker/admin/commands.h"

/* Control, to the admin actor: detail is the index of a context whose order it is to carry out. */
enum { ADMIN_ORDER = 0x300 };

/* A timer's word: a context's index and token, or the sampling. */
#define TIMER_SAMPLE UINT64_MAX

struct sample {
    uint64_t at_ns, cpu_ns, records_in, records_out, bytes_in, bytes_out;
    uint64_t busy_ns[WORKERS_MAX];
};

struct orders {
    struct admin *admin;
    uint32_t tokens;
    struct sample *last;
};

/* --------------------------------------------------------------------------------------------- sampling */

static void rate_set(atomic_uint_least64_t *rate, uint64_t now, uint64_t before, uint64_t elapsed_ns, uint64_t scale)
{
    uint64_t value = now > before ? (uint64_t)((double)(now - before) * (double)scale / (double)elapsed_ns) : 0;
    atomic_store_explicit(rate, value, memory_order_relaxed);
}

static void sample_take(struct orders *orders)
{
    struct admin *admin = orders->admin;
    struct admin_rates *rates = &admin->rates;
    struct gateway_status gateway;
    struct sample now = {.at_ns = clock_now_ns(), .cpu_ns = clock_cpu_ns()}, *last = orders->last;
    gateway_status(admin->options.gateway, &gateway);
    now.records_in = gateway.records_in;
    now.records_out = gateway.records_out;
    now.bytes_in = gateway.bytes_in;
    now.bytes_out = gateway.bytes_out;
    uint64_t elapsed = now.at_ns - last->at_ns;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        struct worker_status worker;
        if (runtime_worker_status(admin->options.runtime, i, &worker) != WEIR_OK)
            break;
        now.busy_ns[i] = worker.busy_ns;
        if (elapsed > 0 && last->at_ns > 0)
            rate_set(&rates->worker_permille[i], now.busy_ns[i], last->busy_ns[i], elapsed, 1000);
    }
    if (elapsed > 0 && last->at_ns > 0) {
        rate_set(&rates->records_in, now.records_in, last->records_in, elapsed, NS_PER_S);
        rate_set(&rates->records_out, now.records_out, last->records_out, elapsed, NS_PER_S);
        rate_set(&rates->bytes_in, now.bytes_in, last->bytes_in, elapsed, NS_PER_S);
        rate_set(&rates->bytes_out, now.bytes_out, last->bytes_out, elapsed, NS_PER_S);
        rate_set(&rates->cpu_permille, now.cpu_ns, last->cpu_ns, elapsed, 1000);
    }
    *last = now;
}

/* ------------------------------------------------------------------------------------------------ orders */

void order_finish(struct turn *turn, struct admin_context *context, enum weir_error error, struct answer *answer)
{
    struct order *order = &context->order;
    timer_cancel(turn_runtime(turn), order->timer);
    dead_fini(turn, order);
    *order = (struct order){.kind = ORDER_NONE};
    context->under_way = 0;
    if (error == WEIR_OK)
        answer_end(answer);
    context_answer(context, error,
                   error == WEIR_OK ? view_of(answer->writer.data, answer->writer.size) : view_of(NULL, 0));
}

static void finish_topic(struct turn *turn, struct admin_context *context, enum weir_error error)
{
    static const char *const done[] = {
        [ORDER_CREATE] = "created", [ORDER_DELETE] = "deleted", [ORDER_CLEAR] = "cleared"};
    uint8_t data[ADMIN_MESSAGE_SIZE];
    struct answer answer;
    struct order *order = &context->order;
    if (error == WEIR_EXISTS)
        admin_refuse(context, error, "there is a topic '%s' already", order->topic);
    else if (error == WEIR_NOT_FOUND)
        admin_refuse(context, error, "there is no topic '%s'", order->topic);
    else if (error != WEIR_OK)
        admin_refuse(context, error, "topic '%s': %s", order->topic, weir_error_text(error));
    else
        log_info("admin.topic", "%s=\"%s\"", done[order->kind], order->topic);
    answer_init(&answer, data, sizeof data);
    answer_text(&answer, done[order->kind], order->topic);
    order_finish(turn, context, error, &answer);
}

static enum weir_error order_create(struct turn *turn, struct admin_context *context)
{
    struct order *order = &context->order;
    struct admin *admin = context->admin;
    size_t name_size = strlen(order->topic);
    struct message message = {.tag = DIRECTORY_CREATE, .word = {order->token}};
    enum weir_error error = arena_alloc(turn_arena(turn), sizeof(struct directory_create) + name_size,
                                        admin->options.budget, &message.hold[0]);
    if (error != WEIR_OK)
        return error;
    struct directory_create *create = arena_data(turn_arena(turn), message.hold[0]);
    *create = (struct directory_create){
        .name_size = (uint32_t)name_size, .has_kind = order->has_kind, .kind = order->topic_kind};
    memcpy(create->name, order->topic, name_size);
    error = turn_send(turn, directory_actor(admin->options.directory), &message);
    if (error != WEIR_OK)
        arena_drop(turn_arena(turn), message.hold[0]);
    return error;
}

static enum weir_error order_topic(struct turn *turn, struct admin_context *context, uint32_t tag)
{
    struct order *order = &context->order;
    struct message message = {.tag = tag, .word = {order->token}};
    enum weir_error error = directory_find(context->admin->options.directory, view_text(order->topic), &order->target);
    if (error == WEIR_OK)
        error = turn_control(turn, order->target, &message);
    return error == WEIR_STALE ? WEIR_NOT_FOUND : error; /* it has ended, which its directory has yet to hear */
}

static enum weir_error order_begin(struct turn *turn, struct admin_context *context)
{
    switch (context->order.kind) {
    case ORDER_CREATE: return order_create(turn, context);
    case ORDER_DELETE: return order_topic(turn, context, TOPIC_DELETE);
    case ORDER_CLEAR: return order_topic(turn, context, TOPIC_CLEAR);
    case ORDER_DEAD_LIST:
    case ORDER_DEAD_REPLAY:
    case ORDER_DEAD_DROP: return dead_begin(turn, context);
    case ORDER_PLUGIN_LOAD:
    case ORDER_PLUGIN_RELOAD:
    case ORDER_PLUGIN_UNLOAD: return order_plugin(turn, context);
    default: return WEIR_INTERNAL;
    }
}

static void order_fail(struct turn *turn, struct admin_context *context, enum weir_error error)
{
    if (context->order.kind <= ORDER_CLEAR)
        finish_topic(turn, context, error);
    else
        order_finish(turn, context, error, NULL);
}

static void on_order(struct turn *turn, struct orders *orders, unsigned index)
{
    struct admin_context *context = &orders->admin->contexts[index];
    struct order *order = &context->order;
    order->token = ++orders->tokens == 0 ? ++orders->tokens : orders->tokens;
    context->under_way = order->token;
    enum weir_error error = timer_start(turn_runtime(turn), turn_self(turn), ADMIN_ORDER_MS * NS_PER_MS, 0,
                                        TOPIC_WORD(index, order->token), &order->timer);
    if (error == WEIR_OK)
        error = order_begin(turn, context);
    if (error != WEIR_OK)
        order_fail(turn, context, error);
}

/* ---------------------------------------------------------------------------------------------- the actor */

static struct admin_context *context_of_token(struct admin *admin, uint64_t token)
{
    for (unsigned i = 0; i < admin->context_count; i++) {
        if (admin->contexts[i].under_way == token && token != 0)
            return &admin->contexts[i];
    }
    return NULL;
}

static void on_timer(struct turn *turn, struct orders *orders, uint64_t word)
{
    if (word == TIMER_SAMPLE) {
        sample_take(orders);
        return;
    }
    struct admin_context *context = &orders->admin->contexts[TOPIC_HIGH(word)];
    if (context->under_way != TOPIC_LOW(word))
        return;
    if (context->order.kind == ORDER_PLUGIN_LOAD)
        order_plugin_late(context);
    else
        admin_refuse(context, WEIR_TIMEOUT, "the actors concerned did not answer within %d ms", ADMIN_ORDER_MS);
    order_finish(turn, context, WEIR_TIMEOUT, NULL);
}

static void on_done(struct turn *turn, struct orders *orders, enum weir_error error, uint64_t token)
{
    struct admin_context *context = context_of_token(orders->admin, token);
    if (context == NULL)
        return;
    if (context->order.kind <= ORDER_CLEAR)
        finish_topic(turn, context, error);
    else
        dead_on_done(turn, context, error);
}

static enum weir_error on_message(struct turn *turn, void *state, struct message *message)
{
    struct orders *orders = state;
    struct admin *admin = orders->admin;
    switch (message->tag) {
    case ADMIN_ORDER: on_order(turn, orders, message->detail); break;
    case MESSAGE_TIMER: on_timer(turn, orders, message->word[0]); break;
    case PLUGIN_LOADED:
    case PLUGIN_RELOADED:
        if (context_of_token(admin, message->word[1]) != NULL)
            order_plugin_done(turn, context_of_token(admin, message->word[1]), message);
        break;
    case PLUGIN_UNLOADED:
        if (context_of_token(admin, message->word[1]) != NULL)
            order_plugin_unloaded(turn, context_of_token(admin, message->word[1]), message->word[0]);
        break;
    case TOPIC_DONE: on_done(turn, orders, (enum weir_error)message->word[0], message->word[1]); break;
    case DIRECTORY_TOPIC: on_done(turn, orders, (enum weir_error)message->word[2], message->word[0]); break;
    default:
        for (unsigned i = 0; i < admin->context_count; i++) {
            if (admin->contexts[i].under_way != 0 && dead_owns(&admin->contexts[i].order, message)) {
                dead_on_message(turn, &admin->contexts[i], message);
                break;
            }
        }
        break;
    }
    return WEIR_OK;
}

static enum weir_error on_start(struct turn *turn, void *state, const void *args)
{
    struct orders *orders = state;
    weir_timer sampling;
    memcpy(&orders->admin, args, sizeof orders->admin);
    orders->last = calloc(1, sizeof *orders->last);
    if (orders->last == NULL)
        return WEIR_NO_MEMORY;
    return timer_start(turn_runtime(turn), turn_self(turn), ADMIN_SAMPLE_MS * NS_PER_MS, ADMIN_SAMPLE_MS * NS_PER_MS,
                       TIMER_SAMPLE, &sampling);
}

static void on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct orders *orders = state;
    (void)cause;
    for (unsigned i = 0; i < orders->admin->context_count; i++) {
        if (orders->admin->contexts[i].under_way != 0)
            dead_fini(turn, &orders->admin->contexts[i].order);
    }
    free(orders->last);
}

static const struct behaviour behaviour = {.name = "admin",
                                           .state_size = sizeof(struct orders),
                                           .on_start = on_start,
                                           .on_message = on_message,
                                           .on_stop = on_stop};

enum weir_error orders_start(struct admin *admin)
{
    struct actor_options options = {.supervisor = admin->options.supervisor, .label = "admin orders"};
    return actor_spawn(admin->options.runtime, &behaviour, &admin, sizeof admin, &options, &admin->actor);
}

enum weir_error orders_give(struct admin_context *context)
{
    struct message message = {.tag = ADMIN_ORDER, .detail = context->index};
    return actor_control(context->admin->options.runtime, WEIR_ACTOR_NONE, context->admin->actor, &message);
}
