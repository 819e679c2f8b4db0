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
                {"dead", steer_dead},
                {"plugin", steer_plugin}};

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
    struct admin *admin = context->admin;
    pthread_mutex_lock(&admin->gate);
    if (!admin->is_closed) {
        nng_aio_set_timeout(context->aio, NNG_DURATION_INFINITE);
        nng_ctx_recv(context->ctx, context->aio);
    }
    pthread_mutex_unlock(&admin->gate);
}

/* Takes the reply. */
static void context_send(struct admin_context *context, nng_msg *reply)
{
    struct admin *admin = context->admin;
    pthread_mutex_lock(&admin->gate);
    if (admin->is_closed) {
        nng_msg_free(reply);
    } else {
        nng_aio_set_msg(context->aio, reply);
        nng_aio_set_timeout(context->aio, ADMIN_SEND_MS);
        nng_ctx_send(context->ctx, context->aio);
    }
    pthread_mutex_unlock(&admin->gate);
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
        reply_error_write(&writer, &(struct reply_refusal){.error = error,
                                                           .message = view_text(context->message[0] != '\0'
                                                                                    ? context->message
                                                                                    : weir_error_text(error))});
    ENSURE(!writer.is_full);
    nng_msg_chop(reply, capacity - writer.size);
    context_send(context, reply);
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

enum weir_error admin_describe(struct admin *admin, const char *command, const char *pattern, void *data,
                               size_t capacity, size_t *size)
{
    uint8_t encoded[TOPIC_NAME_SIZE_MAX + 32];
    struct value_writer args;
    struct admin_context context = {.admin = admin};
    struct answer answer;
    value_writer_init(&args, encoded, sizeof encoded);
    value_write_map(&args, pattern != NULL);
    if (pattern != NULL) {
        value_write_str(&args, view_text("pattern"));
        value_write_str(&args, view_text(pattern));
    }
    admin_command run = command_find(view_text(command));
    REQUIRE(run == show_status || run == show_topics || run == show_connections || run == show_tree);
    answer_init(&answer, data, capacity);
    answer.is_lasting = true;
    enum weir_error error = run(&context, view_of(encoded, args.size), &answer);
    if (error != WEIR_OK)
        return error;
    answer_end(&answer);
    *size = answer.writer.size;
    return answer.writer.is_full ? WEIR_TOO_BIG : WEIR_OK;
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
    struct stat info;
    /* connect answers "refused" for an ordinary file too; without this look nng would delete it. */
    if (lstat(admin->path, &info) == 0 && !S_ISSOCK(info.st_mode)) {
        *reason = "the path exists and is not a socket; move that away, or give another --admin";
        return WEIR_EXISTS;
    }
    nng_setopt_size(admin->socket, NNG_OPT_RECVMAXSZ, REQUEST_SIZE_MAX);
    int error = nng_listener_create(&listener, admin->socket, url);
    if (error == 0)
        error = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    if (error == 0)
        error = nng_listener_start(listener, 0);
    if (error != 0)
        *reason =
            error == NNG_EADDRINUSE ? "another broker answers there; give each its own --admin" : nng_strerror(error);
    admin->is_listening = error == 0;
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

enum weir_error admin_create(const struct admin_options *options, struct admin **out)
{
    *out = NULL;
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL)
        return WEIR_NO_MEMORY;
    admin->options = *options;
    if (nng_rep0_open(&admin->socket) != 0) {
        free(admin);
        return WEIR_NO_MEMORY;
    }
    pthread_mutex_init(&admin->gate, NULL);
    enum weir_error error = contexts_open(admin);
    if (error == WEIR_OK)
        error = orders_start(admin);
    if (error != WEIR_OK) {
        admin_destroy(&admin);
        return error;
    }
    *out = admin;
    return WEIR_OK;
}

enum weir_error admin_listen(struct admin *admin, const char *url, const char **reason)
{
    enum weir_error error = directory_make(admin, url, reason);
    if (error == WEIR_OK)
        error = listen_on(admin, url, reason);
    for (unsigned i = 0; error == WEIR_OK && i < admin->context_count; i++)
        context_receive(&admin->contexts[i]);
    return error;
}

void admin_close(struct admin *admin)
{
    if (admin == NULL)
        return;
    pthread_mutex_lock(&admin->gate);
    bool was_closed = admin->is_closed;
    admin->is_closed = true;
    pthread_mutex_unlock(&admin->gate);
    if (was_closed)
        return;
    /* To free an aio waits for all that nng still does with it, its timeout included. */
    for (unsigned i = 0; i < admin->context_count; i++)
        nng_aio_free(admin->contexts[i].aio);
    /* The socket is left to the end of the process: nng_close of 1.5.2 waits for ever when a pipe is closed between a
     * message's length and its body, and nobody's question may hold up the end of the broker. */
    if (admin->is_listening)
        unlink(admin->path);
}

void admin_destroy(struct admin **admin_in)
{
    struct admin *admin = *admin_in;
    *admin_in = NULL;
    if (admin == NULL)
        return;
    admin_close(admin);
    for (unsigned i = 0; i < admin->context_count; i++) {
        if (admin->contexts[i].request != NULL)
            nng_msg_free(admin->contexts[i].request);
    }
    pthread_mutex_destroy(&admin->gate);
    free(admin);
}
