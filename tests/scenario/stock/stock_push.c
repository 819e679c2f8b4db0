/* stock_push URL COUNT TOPIC: pushes the records [TOPIC, 0], [TOPIC, 1] … one a message.
 * stock_push URL -: pushes each line of standard input (hexadecimal) as one message.
 * Prints how many were sent, once the kernel has all of them. */
#include "stock.h"

#include <nng/protocol/pipeline0/push.h>

#include <msgpack.h>

static nng_msg *record_make(const char *topic, unsigned long number)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    nng_msg *msg = NULL;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    size_t topic_size = strlen(topic);
    if (msgpack_pack_array(&packer, 2) || msgpack_pack_str(&packer, topic_size) ||
        msgpack_pack_str_body(&packer, topic, topic_size) || msgpack_pack_unsigned_long(&packer, number))
        stock_fail("record", "no memory");
    stock_must("message", nng_msg_alloc(&msg, 0));
    stock_must("message", nng_msg_append(msg, buffer.data, buffer.size));
    msgpack_sbuffer_destroy(&buffer);
    return msg;
}

int main(int argc, char **argv)
{
    if (argc != 4 && !(argc == 3 && strcmp(argv[2], "-") == 0))
        stock_fail("usage", "stock_push URL (COUNT TOPIC | -)");
    nng_socket push;
    unsigned long count = argc == 4 ? stock_number(argv[2]) : 0;
    unsigned long sent = 0;
    stock_must("push0", nng_push0_open(&push));
    stock_dial(push, argv[1]);
    for (;;) {
        nng_msg *msg = argc == 3 ? stock_read() : sent < count ? record_make(argv[3], sent) : NULL;
        if (!msg)
            break;
        stock_must("send", nng_sendmsg(push, msg, 0));
        sent++;
    }
    stock_flush(push);
    (void)printf("sent %lu\n", sent);
    stock_must("close", nng_close(push));
    return 0;
}
