/* stock_req URL CONTEXTS: sends each line of standard input (hexadecimal) as a request, CONTEXTS of them at a time, and
 * prints a line "NUMBER BODY" for each reply as it comes: NUMBER counts the requests from 0. */
#include "stock.h"

#include <nng/protocol/reqrep0/req.h>

#include <pthread.h>

#define CONTEXTS_MAX 256

struct asker {
    nng_ctx ctx;
    pthread_t thread;
};

/* Guards standard input and the number of the next request. */
static pthread_mutex_t input_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long next_number;

static nng_msg *request_next(unsigned long *number)
{
    pthread_mutex_lock(&input_lock);
    nng_msg *msg = stock_read();
    *number = next_number;
    next_number += msg ? 1 : 0;
    pthread_mutex_unlock(&input_lock);
    return msg;
}

static void aio_finish(const char *what, nng_aio *aio)
{
    nng_aio_wait(aio);
    stock_must(what, nng_aio_result(aio));
}

static void *asker_run(void *argument)
{
    struct asker *asker = argument;
    unsigned long number;
    nng_aio *aio = NULL;
    stock_must("aio", nng_aio_alloc(&aio, NULL, NULL));
    nng_aio_set_timeout(aio, STOCK_WAIT_MS);
    for (nng_msg *msg; (msg = request_next(&number)) != NULL;) {
        char prefix[32];
        (void)snprintf(prefix, sizeof prefix, "%lu ", number);
        nng_aio_set_msg(aio, msg);
        nng_ctx_send(asker->ctx, aio);
        aio_finish("request", aio);
        nng_ctx_recv(asker->ctx, aio);
        aio_finish("reply", aio);
        msg = nng_aio_get_msg(aio);
        stock_print(prefix, msg);
        nng_msg_free(msg);
    }
    nng_aio_free(aio);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct asker askers[CONTEXTS_MAX];
    nng_socket req;
    if (argc != 3)
        stock_fail("usage", "stock_req URL CONTEXTS");
    unsigned long count = stock_number(argv[2]);
    if (count == 0 || count > CONTEXTS_MAX)
        stock_fail("CONTEXTS", "is 1 to 256");
    stock_must("req0", nng_req0_open(&req));
    stock_dial(req, argv[1]);
    for (unsigned long i = 0; i < count; i++) {
        stock_must("context", nng_ctx_open(&askers[i].ctx, req));
        if (pthread_create(&askers[i].thread, NULL, asker_run, &askers[i]) != 0)
            stock_fail("thread", "none to be had");
    }
    for (unsigned long i = 0; i < count; i++)
        (void)pthread_join(askers[i].thread, NULL);
    stock_must("close", nng_close(req));
    return 0;
}
