/* A reply being written: nested maps and rows whose counts are filled in when they end. One thread at a time. */
#ifndef BROKER_ADMIN_ANSWER_H
#define BROKER_ADMIN_ANSWER_H

#include "clients/wire/value.h"

enum { ANSWER_DEPTH_MAX = 6 };

struct answer {
    struct value_writer writer;
    struct {
        size_t at; /* of the container's header */
        uint32_t count;
        bool is_map;
    } levels[ANSWER_DEPTH_MAX];
    unsigned depth;
    bool is_lasting; /* without what changes by itself as time goes by: two answers differ where something happened */
};

/* Starts with the outermost map open. */
void answer_init(struct answer *answer, void *data, size_t capacity);

/* key: NULL inside rows. */
void answer_map(struct answer *answer, const char *key);
void answer_rows(struct answer *answer, const char *key);
void answer_end(struct answer *answer);

void answer_uint(struct answer *answer, const char *key, uint64_t value);
/* Milliseconds since then; left out of a lasting answer. 0: never, written as 0. */
void answer_age(struct answer *answer, const char *key, uint64_t since_ns);
void answer_double(struct answer *answer, const char *key, double value);
void answer_bool(struct answer *answer, const char *key, bool value);
void answer_text(struct answer *answer, const char *key, const char *text);
void answer_raw(struct answer *answer, const char *key, struct view encoded);

#endif
