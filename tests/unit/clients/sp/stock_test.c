/* Stock nng sockets of the installed library, each in a process of its own, against our listener: one address serves
 * push0, req0, pair0 and sub0, over tcp and ipc. This program starts itself again as the stock side, before it makes
 * any nng call in the child. */
#include "tests/unit/clients/sp/harness.h"

#include "clients/sp/inbox.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>

#include <stdint.h>
#include <sys/wait.h>

#define PUSH_COUNT 2000
#define REQ_CONTEXTS 8
#define REQ_ROUNDS 50
#define BODY_MAX (1 << 20)

/* The stock side; exit code 0 when all went as it must. */

static void must(int code)
{
    if (code) {
        (void)fprintf(stderr, "stock side: %s\n", nng_strerror(code));
        exit(1);
    }
}

/* Standard input ends when the test has seen all it wants, so nothing is cut off by an early close. */
static int wait_for_the_test(void)
{
    char byte;
    return read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1;
}

/* Message i is 4 bytes of i and then i % 300 bytes of it. */
static int stock_push(const char *url)
{
    nng_socket push;
    must(nng_push0_open(&push));
    must(nng_dial(push, url, NULL, 0));
    for (uint32_t i = 0; i < PUSH_COUNT; i++) {
        nng_msg *msg;
        must(nng_msg_alloc(&msg, 0));
        must(nng_msg_append_u32(msg, i));
        for (uint32_t k = 0; k < i % 300; k++)
            must(nng_msg_append(msg, &(uint8_t){(uint8_t)i}, 1));
        must(nng_sendmsg(push, msg, 0));
    }
    int result = wait_for_the_test();
    must(nng_close(push));
    return result;
}

static void request_send(nng_ctx ctx, nng_aio *aio, uint32_t number)
{
    nng_msg *msg;
    must(nng_msg_alloc(&msg, 0));
    must(nng_msg_append_u32(msg, number));
    nng_aio_set_msg(aio, msg);
    nng_ctx_send(ctx, aio);
    nng_aio_wait(aio);
    must(nng_aio_result(aio));
}

static void reply_expect(nng_ctx ctx, nng_aio *aio, uint32_t number)
{
    uint32_t got = 0;
    nng_ctx_recv(ctx, aio);
    nng_aio_wait(aio);
    must(nng_aio_result(aio));
    nng_msg *msg = nng_aio_get_msg(aio);
    must(nng_msg_trim_u32(msg, &got));
    if (got != number || nng_msg_len(msg) != 0)
        exit(2);
    nng_msg_free(msg);
}

/* All contexts have a request under way before the first reply is asked for. */
static int stock_req(const char *url)
{
    nng_socket req;
    nng_ctx ctx[REQ_CONTEXTS];
    nng_aio *aio;
    must(nng_req0_open(&req));
    must(nng_aio_alloc(&aio, NULL, NULL));
    nng_aio_set_timeout(aio, WAIT_S * 1000);
    must(nng_dial(req, url, NULL, 0));
    for (unsigned i = 0; i < REQ_CONTEXTS; i++)
        must(nng_ctx_open(&ctx[i], req));
    for (uint32_t round = 0; round < REQ_ROUNDS; round++) {
        for (uint32_t i = 0; i < REQ_CONTEXTS; i++)
            request_send(ctx[i], aio, round * REQ_CONTEXTS + i);
        for (uint32_t i = REQ_CONTEXTS; i-- > 0;)
            reply_expect(ctx[i], aio, round * REQ_CONTEXTS + i);
    }
    nng_aio_free(aio);
    must(nng_close(req));
    return 0;
}

static int stock_pair(const char *url)
{
    nng_socket pair;
    must(nng_pair0_open(&pair));
    must(nng_socket_set_ms(pair, NNG_OPT_RECVTIMEO, WAIT_S * 1000));
    must(nng_socket_set_size(pair, NNG_OPT_RECVMAXSZ, BODY_MAX));
    must(nng_dial(pair, url, NULL, 0));
    for (size_t size = 1; size <= BODY_MAX; size *= 4) {
        char *body = malloc(size);
        void *echo = NULL;
        size_t echo_size = 0;
        memset(body, (int)(size % 251), size);
        must(nng_send(pair, body, size, 0));
        must(nng_recv(pair, &echo, &echo_size, NNG_FLAG_ALLOC));
        if (echo_size != size || memcmp(echo, body, size) != 0)
            return 2;
        nng_free(echo, echo_size);
        free(body);
    }
    must(nng_close(pair));
    return 0;
}

static int stock_sub(const char *url)
{
    nng_socket sub;
    void *body = NULL;
    size_t size = 0;
    must(nng_sub0_open(&sub));
    must(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, WAIT_S * 1000));
    must(nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, "wanted/", 7));
    must(nng_dial(sub, url, NULL, 0));
    must(nng_recv(sub, &body, &size, NNG_FLAG_ALLOC));
    if (size != 11 || memcmp(body, "wanted/this", 11) != 0)
        return 2;
    nng_free(body, size);
    must(nng_close(sub));
    return 0;
}

/* The test's side. */

struct stock {
    pid_t process;
    int input;
};

static void stock_start(struct stock *stock, const char *mode, const char *url)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    stock->process = fork();
    assert_true(stock->process >= 0);
    if (stock->process == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "stock_test", mode, url, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    stock->input = ends[1];
}

static void stock_finish(struct stock *stock)
{
    int status = 0;
    close(stock->input);
    assert_int_equal(waitpid(stock->process, &status, 0), stock->process);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The next message of a pipe; false when it is closing. */
static bool message_receive(struct end *end, struct sp_inbox *inbox, const uint8_t **body, size_t *size)
{
    for (;;) {
        enum weir_error error = sp_inbox_next(inbox, body, size);
        if (error == WEIR_OK)
            return true;
        assert_int_equal(error, WEIR_AGAIN);
        void *space;
        size_t room;
        assert_int_equal(sp_inbox_reserve(inbox, &space, &room), WEIR_OK);
        size_t got = end_receive(end, space, room);
        if (got == 0)
            return false;
        sp_inbox_commit(inbox, got);
    }
}

static void message_send(struct end *end, const void *body, size_t size)
{
    uint8_t prefix[SP_PREFIX_SIZE_MAX];
    bool is_ipc = sp_pipe_is_ipc(end->pipe);
    unsigned before = end->sent_count;
    sp_prefix_write(prefix, is_ipc, size);
    const struct iovec parts[] = {{prefix, sp_prefix_size(is_ipc)}, {(void *)(uintptr_t)body, size}};
    sp_pipe_send(end->pipe, parts, 2);
    MONITOR_WAIT(&end->monitor, end->sent_count > before || end->closed_count > 0);
}

static void serve_push(struct end *end, struct sp_inbox *inbox)
{
    const uint8_t *body;
    size_t size;
    for (uint32_t i = 0; i < PUSH_COUNT; i++) {
        assert_true(message_receive(end, inbox, &body, &size));
        assert_int_equal(size, 4 + i % 300);
        assert_int_equal((uint32_t)body[0] << 24 | body[1] << 16 | body[2] << 8 | body[3], i);
    }
}

/* A reply is the request's id and body again, here the whole message, which ends the echo's life when the peer leaves.
 */
static void serve_echo(struct end *end, struct sp_inbox *inbox)
{
    const uint8_t *body;
    size_t size;
    while (message_receive(end, inbox, &body, &size))
        message_send(end, body, size);
}

static void serve_sub(struct end *end, struct sp_inbox *inbox)
{
    (void)inbox;
    message_send(end, "other/this", 10);
    message_send(end, "wanted/this", 11);
}

static void stock_check(const char *mode, enum sp_protocol protocol, void (*serve)(struct end *, struct sp_inbox *))
{
    char directory[64];
    char urls[2][96] = {"tcp://127.0.0.1:0"};
    directory_make(directory);
    (void)snprintf(urls[1], sizeof urls[1], "ipc://%s/s", directory);
    for (unsigned i = 0; i < 2; i++) {
        struct server server;
        struct end end;
        struct stock stock;
        struct sp_inbox inbox;
        server_init(&server, urls[i], 5000);
        stock_start(&stock, mode, sp_listener_url(server.listener));
        end_init(&end, server_take(&server));
        assert_int_equal(sp_pipe_peer_protocol(end.pipe), protocol);
        sp_inbox_init(&inbox, sp_pipe_is_ipc(end.pipe), 65536, BODY_MAX);
        serve(&end, &inbox);
        stock_finish(&stock);
        sp_inbox_fini(&inbox);
        end_fini(&end);
        server_fini(&server);
    }
    directory_remove(directory);
}

static void stock_push_is_received_in_order(void **state)
{
    (void)state;
    stock_check("push", SP_PUSH0, serve_push);
}

static void stock_req_contexts_get_their_replies(void **state)
{
    (void)state;
    stock_check("req", SP_REQ0, serve_echo);
}

static void stock_pair_gets_its_messages_back(void **state)
{
    (void)state;
    stock_check("pair", SP_PAIR0, serve_echo);
}

static void stock_sub_hears_its_topic(void **state)
{
    (void)state;
    stock_check("sub", SP_SUB0, serve_sub);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        const char *mode = argv[1];
        if (strcmp(mode, "push") == 0)
            return stock_push(argv[2]);
        if (strcmp(mode, "req") == 0)
            return stock_req(argv[2]);
        if (strcmp(mode, "pair") == 0)
            return stock_pair(argv[2]);
        return stock_sub(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stock_push_is_received_in_order),
        cmocka_unit_test(stock_req_contexts_get_their_replies),
        cmocka_unit_test(stock_pair_gets_its_messages_back),
        cmocka_unit_test(stock_sub_hears_its_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
