/* Topic names and patterns. Called for every record by record_next, for every subscription by the broker and the
 * client; any thread. */
#include "clients/wire/name.h"

#include "clients/wire/utf8.h"

#include "actors/base/limits.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>

#define REASON_SIZE_MAX 96

/* A reason may name a segment or a size, so it needs memory: one line a thread, written on refusal only. */
static _Thread_local char reason_text[REASON_SIZE_MAX];

__attribute__((format(printf, 2, 3))) static enum weir_error refuse(const char **reason, const char *format, ...)
{
    if (reason != NULL) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(reason_text, sizeof reason_text, format, arguments);
        va_end(arguments);
        *reason = reason_text;
    }
    return WEIR_BAD_TOPIC;
}

static bool has_wildcard(struct view text)
{
    return memchr(text.data, '+', text.size) != NULL || memchr(text.data, '#', text.size) != NULL;
}

/* The segment that starts at *at, and *at behind the '/' that ends it; false behind the last one. */
static bool segment_next(struct view text, size_t *at, struct view *segment)
{
    if (*at > text.size)
        return false;
    const uint8_t *start = text.data + *at;
    size_t left = text.size - *at;
    const uint8_t *slash = left > 0 ? memchr(start, '/', left) : NULL;
    *segment = view_of(start, slash != NULL ? (size_t)(slash - start) : left);
    *at += segment->size + 1;
    return true;
}

static enum weir_error text_check(struct view text, const char **reason)
{
    if (text.size == 0)
        return refuse(reason, "it is empty");
    if (text.size > TOPIC_NAME_SIZE_MAX)
        return refuse(reason, "it has %zu bytes, more than %d", text.size, TOPIC_NAME_SIZE_MAX);
    if (!utf8_is_valid(text.data, text.size))
        return refuse(reason, "it is not valid UTF-8");
    if (memchr(text.data, 0, text.size) != NULL)
        return refuse(reason, "it has a NUL byte");
    return WEIR_OK;
}

static enum weir_error name_explain(struct view name, const char **reason)
{
    enum weir_error error = text_check(name, reason);
    if (error != WEIR_OK)
        return error;
    struct view segment;
    unsigned number = 0;
    for (size_t at = 0; segment_next(name, &at, &segment);) {
        number++;
        if (segment.size == 0)
            return refuse(reason, "segment %u is empty", number);
        if (has_wildcard(segment))
            return refuse(reason, "segment %u has a wildcard, which only a pattern may have", number);
    }
    return WEIR_OK;
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* The high bit of each byte of word that is `byte`; no byte of word may be 0x80 or more, so that no sum carries. */
static uint64_t bytes_equal(uint64_t word, uint8_t byte)
{
    return ~((word ^ ONES * byte) + (HIGH_BITS - ONES)) & HIGH_BITS;
}

/* True when the eight bytes at `text`, which come after `before`, are ASCII and have nothing that a name may not have.
 */
static bool word_is_plain(const uint8_t *text, uint8_t before)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    word = le64toh(word);
    if ((word & HIGH_BITS) != 0)
        return false;
    uint64_t slashes = bytes_equal(word, '/');
    uint64_t behind = slashes << 8 | (before == '/' ? 0x80 : 0);
    return (bytes_equal(word, 0) | bytes_equal(word, '+') | bytes_equal(word, '#') | (slashes & behind)) == 0;
}

/* True for what nearly all names are: ASCII and right. Decides eight bytes at a time, the last eight once more;
 * name_explain decides the rest and finds the words. */
static bool name_is_plain(struct view name)
{
    if (name.size < 9 || name.size > TOPIC_NAME_SIZE_MAX)
        return false;
    uint8_t before = '/';
    for (size_t at = 0; at + 8 <= name.size; at += 8) {
        if (!word_is_plain(name.data + at, before))
            return false;
        before = name.data[at + 7];
    }
    return word_is_plain(name.data + name.size - 8, name.data[name.size - 9]) && name.data[name.size - 1] != '/';
}

/* The same for short ones, byte by byte. */
static bool short_name_is_plain(struct view name)
{
    uint8_t before = '/';
    if (name.size > 8)
        return false;
    for (size_t index = 0; index < name.size; index++) {
        uint8_t byte = name.data[index];
        if (byte == 0 || byte >= 0x80 || byte == '+' || byte == '#' || (byte == '/' && before == '/'))
            return false;
        before = byte;
    }
    return before != '/';
}

enum weir_error name_check(struct view name, const char **reason)
{
    return name_is_plain(name) || short_name_is_plain(name) ? WEIR_OK : name_explain(name, reason);
}

enum weir_error pattern_check(struct view pattern, const char **reason)
{
    static const char share[] = "$share/";
    enum weir_error error = text_check(pattern, reason);
    if (error != WEIR_OK)
        return error;
    if (pattern.size >= sizeof share - 1 && memcmp(pattern.data, share, sizeof share - 1) == 0)
        return refuse(reason, "shared subscriptions ($share) are not offered");
    struct view segment;
    unsigned number = 0;
    for (size_t at = 0; segment_next(pattern, &at, &segment);) {
        number++;
        if (segment.size == 0)
            return refuse(reason, "segment %u is empty", number);
        if (segment.size > 1 && has_wildcard(segment))
            return refuse(reason, "segment %u has a wildcard that is not the whole segment", number);
        if (segment.data[0] == '#' && at <= pattern.size)
            return refuse(reason, "segment %u is '#', which only the last may be", number);
    }
    return WEIR_OK;
}

bool name_is_reserved(struct view name) { return name.size > 0 && name.data[0] == '$'; }

bool pattern_has_wildcard(struct view pattern) { return pattern.size > 0 && has_wildcard(pattern); }

static bool is_wildcard(struct view segment, char wildcard)
{
    return segment.size == 1 && segment.data[0] == (uint8_t)wildcard;
}

bool pattern_matches(struct view pattern, struct view name)
{
    struct view wanted, found;
    size_t pattern_at = 0, name_at = 0;
    bool is_first = true;
    while (segment_next(pattern, &pattern_at, &wanted)) {
        bool is_any = is_wildcard(wanted, '+'), is_rest = is_wildcard(wanted, '#');
        if (is_first && (is_any || is_rest) && name_is_reserved(name))
            return false;
        if (is_rest)
            return true;
        if (!segment_next(name, &name_at, &found) || (!is_any && !view_is_same(wanted, found)))
            return false;
        is_first = false;
    }
    return !segment_next(name, &name_at, &found);
}
