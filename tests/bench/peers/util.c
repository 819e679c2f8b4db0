/* What several drivers and forwarders need; any thread. */
#include "tests/bench/peers/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _Exit(1); /* exit() could hang in a library's threads */
}

void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        die("out of memory");
    return memory;
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void wait_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

void wait_ms(int ms) { wait_until(now_ns() + (uint64_t)ms * 1000000u); }

char **topic_names(unsigned count, const char *format)
{
    char **names = allocate(count * sizeof *names);
    for (unsigned i = 0; i < count; i++) {
        names[i] = allocate(24);
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(names[i], 24, format, i);
    }
    return names;
}

void free_topic_names(char **names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

const char *host_of(const char *address)
{
    static _Thread_local char host[64];
    snprintf(host, sizeof host, "%.*s", (int)strcspn(address, ":"), address);
    return host;
}

int port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon ? atoi(colon + 1) : 0;
}

void batch_reserve(struct batch *batch, size_t capacity)
{
    if (capacity <= batch->capacity)
        return;
    batch->data = realloc(batch->data, capacity);
    if (batch->data == NULL)
        die("out of memory");
    batch->capacity = capacity;
}

void batch_add(struct batch *batch, const void *data, size_t size)
{
    uint32_t length = (uint32_t)size;
    size_t needed = batch->size + sizeof length + size;
    if (needed > batch->capacity)
        batch_reserve(batch, needed < BATCH_LIMIT ? BATCH_LIMIT : 2 * needed);
    memcpy(batch->data + batch->size, &length, sizeof length);
    memcpy(batch->data + batch->size + sizeof length, data, size);
    batch->size = needed;
}

void batch_each(const char *data, size_t size, void (*on_message)(void *context, const void *data, size_t size),
                void *context)
{
    for (const char *end = data + size; data < end;) {
        uint32_t length;
        memcpy(&length, data, sizeof length);
        data += sizeof length;
        on_message(context, data, length);
        data += length;
    }
}
