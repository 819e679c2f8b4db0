/* A REQ exchange over one pipe. The main thread waits; a poller notes what happened. */
#include "clients/cli/ask.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "clients/sp/inbox.h"
#include "clients/sp/pipe.h"

/* The id that REQ puts before a request and finds before its reply; the high bit says that no more follow. */
static const uint8_t request_id[4] = {0x80, 0, 0, 1};

enum { SPACE_SIZE = 64 * 1024 };

struct asking {
    struct sp_pipe *pipe;
    struct sp_inbox inbox; /* the main thread's, but for the space being received into */
    uint64_t deadline_ns;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    bool is_sent, is_received, is_closed;
    size_t received;
    enum weir_error error;
};

static void asking_note(struct asking *asking, bool *what, size_t size, enum weir_error error)
{
    pthread_mutex_lock(&asking->lock);
    *what = true;
    asking->received = size;
    if (error != WEIR_OK && asking->error == WEIR_OK)
        asking->error = error;
    pthread_cond_signal(&asking->changed);
    pthread_mutex_unlock(&asking->lock);
}

static void on_received(void *owner, size_t size, enum weir_error error)
{
    struct asking *asking = owner;
    asking_note(asking, &asking->is_received, size, error);
}

static void on_sent(void *owner, enum weir_error error)
{
    struct asking *asking = owner;
    asking_note(asking, &asking->is_sent, 0, error);
}

static void on_closed(void *owner)
{
    struct asking *asking = owner;
    asking_note(asking, &asking->is_closed, 0, WEIR_CLOSED);
}

static const struct sp_pipe_handlers handlers = {on_received, on_sent, on_closed};

/* Waits for one of the notes; the first error ends the wait, too. */
static enum weir_error asking_wait(struct asking *asking, const bool *what)
{
    struct timespec until = {.tv_sec = (time_t)(asking->deadline_ns / NS_PER_S),
                             .tv_nsec = (long)(asking->deadline_ns % NS_PER_S)};
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&asking->lock);
    while (!*what && asking->error == WEIR_OK && error == WEIR_OK) {
        if (pthread_cond_timedwait(&asking->changed, &asking->lock, &until) == ETIMEDOUT)
            error = WEIR_TIMEOUT;
    }
    if (asking->error != WEIR_OK)
        error = asking->error;
    pthread_mutex_unlock(&asking->lock);
    return error;
}

static enum weir_error asking_send(struct asking *asking, struct view request)
{
    uint8_t prefix[SP_PREFIX_SIZE_MAX];
    bool is_ipc = sp_pipe_is_ipc(asking->pipe);
    sp_prefix_write(prefix, is_ipc, sizeof request_id + request.size);
    const struct iovec parts[] = {{prefix, sp_prefix_size(is_ipc)},
                                  {(void *)(uintptr_t)request_id, sizeof request_id},
                                  {(void *)(uintptr_t)request.data, request.size}};
    sp_pipe_send(asking->pipe, parts, 3);
    return asking_wait(asking, &asking->is_sent);
}

static enum weir_error asking_receive(struct asking *asking, const uint8_t **body, size_t *size)
{
    enum weir_error error = WEIR_AGAIN;
    while ((error = sp_inbox_next(&asking->inbox, body, size)) == WEIR_AGAIN) {
        void *space = NULL;
        size_t room = 0;
        error = sp_inbox_reserve(&asking->inbox, &space, &room);
        if (error != WEIR_OK)
            return error;
        asking->is_received = false; /* no receive is under way: nobody else looks */
        sp_pipe_receive(asking->pipe, space, room);
        error = asking_wait(asking, &asking->is_received);
        if (error != WEIR_OK)
            return error;
        sp_inbox_commit(&asking->inbox, asking->received);
    }
    if (error == WEIR_OK && (*size < sizeof request_id || memcmp(*body, request_id, sizeof request_id) != 0))
        error = WEIR_PROTOCOL;
    return error;
}

static enum weir_error asking_run(struct asking *asking, struct view request, uint8_t **reply, size_t *reply_size)
{
    const uint8_t *body = NULL;
    size_t size = 0;
    sp_inbox_init(&asking->inbox, sp_pipe_is_ipc(asking->pipe), SPACE_SIZE, MESSAGE_SIZE_MAX);
    sp_pipe_start(asking->pipe, &handlers, asking);
    enum weir_error error = asking_send(asking, request);
    if (error == WEIR_OK)
        error = asking_receive(asking, &body, &size);
    if (error == WEIR_OK) {
        *reply_size = size - sizeof request_id;
        *reply = malloc(*reply_size + 1);
        if (*reply == NULL)
            error = WEIR_NO_MEMORY;
        else
            memcpy(*reply, body + sizeof request_id, *reply_size);
    }
    sp_pipe_close(asking->pipe);
    pthread_mutex_lock(&asking->lock);
    while (!asking->is_closed)
        pthread_cond_wait(&asking->changed, &asking->lock);
    pthread_mutex_unlock(&asking->lock);
    sp_pipe_destroy(&asking->pipe);
    sp_inbox_fini(&asking->inbox);
    return error;
}

enum weir_error ask(const char *url, uint64_t timeout_ms, struct view request, uint8_t **reply, size_t *reply_size,
                    const char **reason)
{
    struct asking asking = {.deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS};
    pthread_condattr_t monotonic;
    *reply = NULL;
    *reply_size = 0;
    enum weir_error error = sp_dial(url, SP_REQ0, SP_REP0, timeout_ms, &asking.pipe, reason);
    if (error != WEIR_OK)
        return error;
    pthread_mutex_init(&asking.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&asking.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    error = asking_run(&asking, request, reply, reply_size);
    *reason = weir_error_text(error);
    pthread_cond_destroy(&asking.changed);
    pthread_mutex_destroy(&asking.lock);
    return error;
}
