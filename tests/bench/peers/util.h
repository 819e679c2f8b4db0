/* What several drivers and forwarders need. */
#ifndef TESTS_BENCH_PEERS_UTIL_H
#define TESTS_BENCH_PEERS_UTIL_H

#include <stddef.h>
#include <stdint.h>

enum { BATCH_LIMIT = 256 * 1024 }; /* bytes that drivers with a buffer of their own collect */

enum { NOT_APPLICABLE = 77 }; /* exit status of a program that cannot do the work asked for */

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *allocate(size_t size); /* zeroed */
uint64_t now_ns(void);
void wait_until(uint64_t ns);
void wait_ms(int ms);

/* Names of topics 0 .. count-1, made with a format such as "b.%u". */
char **topic_names(unsigned count, const char *format);
void free_topic_names(char **names, unsigned count);

/* "127.0.0.1:1234" in its parts; the host is valid until the next call of the same thread. */
const char *host_of(const char *address);
int port_of(const char *address);

/* A batch is a row of frames: a 32-bit length, then as many bytes. */
struct batch {
    size_t size, capacity;
    char *data;
};
/* Makes room for so many bytes in all. */
void batch_reserve(struct batch *batch, size_t capacity);
void batch_add(struct batch *batch, const void *data, size_t size);
void batch_each(const char *data, size_t size, void (*on_message)(void *context, const void *data, size_t size),
                void *context);

#endif
