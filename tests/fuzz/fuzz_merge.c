/* Merge patches: the input is a target and a patch, one behind the other. The result is well-formed, fits the promised
 * size, and merging the same patch again changes nothing. */
#include "clients/wire/merge.h"

#include "clients/wire/value.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t target_size = 0, first_size, second_size, scanned;
    if (size == 0 || value_scan(view_of(data + 1, size - 1), FUZZ_DEPTH, &target_size) != WEIR_OK)
        return 0;
    struct view target = view_of(data + 1, target_size);
    struct view patch = view_of(target.data + target_size, size - 1 - target_size);
    if (data[0] % 4 == 0) /* an absent target */
        target = view_of(NULL, 0);
    size_t capacity = target.size + patch.size + 16;
    uint8_t *first = fuzz_memory(capacity);
    enum weir_error error = merge_apply(target, patch, FUZZ_DEPTH, first, capacity, &first_size);
    ENSURE(error == WEIR_OK || error == WEIR_BAD_REQUEST);
    if (error == WEIR_OK) {
        struct view once = view_of(first, first_size);
        ENSURE(value_scan(once, FUZZ_DEPTH, &scanned) == WEIR_OK && scanned == once.size);
        size_t enough = once.size + patch.size + 16;
        uint8_t *second = fuzz_memory(enough);
        ENSURE(merge_apply(once, patch, FUZZ_DEPTH, second, enough, &second_size) == WEIR_OK);
        ENSURE(view_is_same(once, view_of(second, second_size)));
        free(second);
        if (first_size > 0)
            ENSURE(merge_apply(target, patch, FUZZ_DEPTH, first, first_size - 1, &second_size) == WEIR_TOO_BIG);
    }
    free(first);
    return 0;
}
