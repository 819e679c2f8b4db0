/* RFC 7396 merge patch. Called by the merge fold for every record of a merge topic, on the topic's worker.
 *
 * The patch's keys of each level are sorted and the target's looked up among them, so that a level costs n log n at
 * worst and no choice of keys makes it quadratic; the order does not hang on a seed, so a simulation can replay it.
 * The indexes of small patches are on the stack; a patch with more than INDEX_ENTRIES keys in all has them on the
 * heap for the length of the call, four bytes a key. Recursion is as deep as the values may be, VALUE_DEPTH_LIMIT at
 * most. */
#include "clients/wire/merge.h"

#include "clients/wire/token.h"
#include "clients/wire/value.h"

#include <stdlib.h>

#define INDEX_ENTRIES 512

/* An entry is the offset of a pair in the patch and what became of it. */
#define ENTRY_IS_IN_TARGET UINT32_C(0x80000000)
#define ENTRY_IS_WRITTEN UINT32_C(0x40000000)
#define ENTRY_OFFSET UINT32_C(0x3fffffff)

struct merge {
    struct value_writer writer;
    struct view patch; /* the whole one, which offsets count from */
    uint32_t *free;    /* entries that no level uses */
};

/* The keys of one map of the patch, sorted, each once. */
struct index {
    uint32_t *entries;
    uint32_t count;
};

/* A map being walked: its pairs one behind the other. */
struct pairs {
    struct view rest;
    uint32_t left;
};

struct pair {
    struct view key, value; /* encoded */
};

static void merge_value(struct merge *merge, struct view target, struct view patch);

static bool is_nil(struct view value) { return value.size == 1 && value.data[0] == 0xc0; }

/* Both sides have been scanned whole, so nothing in them ends too early; a rest that did would be taken as one
 * value. */
static struct view value_take(struct view *rest)
{
    size_t size = 0;
    if (value_scan(*rest, VALUE_DEPTH_LIMIT, &size) != WEIR_OK)
        size = rest->size;
    struct view value = view_of(rest->data, size);
    *rest = view_of(rest->data + size, rest->size - size);
    return value;
}

static bool pair_next(struct pairs *pairs, struct pair *out)
{
    if (pairs->left == 0)
        return false;
    pairs->left--;
    out->key = value_take(&pairs->rest);
    out->value = value_take(&pairs->rest);
    return true;
}

/* False when value is no map or absent; there are no pairs then. */
static bool pairs_open(struct view value, struct pairs *out)
{
    struct token token;
    *out = (struct pairs){.rest = value};
    if (token_next(&out->rest, &token) != WEIR_OK || token.type != TOKEN_MAP)
        return false;
    out->left = token.as.count;
    return true;
}

/* What two keys are compared by: the text of a str however its length was encoded, the encoded bytes of anything else.
 * No text starts with what another value's bytes do and is taken for it, since the two kinds are told apart first. */
static struct view key_identity(struct view key, bool *is_str)
{
    struct token token;
    struct view rest = key;
    *is_str = token_next(&rest, &token) == WEIR_OK && token.type == TOKEN_STR;
    return *is_str ? token.bytes : key;
}

static int key_compare(struct view a, struct view b)
{
    bool a_is_str, b_is_str;
    struct view a_bytes = key_identity(a, &a_is_str), b_bytes = key_identity(b, &b_is_str);
    if (a_is_str != b_is_str)
        return a_is_str ? -1 : 1;
    size_t common = a_bytes.size < b_bytes.size ? a_bytes.size : b_bytes.size;
    int order = common > 0 ? memcmp(a_bytes.data, b_bytes.data, common) : 0;
    return order != 0 ? order : (a_bytes.size > b_bytes.size) - (a_bytes.size < b_bytes.size);
}

static struct view entry_rest(const struct merge *merge, uint32_t entry)
{
    size_t offset = entry & ENTRY_OFFSET;
    return view_of(merge->patch.data + offset, merge->patch.size - offset);
}

static struct view entry_key(const struct merge *merge, uint32_t entry)
{
    struct view rest = entry_rest(merge, entry);
    return value_take(&rest);
}

static struct view entry_value(const struct merge *merge, uint32_t entry)
{
    struct view rest = entry_rest(merge, entry);
    (void)value_take(&rest);
    return value_take(&rest);
}

/* By key, and by place where a key is there twice. */
static int entry_compare(const void *a, const void *b, void *context)
{
    const struct merge *merge = context;
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    int order = key_compare(entry_key(merge, first), entry_key(merge, second));
    return order != 0 ? order : (first > second) - (first < second);
}

/* Takes entries from merge->free, one a pair. The last of a key that is there twice counts. */
static struct index index_build(struct merge *merge, struct pairs pairs)
{
    struct index index = {.entries = merge->free};
    struct pair pair;
    uint32_t found = 0;
    while (pair_next(&pairs, &pair))
        index.entries[found++] = (uint32_t)(pair.key.data - merge->patch.data);
    if (found > 1)
        qsort_r(index.entries, found, sizeof *index.entries, entry_compare, merge);
    for (uint32_t at = 0; at < found; at++) {
        bool is_last = at + 1 == found ||
                       key_compare(entry_key(merge, index.entries[at]), entry_key(merge, index.entries[at + 1])) != 0;
        if (is_last)
            index.entries[index.count++] = index.entries[at];
    }
    merge->free += index.count;
    return index;
}

/* The entry of a key, NULL when the patch does not have it. */
static uint32_t *index_find(const struct merge *merge, const struct index *index, struct view key)
{
    uint32_t low = 0, high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = key_compare(key, entry_key(merge, index->entries[middle]));
        if (order == 0)
            return &index->entries[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* How many pairs the merged map has; marks the entries whose key the target has. A target that has a key twice keeps
 * the first of them. */
static uint32_t merged_count(struct merge *merge, struct index *index, struct pairs target)
{
    struct pair pair;
    uint32_t count = 0;
    while (pair_next(&target, &pair)) {
        uint32_t *entry = index_find(merge, index, pair.key);
        if (entry == NULL)
            count++;
        else
            *entry |= ENTRY_IS_IN_TARGET;
    }
    for (uint32_t at = 0; at < index->count; at++)
        count += !is_nil(entry_value(merge, index->entries[at]));
    return count;
}

static void merge_known(struct merge *merge, struct index *index, struct pairs target)
{
    struct pair pair;
    while (!merge->writer.is_full && pair_next(&target, &pair)) {
        uint32_t *entry = index_find(merge, index, pair.key);
        if (entry == NULL) {
            value_write_raw(&merge->writer, pair.key);
            value_write_raw(&merge->writer, pair.value);
            continue;
        }
        struct view change = entry_value(merge, *entry);
        if (is_nil(change) || (*entry & ENTRY_IS_WRITTEN) != 0)
            continue;
        *entry |= ENTRY_IS_WRITTEN;
        value_write_raw(&merge->writer, pair.key);
        merge_value(merge, pair.value, change);
    }
}

static void merge_new(struct merge *merge, struct index *index, struct pairs patch)
{
    struct pair pair;
    while (!merge->writer.is_full && pair_next(&patch, &pair)) {
        const uint32_t *entry = index_find(merge, index, pair.key);
        bool is_the_one = entry != NULL && *entry == (uint32_t)(pair.key.data - merge->patch.data);
        if (!is_the_one || is_nil(pair.value))
            continue;
        value_write_raw(&merge->writer, pair.key);
        merge_value(merge, view_of(NULL, 0), pair.value);
    }
}

static void merge_value(struct merge *merge, struct view target, struct view patch)
{
    struct pairs changes, known;
    if (!pairs_open(patch, &changes)) {
        value_write_raw(&merge->writer, patch);
        return;
    }
    (void)pairs_open(target, &known);
    uint32_t *free_before = merge->free;
    struct index index = index_build(merge, changes);
    value_write_map(&merge->writer, merged_count(merge, &index, known));
    merge_known(merge, &index, known);
    merge_new(merge, &index, changes);
    merge->free = free_before;
}

static bool is_one_value(struct view value, unsigned depth_max)
{
    size_t size;
    return value_scan(value, depth_max, &size) == WEIR_OK && size == value.size;
}

enum weir_error merge_apply(struct view target, struct view patch, unsigned depth_max, uint8_t *out, size_t capacity,
                            size_t *size_out)
{
    uint32_t small[INDEX_ENTRIES];
    uint32_t *heap = NULL;
    /* A pair has two bytes or more. Levels that are open at once have different pairs, so this is enough for all. */
    size_t entries_max = patch.size / 2;
    if (patch.size > ENTRY_OFFSET)
        return WEIR_TOO_BIG;
    if ((target.size > 0 && !is_one_value(target, depth_max)) || !is_one_value(patch, depth_max))
        return WEIR_BAD_REQUEST;
    if (entries_max > INDEX_ENTRIES) {
        heap = malloc(entries_max * sizeof *heap);
        if (heap == NULL)
            return WEIR_NO_MEMORY;
    }
    struct merge merge = {.patch = patch, .free = heap != NULL ? heap : small};
    value_writer_init(&merge.writer, out, capacity);
    merge_value(&merge, target, patch);
    free(heap);
    if (merge.writer.is_full)
        return WEIR_TOO_BIG;
    *size_out = merge.writer.size;
    return WEIR_OK;
}
