/* The long form of the UTF-8 check. Called by value_scan and name_check through utf8_is_valid; any thread. */
#include "clients/wire/utf8.h"

static bool is_continuation(uint8_t byte) { return (byte & 0xc0) == 0x80; }

/* Size of the well-formed character of two bytes or more at text, 0 when it is none. The bounds on the second byte are
 * what keeps out overlong forms (e0, f0), surrogates (ed) and code points beyond U+10FFFF (f4): Unicode, table 3-7. */
static size_t character_size(const uint8_t *text, size_t left)
{
    uint8_t first = text[0];
    if (first < 0xc2)
        return 0;
    if (first < 0xe0)
        return left >= 2 && is_continuation(text[1]) ? 2 : 0;
    if (first < 0xf0) {
        uint8_t low = first == 0xe0 ? 0xa0 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : 0xbf;
        return left >= 3 && text[1] >= low && text[1] <= high && is_continuation(text[2]) ? 3 : 0;
    }
    if (first < 0xf5) {
        uint8_t low = first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xf4 ? 0x8f : 0xbf;
        bool is_well =
            left >= 4 && text[1] >= low && text[1] <= high && is_continuation(text[2]) && is_continuation(text[3]);
        return is_well ? 4 : 0;
    }
    return 0;
}

/* 32 bytes. */
static bool block_is_ascii(const uint8_t *text)
{
    uint64_t four[4];
    memcpy(four, text, sizeof four);
    return ((four[0] | four[1] | four[2] | four[3]) & UTF8_HIGH_BITS_8) == 0;
}

bool utf8_check_long(const uint8_t *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint64_t word;
        if (size - at >= 32 && block_is_ascii(text + at)) {
            at += 32;
            continue;
        }
        /* The last block once more, back from the end, spares the steps through what is left. */
        if (size - at < 32 && size >= 32 && block_is_ascii(text + size - 32))
            return true;
        if (size - at >= sizeof word) {
            memcpy(&word, text + at, sizeof word);
            if ((word & UTF8_HIGH_BITS_8) == 0) {
                at += sizeof word;
                continue;
            }
        }
        if (text[at] < 0x80)
            at++;
        /* Characters of one script come together: no ASCII is looked for between them. */
        while (at < size && text[at] >= 0x80) {
            size_t step = character_size(text + at, size - at);
            if (step == 0)
                return false;
            at += step;
        }
    }
    return true;
}
