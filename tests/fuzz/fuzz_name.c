/* Topic names and patterns: the input is "pattern NUL name"; the checks agree with the grammar told naively, and
 * matching with a recursive model. */
#include "clients/wire/name.h"

#include "clients/wire/utf8.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 255

static bool naive_is_name(struct view text, bool may_have_wildcards)
{
    size_t start = 0;
    if (text.size == 0 || text.size > TEXT_MAX || !utf8_is_valid(text.data, text.size))
        return false;
    for (size_t at = 0; at <= text.size; at++) {
        if (at < text.size && text.data[at] != '/') {
            bool is_wildcard = text.data[at] == '+' || text.data[at] == '#';
            bool is_alone = (at == 0 || text.data[at - 1] == '/') && (at + 1 == text.size || text.data[at + 1] == '/');
            bool is_last = text.data[at] != '#' || at + 1 == text.size;
            if (text.data[at] == 0 || (is_wildcard && !(may_have_wildcards && is_alone && is_last)))
                return false;
        } else if (at == start) {
            return false;
        } else {
            start = at + 1;
        }
    }
    return true;
}

static bool naive_matches(struct view pattern, struct view name)
{
    size_t wanted = 0, found = 0;
    while (wanted < pattern.size && pattern.data[wanted] != '/')
        wanted++;
    while (found < name.size && name.data[found] != '/')
        found++;
    if (wanted == 1 && pattern.data[0] == '#')
        return true;
    bool is_any = wanted == 1 && pattern.data[0] == '+';
    if (!is_any && !view_is_same(view_of(pattern.data, wanted), view_of(name.data, found)))
        return false;
    if (wanted == pattern.size || found == name.size)
        return (wanted == pattern.size && found == name.size) ||
               (found == name.size && pattern.size == wanted + 2 && pattern.data[wanted + 1] == '#');
    return naive_matches(view_of(pattern.data + wanted + 1, pattern.size - wanted - 1),
                         view_of(name.data + found + 1, name.size - found - 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char share[] = "$share/";
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    struct view pattern = view_of(data, zero != NULL ? (size_t)(zero - data) : size);
    struct view name = zero != NULL ? view_of(zero + 1, size - pattern.size - 1) : view_of(data, 0);
    bool is_share = pattern.size >= sizeof share - 1 && memcmp(pattern.data, share, sizeof share - 1) == 0;
    const char *reason = NULL;
    bool is_pattern = pattern_check(pattern, &reason) == WEIR_OK;
    ENSURE(is_pattern == (naive_is_name(pattern, true) && !is_share));
    ENSURE(is_pattern || reason != NULL);
    bool is_name = name_check(name, NULL) == WEIR_OK;
    ENSURE(is_name == naive_is_name(name, false));
    if (!is_pattern || !is_name)
        return 0;
    bool is_hidden = name_is_reserved(name) && (pattern.data[0] == '+' || pattern.data[0] == '#');
    ENSURE(pattern_matches(pattern, name) == (!is_hidden && naive_matches(pattern, name)));
    return 0;
}
