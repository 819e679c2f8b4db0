/* stock_pair URL COUNT: sends each line of standard input (hexadecimal) as a message as soon as it is there, and
 * meanwhile prints what comes back in the same form. Ends when input has ended and COUNT messages have come. */
#include "stock.h"

#include <nng/protocol/pair0/pair.h>

#include <pthread.h>

struct receiver {
    nng_socket pair;
    unsigned long count;
};

static void *receiver_run(void *argument)
{
    const struct receiver *receiver = argument;
    for (unsigned long i = 0; i < receiver->count; i++) {
        nng_msg *msg = NULL;
        stock_must("receive", nng_recvmsg(receiver->pair, &msg, 0));
        stock_print("", msg);
        nng_msg_free(msg);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct receiver receiver;
    pthread_t thread;
    if (argc != 3)
        stock_fail("usage", "stock_pair URL COUNT");
    receiver.count = stock_number(argv[2]);
    stock_must("pair0", nng_pair0_open(&receiver.pair));
    stock_dial(receiver.pair, argv[1]);
    if (pthread_create(&thread, NULL, receiver_run, &receiver) != 0)
        stock_fail("thread", "none to be had");
    for (nng_msg *msg; (msg = stock_read()) != NULL;)
        stock_must("send", nng_sendmsg(receiver.pair, msg, 0));
    stock_flush(receiver.pair);
    (void)pthread_join(thread, NULL);
    /* Not closed but left to the end of the process: see stock.h. */
    return 0;
}
