/* Deltas, see delta.h: where keys changed at random each leaf gives a run of one pair, and a message and a frame for
 * each would cost more than the pair. So they are copied together; a leaf that changed as a whole goes out as it
 * stands. In the topic's turns. */
#include "actors/topic/delta.h"

static enum weir_error delta_next(struct topic *topic, struct feed *feed, size_t size_max, struct fold_run *out)
{
    topic->looks++;
    return topic->fold.ops->read(&topic->fold, &topic->joins->at[feed->join]->snapshot, &feed->stage->as.entries,
                                 size_max, out);
}

static void run_copy(struct topic *topic, const struct fold_run *run, struct fold_run *out)
{
    uint8_t *to = arena_data(topic->arena, out->pairs.block);
    const uint8_t *from = arena_data(topic->arena, run->pairs.block);
    memcpy(to + out->pairs.size, from + run->pairs.offset, run->pairs.size);
    out->pairs.size += run->pairs.size;
    out->count += run->count;
}

enum weir_error delta_read(struct topic *topic, struct feed *feed, size_t size_max, struct fold_run *out,
                           weir_msg *block)
{
    *block = WEIR_MSG_NONE;
    struct fold_run run;
    enum weir_error error = delta_next(topic, feed, size_max, &run);
    *out = run;
    bool is_short = !error && feed->stage->as.entries.since > 0 && run.count > 0 && run.pairs.size < DELTA_RUN_MIN;
    size_t max = size_max < DELTA_GATHERED_MAX ? size_max : DELTA_GATHERED_MAX;
    if (!is_short || run.pairs.size >= max || arena_alloc(topic->arena, max, topic->common->feeds_budget, block))
        return error;
    topic->fold.pages_built++;
    *out = (struct fold_run){.pairs = {*block, 0, 0}};
    run_copy(topic, &run, out);
    for (uint32_t i = 0; i < DELTA_READS_MAX; i++) {
        struct fold_cursor before = feed->stage->as.entries;
        /* What ends it comes again at the next call. */
        if (delta_next(topic, feed, max - out->pairs.size, &run) != WEIR_OK || run.count == 0)
            break;
        if (run.pairs.size >= DELTA_RUN_MIN || run.pairs.size > max - out->pairs.size) {
            feed->stage->as.entries = before;
            break;
        }
        run_copy(topic, &run, out);
    }
    return WEIR_OK;
}
