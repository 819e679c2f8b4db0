/* Requests inside the session: each waits for the reply that carries its id. Users' threads, with the lock held only
 * around the bookkeeping. */
#include <stdlib.h>
#include <string.h>

#include "actors/base/assert.h"
#include "clients/lib/client.h"
#include "clients/lib/reason.h"
#include "clients/wire/request.h"

static char *text_copy(struct view text)
{
    char *copy = malloc(text.size + 1);
    if (copy != NULL) {
        memcpy(copy, text.data, text.size);
        copy[text.size] = '\0';
    }
    return copy;
}

static enum weir_error reply_copy(struct weir_reply *reply, const struct frame *frame)
{
    struct view result = frame->as.reply.result;
    if (!frame->as.reply.ok) {
        struct view code = view_text("internal"), message = view_text("");
        if (args_find_str(result, "code", &code) != WEIR_OK || args_find_str(result, "message", &message) != WEIR_OK)
            message = view_text("the broker refused without saying why");
        reply->error = weir_error_from_code((const char *)code.data, code.size);
        reply->message = text_copy(message);
        return reply->message == NULL ? WEIR_NO_MEMORY : WEIR_OK;
    }
    reply->result = malloc(result.size + 1);
    if (reply->result == NULL)
        return WEIR_NO_MEMORY;
    memcpy(reply->result, result.data, result.size);
    reply->result_size = result.size;
    return WEIR_OK;
}

void requests_on_reply(struct weir *client, const struct frame *frame)
{
    for (struct request_waiter *w = client->requests; w != NULL; w = w->next) {
        if (w->id != frame->as.reply.id || w->is_done)
            continue;
        w->error = reply_copy(w->reply, frame);
        w->is_done = true;
        pthread_cond_broadcast(&client->changed);
    }
}

void requests_on_link_down(struct weir *client)
{
    for (struct request_waiter *w = client->requests; w != NULL; w = w->next) {
        if (w->is_done)
            continue;
        w->error = WEIR_CLOSED;
        w->is_done = true;
    }
}

/* A broker ends the session over arguments that are nested too deeply in all; of a value in them it says so. */
static enum weir_error request_check(const struct weir *client, struct view verb, struct view args)
{
    const struct link *link = &client->link;
    size_t scanned = 0, size = args.size + verb.size + 32;
    unsigned depth_max = atomic_load_explicit(&link->depth_max, memory_order_relaxed);
    if (link->message_max != 0 && size > link->message_max)
        return reason_give(WEIR_TOO_BIG, "the request has %zu bytes, and a message of this broker at most %zu", size,
                           (size_t)link->message_max);
    if (value_scan(args, depth_max + VALUE_ENVELOPE_DEPTH, &scanned) != WEIR_OK)
        return reason_give(WEIR_BAD_REQUEST,
                           "the arguments are nested deeper than the %u levels that this broker takes",
                           depth_max + VALUE_ENVELOPE_DEPTH);
    return WEIR_OK;
}

/* Sends the request once the session is up and waits for its reply. */
static enum weir_error request_run(struct weir *client, struct view verb, struct view args, uint64_t timeout_ms,
                                   struct request_waiter *waiter)
{
    uint64_t deadline = deadline_after_ms(timeout_ms);
    while (client->link.state != LINK_UP) {
        if (client->is_over)
            return reason_usual(WEIR_CLOSED);
        if (!client_wait(client, deadline))
            return reason_usual(WEIR_TIMEOUT);
    }
    enum weir_error error = request_check(client, verb, args);
    if (error != WEIR_OK)
        return error;
    waiter->id = client->next_request++;
    waiter->next = client->requests;
    client->requests = waiter;
    struct frame frame = {.op = FRAME_REQUEST};
    frame.as.request.id = waiter->id;
    frame.as.request.verb = verb;
    frame.as.request.args = args;
    link_control(client, &frame);
    link_pump_released(client);
    while (!waiter->is_done && error == WEIR_OK) {
        if (client->is_over)
            error = WEIR_CLOSED;
        else if (!client_wait(client, deadline))
            error = WEIR_TIMEOUT;
    }
    struct request_waiter **at = &client->requests;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    return reason_usual(waiter->is_done ? waiter->error : error);
}

enum weir_error weir_request(struct weir *client, const char *verb, struct weir_view args, uint64_t timeout_ms,
                             struct weir_reply *reply)
{
    MAGIC_CHECK(client, CLIENT_MAGIC);
    *reply = (struct weir_reply){.error = WEIR_OK};
    if (client_is_own_thread(client))
        return reason_callback();
    static const uint8_t empty_map[] = {0x80};
    struct view given = args.size == 0 ? view_of(empty_map, sizeof empty_map) : view_of(args.data, args.size);
    size_t scanned = 0;
    if (value_scan(given, CLIENT_DEPTH_MAX, &scanned) != WEIR_OK || scanned != given.size)
        return reason_give(WEIR_BAD_REQUEST, "the arguments are not one well-formed msgpack value");
    struct request_waiter waiter = {.reply = reply};
    pthread_mutex_lock(&client->lock);
    enum weir_error error = request_run(client, view_text(verb), given, timeout_ms, &waiter);
    pthread_mutex_unlock(&client->lock);
    if (error != WEIR_OK)
        weir_reply_free(reply);
    return error;
}

void weir_reply_free(struct weir_reply *reply)
{
    free(reply->message);
    free(reply->result);
    *reply = (struct weir_reply){.error = WEIR_OK};
}

enum weir_error weir_get(struct weir *client, const char *topic, const char *key, uint64_t timeout_ms,
                         struct weir_reply *reply)
{
    size_t capacity = strlen(topic) + (key != NULL ? strlen(key) : 0) + 32;
    uint8_t *args = malloc(capacity);
    if (args == NULL)
        return reason_usual(WEIR_NO_MEMORY);
    struct value_writer writer;
    value_writer_init(&writer, args, capacity);
    value_write_map(&writer, key != NULL ? 2 : 1);
    value_write_str(&writer, view_text("topic"));
    value_write_str(&writer, view_text(topic));
    if (key != NULL) {
        value_write_str(&writer, view_text("key"));
        value_write_str(&writer, view_text(key));
    }
    enum weir_error error = weir_request(client, "get", (struct weir_view){args, writer.size}, timeout_ms, reply);
    free(args);
    return error;
}

enum weir_error weir_get_page(struct weir *client, const char *topic, const struct weir_page *page, uint64_t timeout_ms,
                              struct weir_reply *reply)
{
    size_t capacity = strlen(topic) + (page->prefix != NULL ? strlen(page->prefix) : 0) + page->after.size + 64;
    uint8_t *args = malloc(capacity);
    if (args == NULL)
        return reason_usual(WEIR_NO_MEMORY);
    struct value_writer writer;
    value_writer_init(&writer, args, capacity);
    value_write_map(&writer, 1u + (page->prefix != NULL) + (page->after.data != NULL) + (page->limit > 0));
    value_write_str(&writer, view_text("topic"));
    value_write_str(&writer, view_text(topic));
    if (page->prefix != NULL) {
        value_write_str(&writer, view_text("prefix"));
        value_write_str(&writer, view_text(page->prefix));
    }
    if (page->after.data != NULL) {
        value_write_str(&writer, view_text("after"));
        value_write_str(&writer, view_of(page->after.data, page->after.size));
    }
    if (page->limit > 0) {
        value_write_str(&writer, view_text("limit"));
        value_write_uint(&writer, page->limit);
    }
    enum weir_error error = weir_request(client, "get", (struct weir_view){args, writer.size}, timeout_ms, reply);
    free(args);
    return error;
}

enum weir_error weir_list(struct weir *client, const char *pattern, uint64_t timeout_ms, struct weir_reply *reply)
{
    size_t capacity = strlen(pattern) + 32;
    uint8_t *args = malloc(capacity);
    if (args == NULL)
        return reason_usual(WEIR_NO_MEMORY);
    struct value_writer writer;
    value_writer_init(&writer, args, capacity);
    value_write_map(&writer, 1);
    value_write_str(&writer, view_text("pattern"));
    value_write_str(&writer, view_text(pattern));
    enum weir_error error = weir_request(client, "list", (struct weir_view){args, writer.size}, timeout_ms, reply);
    free(args);
    return error;
}
