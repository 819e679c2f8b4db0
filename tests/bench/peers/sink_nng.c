/* sink_nng PUSH-URL REQ-URL: what plain nng offers in Weir's place: a PULL socket that throws away what comes, and a
 * REP socket that answers each request with as little as Weir does. */
#include <stdbool.h>

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/reqrep0/rep.h>

#include "tests/bench/peers/util.h"

enum { CONTEXTS = 64, REPLY_SIZE = 32 /* of Weir's ["ok", {epoch, seq}] */ };

static nng_socket pull, rep;

static void check(int error, const char *what)
{
    if (error != 0)
        die("sink_nng: %s: %s", what, nng_strerror(error));
}

/* A context of the REP socket takes the next request when it has answered one; on nng's threads. */
struct answerer {
    nng_ctx context;
    nng_aio *aio;
    bool is_answering;
};
static struct answerer answerers[CONTEXTS];

static void on_answerer(void *argument)
{
    struct answerer *a = argument;
    if (nng_aio_result(a->aio) != 0)
        return;
    if (a->is_answering) {
        a->is_answering = false;
        nng_ctx_recv(a->context, a->aio);
        return;
    }
    nng_msg *message = nng_aio_get_msg(a->aio);
    nng_msg_clear(message);
    check(nng_msg_append(message, "................................", REPLY_SIZE), "reply");
    a->is_answering = true;
    nng_aio_set_msg(a->aio, message);
    nng_ctx_send(a->context, a->aio);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: sink_nng PUSH-URL REQ-URL");
    check(nng_pull0_open(&pull), "open");
    check(nng_rep0_open(&rep), "open");
    check(nng_listen(rep, argv[2], NULL, 0), argv[2]);
    check(nng_listen(pull, argv[1], NULL, 0), argv[1]);
    for (int i = 0; i < CONTEXTS; i++) {
        check(nng_ctx_open(&answerers[i].context, rep), "context");
        check(nng_aio_alloc(&answerers[i].aio, on_answerer, &answerers[i]), "aio");
        nng_ctx_recv(answerers[i].context, answerers[i].aio);
    }
    for (nng_msg *message = NULL;; nng_msg_free(message))
        check(nng_recvmsg(pull, &message, 0), "receive");
}
