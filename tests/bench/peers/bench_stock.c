/* bench_stock: what a user of plain nng sockets gets from Weir, and from nng's own sockets in its place (sink_nng).
 *
 *   push      one PUSH socket sends records as fast as the other side takes them; its own send waits
 *   ask       one REQ socket asks to publish, a request at a time; time of the round trip
 *   askmany   as many contexts of one REQ socket at once
 *
 * The main thread starts and reports; each context of `askmany` has a thread. Prints a line of JSON. */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/req.h>

#include "clients/wire/value.h"
#include "tests/bench/peers/hist.h"
#include "tests/bench/peers/usage.h"
#include "tests/bench/peers/util.h"

enum { BODY_MAX = 2048, VALUE_MAX = 1024, CONTEXTS_MAX = 256, WARM_MS = 200 };

static const char *work = "push", *push_url, *ask_url;
static pid_t broker;
static unsigned size = 128, contexts = 64;
static double seconds = 1;

static nng_socket asking;
static atomic_bool stop;
static _Atomic uint64_t done;

static void check(int error, const char *what)
{
    if (error != 0)
        die("stock: %s: %s", what, nng_strerror(error));
}

/* A record for PUSH, [topic, value], or a request to publish it; returns its size. */
static size_t body_write(uint8_t *body, bool is_request)
{
    static const uint8_t value[VALUE_MAX];
    struct value_writer writer;
    value_writer_init(&writer, body, BODY_MAX);
    value_write_array(&writer, 2);
    if (is_request) {
        value_write_str(&writer, view_text("publish"));
        value_write_map(&writer, 2);
        value_write_str(&writer, view_text("topic"));
    }
    value_write_str(&writer, view_text("b/0"));
    if (is_request)
        value_write_str(&writer, view_text("value"));
    value_write_bin(&writer, view_of(value, size));
    return writer.size;
}

static nng_msg *message_make(const uint8_t *body, size_t body_size)
{
    nng_msg *message = NULL;
    check(nng_msg_alloc(&message, body_size), "message");
    memcpy(nng_msg_body(message), body, body_size);
    return message;
}

static void report(struct usage from, struct usage to, uint64_t count)
{
    printf(",\"records_per_s\":%.0f", (double)count * 1e9 / (double)(to.time_ns - from.time_ns));
    usage_print(from, to, (double)count);
}

static void work_push(void)
{
    uint8_t body[BODY_MAX];
    size_t body_size = body_write(body, false);
    nng_socket socket;
    check(nng_push0_open(&socket), "open");
    check(nng_dial(socket, push_url, NULL, 0), "dial");
    uint64_t warm = now_ns() + WARM_MS * UINT64_C(1000000), end = 0, count = 0;
    struct usage from = {0};
    for (uint64_t now; (now = now_ns()) < end || end == 0; count++) {
        check(nng_sendmsg(socket, message_make(body, body_size), 0), "send");
        if (end == 0 && now >= warm) {
            from = usage_now(broker);
            end = from.time_ns + (uint64_t)(seconds * 1e9);
            count = 0;
        }
    }
    report(from, usage_now(broker), count);
}

/* One request and its reply on a context. */
static void ask(nng_ctx context, nng_aio *aio, const uint8_t *body, size_t body_size)
{
    nng_aio_set_msg(aio, message_make(body, body_size));
    nng_ctx_send(context, aio);
    nng_aio_wait(aio);
    check(nng_aio_result(aio), "request");
    nng_ctx_recv(context, aio);
    nng_aio_wait(aio);
    check(nng_aio_result(aio), "reply");
    nng_msg_free(nng_aio_get_msg(aio));
}

/* argument: a histogram of its round trips, or NULL. */
static void *asker_main(void *argument)
{
    struct histogram *latency = argument;
    uint8_t body[BODY_MAX];
    size_t body_size = body_write(body, true);
    nng_ctx context;
    nng_aio *aio = NULL;
    check(nng_ctx_open(&context, asking), "context");
    check(nng_aio_alloc(&aio, NULL, NULL), "aio");
    while (!atomic_load(&stop)) {
        uint64_t start = now_ns();
        ask(context, aio, body, body_size);
        if (latency != NULL)
            hist_add(latency, now_ns() - start);
        atomic_fetch_add(&done, 1);
    }
    return NULL;
}

static void work_ask(unsigned count)
{
    static struct histogram latency;
    pthread_t threads[CONTEXTS_MAX];
    check(nng_req0_open(&asking), "open");
    check(nng_dial(asking, ask_url, NULL, 0), "dial");
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, asker_main, count == 1 ? &latency : NULL) != 0)
            die("stock: no thread");
    wait_ms(WARM_MS);
    struct usage from = usage_now(broker);
    uint64_t before = atomic_load(&done);
    wait_ms((int)(seconds * 1e3));
    struct usage to = usage_now(broker);
    uint64_t asked = atomic_load(&done) - before;
    atomic_store(&stop, true);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    report(from, to, asked);
    if (count == 1)
        printf(",\"latency_p50_us\":%.1f,\"latency_p99_us\":%.1f", (double)hist_quantile(&latency, .5) / 1e3,
               (double)hist_quantile(&latency, .99) / 1e3);
}

static void read_options(int argc, char **argv)
{
    enum { WORK, PUB, SUB, PID, SIZE, SECONDS, CONTEXTS, DRIVER };
    static const struct option known[] = {
        {"work", 1, NULL, WORK},         {"pub", 1, NULL, PUB},       {"sub", 1, NULL, SUB},
        {"pid", 1, NULL, PID},           {"size", 1, NULL, SIZE},     {"seconds", 1, NULL, SECONDS},
        {"contexts", 1, NULL, CONTEXTS}, {"driver", 1, NULL, DRIVER}, {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case WORK: work = optarg; break;
        case PUB: push_url = optarg; break;
        case SUB: ask_url = optarg; break;
        case PID: broker = (pid_t)strtol(optarg, NULL, 10); break;
        case SIZE: size = (unsigned)strtoul(optarg, NULL, 10); break;
        case SECONDS: seconds = strtod(optarg, NULL); break;
        case CONTEXTS: contexts = (unsigned)strtoul(optarg, NULL, 10); break;
        case DRIVER: break; /* of the load generator */
        default: die("unknown option");
        }
    }
    if (push_url == NULL || ask_url == NULL || broker == 0 || size > VALUE_MAX || contexts > CONTEXTS_MAX)
        die("--pub, --sub and --pid are needed; --size at most %d, --contexts at most %d", VALUE_MAX, CONTEXTS_MAX);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    printf("{\"work\":\"%s\",\"size\":%u", work, size);
    if (strcmp(work, "push") == 0)
        work_push();
    else if (strcmp(work, "ask") == 0)
        work_ask(1);
    else if (strcmp(work, "askmany") == 0)
        work_ask(contexts);
    else
        die("unknown work %s", work);
    printf("}\n");
    fflush(stdout);
    _exit(0);
}
