/* stock_sub URL PREFIX COUNT: subscribes to topics that begin with PREFIX, prints "connected" and then COUNT messages,
 * each as a line of hexadecimal digits. */
#include "stock.h"

#include <nng/protocol/pubsub0/sub.h>

int main(int argc, char **argv)
{
    nng_socket sub;
    if (argc != 4)
        stock_fail("usage", "stock_sub URL PREFIX COUNT");
    unsigned long count = stock_number(argv[3]);
    stock_must("sub0", nng_sub0_open(&sub));
    stock_must("subscribe", nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, argv[2], strlen(argv[2])));
    stock_dial(sub, argv[1]);
    (void)puts("connected");
    (void)fflush(stdout);
    for (unsigned long i = 0; i < count; i++) {
        nng_msg *msg = NULL;
        stock_must("receive", nng_recvmsg(sub, &msg, 0));
        stock_print("", msg);
        nng_msg_free(msg);
    }
    /* Not closed but left to the end of the process: see stock.h. */
    return 0;
}
