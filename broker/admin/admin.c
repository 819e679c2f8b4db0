/* The admin socket: contexts of one REP socket, each receiving, working or sending. nng's threads, and the admin
 * actor's for answers to orders. */
#include "broker/admin/admin.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/base/assert.h"
#include "broker/admin/commands.h"

enum {
    REQUEST_SIZE_MAX = 64 * 1024,
    ANSWER_SIZE_MIN = 16 * 1024,
    ANSWER_SIZE_MAX = 32 * 1024 * 1024, /* a hundred thousand topics and more; beyond, ask with a pattern */
    REPLY_HEAD_MAX = 16,
    DEPTH_MAX = 8,
};

static const struct {
    const char *name;
    admin_command run;
} commands[] = {{"status", show_status},
                {"topics", show_topics},
                {"connections", show_connections},
                {"subscriptions", show_subscriptions},
                {"tree", show_tree},
                {"why", show_why},
                {"config", show_config},
                {"restart", steer_restart},
                {"disconnect", steer_disconnect},
                {"log", steer_log},
                {"drain", steer_drain},
                {"shutdown", steer_shutdown},
                {"topic", steer_topic},
                {"dead", steer_dead}};

enum weir_error admin_refuse(struct admin_context *context, enum weir_error error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context->message, sizeof context->message, format, arguments);
    va_end(arguments);
    return error;
}

enum weir_error admin_text(struct admin_context *context, struct view args, const char *key, char *out, size_t capacity)
{
    struct view text;
    enum weir_error error = args_find_str(args, key, &text);
    if (error == WEIR_BAD_REQUEST)
        return admin_refuse(context, error, "'%s' must be text", key);
    if (error != WEIR_OK)
        return error;
    if (text.size >= capacity || memchr(text.data, 0, text.size) != NULL)
        return admin_refuse(context, WEIR_BAD_REQUEST, "'%s' is longer than %zu bytes", key, capacity - 1);
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return WEIR_OK;
}

/* --------------------------------------------------------------------------------------------- answering */

static void context_receive(struct admin_context *context)
{
    nng_aio_set_timeout(context->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(context->ctx, context->aio);
}

void context_answer(struct admin_context *context, enum weir_error error, struct view result)
{
    struct value_writer writer;
    nng_msg *reply = NULL;
    size_t capacity = result.size + REPLY_HEAD_MAX + 2 * ADMIN_MESSAGE_SIZE;
    if (context->request != NULL)
        nng_msg_free(context->request);
    context->request = NULL;
    context->phase = CONTEXT_SENDING;
    if (nng_msg_alloc(&reply, capacity) != 0) {
        context->phase = CONTEXT_RECEIVING;
        context_receive(context);
        return;
    }
    value_writer_init(&writer, nng_msg_body(reply), capacity);
    if (error == WEIR_OK)
        reply_ok_write(&writer, result);
    else
        reply_error_write(&writer, error,
                          view_text(context->message[0] != '\0' ? context->message : weir_error_text(error)),
                          view_text(""), view_text(""), 0);
    ENSURE(!writer.is_full);
    nng_msg_chop(reply, capacity - writer.size);
    nng_aio_set_msg(context->aio, reply);
    nng_aio_set_timeout(context->aio, ADMIN_SEND_MS);
    nng_ctx_send(context->ctx, context->aio);
}

static admin_command command_find(struct view verb)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (view_is_same(verb, view_text(commands[i].name)))
            return commands[i].run;
    }
    return NULL;
}

/* Runs a command into a buffer that grows until the answer fits; what they show may be any size. */
static void command_run(struct admin_context *context, admin_command run, struct view args)
{
    for (size_t capacity = ANSWER_SIZE_MIN;; capacity *= 4) {
        struct answer answer;
        uint8_t *data = malloc(capacity);
        enum weir_error error = WEIR_NO_MEMORY;
        context->message[0] = '\0';
        if (data != NULL) {
            answer_init(&answer, data, capacity);
            error = run(context, args, &answer);
        }
        if (error == WEIR_AGAIN) { /* the actor answers; context is its own now */
            free(data);
            return;
        }
        if (error == WEIR_OK)
            answer_end(&answer);
        if (error == WEIR_OK && answer.writer.is_full) {
            free(data);
            if (capacity < ANSWER_SIZE_MAX)
                continue;
            admin_refuse(context, WEIR_TOO_BIG, "the answer is larger than %d bytes: ask with a narrower pattern",
                         ANSWER_SIZE_MAX);
            context_answer(context, WEIR_TOO_BIG, view_of(NULL, 0));
            return;
        }
        context_answer(context, error, error == WEIR_OK ? view_of(data, answer.writer.size) : view_of(NULL, 0));
        free(data);
        return;
    }
}

static void on_request(struct admin_context *context)
{
    struct request request;
    const char *reason = "";
    context->request = nng_aio_get_msg(context->aio);
    context->phase = CONTEXT_WORKING;
    struct view body = view_of(nng_msg_body(context->request), nng_msg_len(context->request));
    enum weir_error error = request_read(body, DEPTH_MAX, &request, &reason);
    if (error != WEIR_OK) {
        admin_refuse(context, error, "not [command, {arguments}]: %s", reason);
        context_answer(context, error, view_of(NULL, 0));
        return;
    }
    admin_command run = command_find(request.verb);
    if (run == NULL) {
        admin_refuse(context, WEIR_NOT_FOUND, "there is no command '%.*s'; weir admin --help lists them",
                     request.verb.size > 64 ? 64 : (int)request.verb.size, (const char *)request.verb.data);
        context_answer(context, WEIR_NOT_FOUND, view_of(NULL, 0));
        return;
    }
    command_run(context, run, request.args);
}

/* The aio of a context has ended: a request came, or its answer went. */
static void on_aio(void *argument)
{
    struct admin_context *context = argument;
    int error = nng_aio_result(context->aio);
    if (context->phase == CONTEXT_SENDING && error != 0)
        nng_msg_free(nng_aio_get_msg(context->aio));
    if (error == NNG_ECLOSED || error == NNG_ECANCELED)
        return;
    if (context->phase == CONTEXT_RECEIVING && error == 0) {
        on_request(context);
        return;
    }
    context->phase = CONTEXT_RECEIVING;
    context_receive(context);
}

/* ---------------------------------------------------------------------------------------- opening, closing */

/* In place of the C library's, also for libnng: nng 1.5.2 takes EPIPE during its handshake for the end of the listener
 * (nng issue 1518), so that one client that connects and closes at once would leave the broker without its admin
 * socket. A reset connection it takes for what it is. Any thread. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's names are its own */
__attribute__((visibility("default"))) ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    ssize_t sent = syscall(SYS_sendmsg, socket, message, flags);
    if (sent < 0 && errno == EPIPE)
        errno = ECONNRESET;
    return sent;
}

/* The socket file appears with the process's umask before nng's own chmod; the directory keeps others out meanwhile. */
static enum weir_error directory_make(struct admin *admin, const char *url, const char **reason)
{
    static char text[256];
    char directory[sizeof admin->path];
    struct stat info;
    *reason = text;
    if (strncmp(url, "ipc://", 6) != 0 || strlen(url + 6) >= sizeof admin->path || url[6] != '/') {
        snprintf(text, sizeof text, "it must be ipc:// and an absolute path of less than %zu bytes",
                 sizeof admin->path);
        return WEIR_BAD_REQUEST;
    }
    snprintf(admin->path, sizeof admin->path, "%s", url + 6);
    memcpy(directory, admin->path, sizeof directory);
    *strrchr(directory, '/') = '\0';
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        snprintf(text, sizeof text, "cannot make the directory %.150s: %s", directory, strerror(errno));
        return WEIR_IO;
    }
    if (stat(directory, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 077) != 0) {
        snprintf(text, sizeof text, "the directory %.150s must be a directory of this user with mode 0700", directory);
        return WEIR_FORBIDDEN;
    }
    return WEIR_OK;
}

static enum weir_error listen_on(struct admin *admin, const char *url, const char **reason)
{
    nng_listener listener;
    nng_setopt_size(admin->socket, NNG_OPT_RECVMAXSZ, REQUEST_SIZE_MAX);
    int error = nng_listener_create(&listener, admin->socket, url);
    if (error == 0)
        error = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    if (error == 0)
        error = nng_listener_start(listener, 0);
    if (error != 0)
        *reason =
            error == NNG_EADDRINUSE ? "another broker answers there; give each its own --admin" : nng_strerror(error);
    return error == 0 ? WEIR_OK : WEIR_IO;
}

static enum weir_error contexts_open(struct admin *admin)
{
    for (unsigned i = 0; i < ADMIN_CONTEXTS; i++) {
        struct admin_context *context = &admin->contexts[i];
        context->admin = admin;
        context->index = i;
        if (nng_ctx_open(&context->ctx, admin->socket) != 0)
            return WEIR_NO_MEMORY;
        if (nng_aio_alloc(&context->aio, on_aio, context) != 0) {
            nng_ctx_close(context->ctx);
            return WEIR_NO_MEMORY;
        }
        admin->context_count++;
    }
    return WEIR_OK;
}

enum weir_error admin_open(const struct admin_options *options, const char *url, struct admin **out,
                           const char **reason)
{
    *out = NULL;
    *reason = "no memory";
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL)
        return WEIR_NO_MEMORY;
    admin->options = *options;
    enum weir_error error = directory_make(admin, url, reason);
    if (error != WEIR_OK) {
        free(admin);
        return error;
    }
    if (nng_rep0_open(&admin->socket) != 0) {
        free(admin);
        return WEIR_NO_MEMORY;
    }
    error = contexts_open(admin);
    if (error == WEIR_OK)
        error = orders_start(admin);
    if (error == WEIR_OK)
        error = listen_on(admin, url, reason);
    if (error != WEIR_OK) {
        admin_destroy(&admin);
        return error;
    }
    for (unsigned i = 0; i < admin->context_count; i++)
        context_receive(&admin->contexts[i]);
    *out = admin;
    return WEIR_OK;
}

void admin_close(struct admin *admin)
{
    if (admin == NULL || admin->is_closed)
        return;
    admin->is_closed = true;
    nng_close(admin->socket);
    for (unsigned i = 0; i < admin->context_count; i++)
        nng_aio_stop(admin->contexts[i].aio);
}

void admin_destroy(struct admin **admin_in)
{
    struct admin *admin = *admin_in;
    *admin_in = NULL;
    if (admin == NULL)
        return;
    admin_close(admin);
    for (unsigned i = 0; i < admin->context_count; i++) {
        nng_aio_free(admin->contexts[i].aio);
        if (admin->contexts[i].request != NULL)
            nng_msg_free(admin->contexts[i].request);
    }
    free(admin);
}
