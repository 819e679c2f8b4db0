/* Is a text valid UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF)? Used inside
 * clients/wire on every str that comes from outside. Pure functions, any thread. */
#ifndef CLIENTS_WIRE_UTF8_H
#define CLIENTS_WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define UTF8_HIGH_BITS_8 UINT64_C(0x8080808080808080)
#define UTF8_HIGH_BITS_4 UINT32_C(0x80808080)

/* Any text, one pass, eight bytes at a time where it is ASCII. */
bool utf8_check_long(const uint8_t *text, size_t size);

/* Topics, keys and map keys are short and nearly always ASCII: they are decided with a few overlapping loads and no
 * loop that would have to be predicted. */
static inline bool utf8_is_valid(const uint8_t *text, size_t size)
{
    if (size < 4) {
        uint8_t seen = 0;
        for (size_t index = 0; index < size; index++)
            seen |= text[index];
        return seen < 0x80 || utf8_check_long(text, size);
    }
    if (size <= 8) {
        uint32_t head, tail;
        memcpy(&head, text, sizeof head);
        memcpy(&tail, text + size - sizeof tail, sizeof tail);
        return ((head | tail) & UTF8_HIGH_BITS_4) == 0 || utf8_check_long(text, size);
    }
    if (size <= 16) {
        uint64_t head, tail;
        memcpy(&head, text, sizeof head);
        memcpy(&tail, text + size - sizeof tail, sizeof tail);
        return ((head | tail) & UTF8_HIGH_BITS_8) == 0 || utf8_check_long(text, size);
    }
    return utf8_check_long(text, size);
}

#endif
