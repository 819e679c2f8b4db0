/* forward_zmq IN OUT: a proxy from XSUB (URL IN) to XPUB (URL OUT); its queues have no limits. */
#include "tests/bench/peers/util.h"

#include <zmq.h>

static void *listen_at(void *context, int type, const char *url)
{
    int no_limit = 0;
    void *socket = zmq_socket(context, type);
    zmq_setsockopt(socket, ZMQ_SNDHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &no_limit, sizeof no_limit);
    if (zmq_bind(socket, url) != 0)
        die("forward_zmq: cannot listen at %s", url);
    return socket;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: forward_zmq IN OUT");
    void *context = zmq_ctx_new();
    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 8192);
    void *in = listen_at(context, ZMQ_XSUB, argv[1]);
    void *out = listen_at(context, ZMQ_XPUB, argv[2]);
    return zmq_proxy(in, out, NULL);
}
