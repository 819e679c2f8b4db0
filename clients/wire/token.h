/* One step through msgpack bytes: a scalar whole, or the head of an array or map. The ground that readers, merge and
 * JSON stand on; used inside clients/wire only. Pure functions, any thread. Source: the msgpack specification. */
#ifndef CLIENTS_WIRE_TOKEN_H
#define CLIENTS_WIRE_TOKEN_H

#include "clients/wire/view.h"
#include "weir_error.h"

#include <endian.h>

enum token_type {
    TOKEN_NIL,
    TOKEN_BOOL,
    TOKEN_UINT,     /* any integer that is not negative, however it was encoded */
    TOKEN_NEGATIVE, /* a negative integer */
    TOKEN_DOUBLE,   /* float 32 and float 64 */
    TOKEN_STR,
    TOKEN_BIN,
    TOKEN_EXT,
    TOKEN_ARRAY,
    TOKEN_MAP
};

struct token {
    enum token_type type;
    union {
        bool boolean;
        uint64_t uint;
        int64_t negative;
        double real;
        uint32_t count; /* elements of an array, pairs of a map */
        int8_t ext;     /* the application's type number */
    } as;
    struct view bytes; /* contents of a str, bin or ext; UTF-8 is not checked here */
};

/* Takes the next token off *rest, which stays as it is on failure. WEIR_AGAIN: rest ends inside it; WEIR_BAD_REQUEST:
 * 0xc1. A count is returned as claimed. */
WEIR_MUST_USE enum weir_error token_next(struct view *rest, struct token *out);

/* The size bytes at `at` as a big-endian number; size is 1, 2, 4 or 8. */
static inline uint64_t token_load(const uint8_t *at, unsigned size)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1: return at[0];
    case 2: memcpy(&two, at, sizeof two); return be16toh(two);
    case 4: memcpy(&four, at, sizeof four); return be32toh(four);
    default: memcpy(&eight, at, sizeof eight); return be64toh(eight);
    }
}

/* What the first bytes 0xc0 to 0xdf announce: `length_size` bytes of length, then `fixed` bytes and what the length
 * says. */
enum token_class { CLASS_FIXED, CLASS_BLOB, CLASS_STR, CLASS_ARRAY, CLASS_MAP, CLASS_BAD };
struct token_shape {
    uint8_t class;
    uint8_t length_size;
    uint8_t fixed;
};
extern const struct token_shape token_shapes[32];

#endif
