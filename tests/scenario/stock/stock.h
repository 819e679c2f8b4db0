/* What the stock peers share. Each is a small program on cooked sockets of the installed libnng and nothing of Weir's,
 * for scenarios that show that any nng socket is served. Bodies go in and out as lines of hexadecimal digits. They end
 * with status 0 when all went as asked, else they say why on standard error and end with 1.
 *
 * Sockets that may be reading a message are not closed: nng_close of libnng 1.5.2 may then wait for ever (its reader
 * goes from a message's length on to its body without a look at whether the pipe was closed in between). */
#ifndef TESTS_SCENARIO_STOCK_STOCK_H
#define TESTS_SCENARIO_STOCK_STOCK_H

#include <nng/nng.h>

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a reply or a message may take. */
#define STOCK_WAIT_MS 30000
/* Twice the largest message (1 MiB) in digits, and the line's end. */
#define STOCK_LINE_MAX (2 * (1 << 20) + 2)

static inline void stock_fail(const char *what, const char *reason)
{
    (void)fprintf(stderr, "%s: %s\n", what, reason);
    exit(1);
}

static inline void stock_must(const char *what, int code)
{
    if (code)
        stock_fail(what, nng_strerror(code));
}

/* Dials once (the broker is up) and takes messages of any size that the broker may send. */
static inline void stock_dial(nng_socket socket, const char *url)
{
    stock_must("receive timeout", nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, STOCK_WAIT_MS));
    stock_must("send timeout", nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, STOCK_WAIT_MS));
    stock_must("size", nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, (size_t)64 << 20));
    stock_must(url, nng_dial(socket, url, NULL, 0));
}

/* Closing drops what nng still holds. A socket without a send buffer is ready to send again when its one pipe has
 * handed over all that came before. */
static inline void stock_flush(nng_socket socket)
{
    int ready = -1;
    stock_must("send descriptor", nng_socket_get_int(socket, NNG_OPT_SENDFD, &ready));
    struct pollfd watch = {.fd = ready, .events = POLLIN};
    if (poll(&watch, 1, STOCK_WAIT_MS) != 1)
        stock_fail("flush", "the broker does not take the messages");
}

/* The next line of standard input as a message, NULL at its end. */
static inline nng_msg *stock_read(void)
{
    static char line[STOCK_LINE_MAX];
    nng_msg *msg = NULL;
    if (!fgets(line, sizeof line, stdin))
        return NULL;
    stock_must("message", nng_msg_alloc(&msg, 0));
    for (const char *digits = line; digits[0] && digits[0] != '\n'; digits += 2) {
        unsigned value = 0;
        if (sscanf(digits, "%2x", &value) != 1 || !digits[1] || digits[1] == '\n')
            stock_fail("standard input", "a line is not hexadecimal");
        uint8_t byte = (uint8_t)value;
        stock_must("message", nng_msg_append(msg, &byte, 1));
    }
    return msg;
}

/* One line, at once. */
static inline void stock_print(const char *prefix, nng_msg *msg)
{
    const uint8_t *body = nng_msg_body(msg);
    flockfile(stdout);
    (void)fputs(prefix, stdout);
    for (size_t i = 0; i < nng_msg_len(msg); i++)
        (void)printf("%02x", body[i]);
    (void)putchar('\n');
    (void)fflush(stdout);
    funlockfile(stdout);
}

static inline unsigned long stock_number(const char *text)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end)
        stock_fail(text, "is not a number");
    return value;
}

#endif
