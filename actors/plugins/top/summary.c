/* Space-Saving; see the header. Called by top.c within one call of the plugin. */
#include "actors/plugins/top/summary.h"

#include <stdlib.h>

bool summary_init(struct weir_self *self, struct summary *summary, uint32_t counters_max)
{
    memset(summary, 0, sizeof *summary);
    if (!kit_table_init(self, &summary->keys, counters_max))
        return false;
    summary->heap = weir_alloc(self, counters_max * sizeof *summary->heap);
    return summary->heap != NULL;
}

void summary_fini(struct weir_self *self, struct summary *summary)
{
    if (summary->keys.buckets != NULL)
        kit_table_fini(self, &summary->keys);
    weir_free(self, summary->heap);
    memset(summary, 0, sizeof *summary);
}

static void heap_place(struct summary *summary, struct counter *counter, uint32_t at)
{
    summary->heap[at] = counter;
    counter->at = at;
}

static void heap_sink(struct summary *summary, struct counter *counter)
{
    uint32_t at = counter->at, count = summary->keys.count;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < count && summary->heap[child + 1]->count < summary->heap[child]->count)
            child++;
        if (child >= count || summary->heap[child]->count >= counter->count)
            break;
        heap_place(summary, summary->heap[child], at);
        at = child;
    }
    heap_place(summary, counter, at);
}

static void heap_rise(struct summary *summary, struct counter *counter)
{
    uint32_t at = counter->at;
    while (at > 0 && summary->heap[(at - 1) / 2]->count > counter->count) {
        heap_place(summary, summary->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    heap_place(summary, counter, at);
}

bool summary_put(struct weir_self *self, struct summary *summary, struct weir_bytes key, double count, double error)
{
    struct counter *counter = (struct counter *)kit_table_add(self, &summary->keys, key, sizeof *counter);
    if (counter == NULL)
        return false;
    counter->count = count;
    counter->error = error;
    counter->at = summary->keys.count - 1;
    heap_rise(summary, counter);
    return true;
}

bool summary_add(struct weir_self *self, struct summary *summary, struct weir_bytes key, double weight)
{
    struct counter *counter = (struct counter *)kit_table_find(&summary->keys, key);
    if (counter != NULL) {
        counter->count += weight;
        heap_sink(summary, counter);
    } else if (!kit_table_is_full(&summary->keys)) {
        if (!summary_put(self, summary, key, weight, 0))
            return false;
    } else {
        /* Its place is taken over, so that what was allocated for it makes room for the new one, if they are as long.
         */
        struct counter *least = summary->heap[0];
        double count = least->count;
        kit_table_remove(self, &summary->keys, &least->entry);
        counter = (struct counter *)kit_table_add(self, &summary->keys, key, sizeof *counter);
        if (counter == NULL) {
            /* One counter fewer, which the heap must not point to. */
            if (summary->keys.count > 0) {
                heap_place(summary, summary->heap[summary->keys.count], 0);
                heap_sink(summary, summary->heap[0]);
            }
            return false;
        }
        counter->count = count + weight;
        counter->error = count;
        heap_place(summary, counter, 0);
        heap_sink(summary, counter);
    }
    summary->total += weight;
    return true;
}

void summary_clear(struct weir_self *self, struct summary *summary)
{
    while (summary->keys.oldest != NULL)
        kit_table_remove(self, &summary->keys, summary->keys.oldest);
    summary->total = 0;
}

static int heavier_first(const void *left, const void *right)
{
    const struct counter *a = *(const struct counter *const *)left, *b = *(const struct counter *const *)right;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    size_t size = a->entry.id.size < b->entry.id.size ? a->entry.id.size : b->entry.id.size;
    int order = size > 0 ? memcmp(a->entry.id.data, b->entry.id.data, size) : 0;
    return order != 0 ? order : (a->entry.id.size > b->entry.id.size) - (a->entry.id.size < b->entry.id.size);
}

uint32_t summary_top(const struct summary *summary, const struct counter **memory, uint32_t max)
{
    uint32_t count = summary->keys.count;
    for (uint32_t i = 0; i < count; i++)
        memory[i] = summary->heap[i];
    qsort(memory, count, sizeof *memory, heavier_first);
    return count < max ? count : max;
}
