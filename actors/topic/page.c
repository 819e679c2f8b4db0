/* Pages of records, see page.h. In the topic's turn. */
#include "actors/topic/page.h"

uint32_t page_pairs_within(uint8_t *data, uint32_t capacity, uint32_t index, uint32_t count, uint32_t end,
                           size_t size_max)
{
    uint32_t start = page_mark_at(data, capacity, index)->offset;
    if (end - start <= size_max)
        return count - index;
    /* The largest n whose end, the offset of pair index + n, is within the bound. */
    uint32_t low = 1, high = count - index - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (page_mark_at(data, capacity, index + middle)->offset - start <= size_max)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
