/* forward_nng IN OUT: passes each message from PULL0 (URL IN) to PUB0 (URL OUT). */
#include "tests/bench/peers/util.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pubsub0/pub.h>
#include <unistd.h>

enum { QUEUE = 8192 /* nng's limit */ };

static nng_socket in, out;
static nng_aio *receiving;

static void check(int error, const char *what)
{
    if (error)
        die("forward_nng: %s: %s", what, nng_strerror(error));
}

static void forward(void *argument)
{
    (void)argument;
    if (nng_aio_result(receiving) == 0) {
        nng_msg *message = nng_aio_get_msg(receiving);
        if (nng_sendmsg(out, message, 0) != 0) /* PUB0 drops for slow subscribers, never waits */
            nng_msg_free(message);
    }
    nng_recv_aio(in, receiving);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: forward_nng IN OUT");
    check(nng_pull0_open(&in), "open");
    check(nng_pub0_open(&out), "open");
    check(nng_socket_set_int(out, NNG_OPT_SENDBUF, QUEUE), "send buffer");
    nng_socket_set_int(in, NNG_OPT_RECVBUF, QUEUE); /* not all versions have it */
    check(nng_listen(out, argv[2], NULL, 0), argv[2]);
    check(nng_listen(in, argv[1], NULL, 0), argv[1]);
    check(nng_aio_alloc(&receiving, forward, NULL), "aio");
    nng_recv_aio(in, receiving);
    for (;;)
        pause();
}
