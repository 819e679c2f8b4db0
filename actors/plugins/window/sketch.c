/* DDSketch; see the header. Called by window.c within one call of the plugin. */
#include "actors/plugins/window/sketch.h"

#include <math.h>

#include "actors/plugins/kit.h"

/* Buckets that a store grows by: a quarter of a decade at 1 %. */
enum { STORE_STEP = 32 };
/* The bucket of the largest double at the finest accuracy that is allowed (0.001) is 355,000. */
enum { BUCKET_MAX = 1000000 };

void sketch_scale_init(struct sketch_scale *scale, double accuracy, uint32_t buckets_max)
{
    scale->gamma = (1 + accuracy) / (1 - accuracy);
    scale->log_gamma = log(scale->gamma);
    scale->buckets_max = buckets_max;
}

/* Room for the span from first to last, both included. The counts keep their buckets. */
static bool store_reserve(struct weir_self *self, struct sketch_store *store, int32_t first, int32_t last)
{
    uint32_t span = (uint32_t)(last - first) + 1;
    if (store->count > 0 && span <= store->capacity && first == store->first) {
        memset(store->counts + store->count, 0, (span - store->count) * sizeof *store->counts);
        store->count = span;
        return true;
    }
    uint32_t capacity = (span / STORE_STEP + 1) * STORE_STEP;
    uint64_t *counts = store->counts;
    if (capacity > store->capacity) {
        counts = weir_alloc(self, capacity * sizeof *counts);
        if (counts == NULL)
            return false;
    } else {
        capacity = store->capacity;
    }
    uint32_t ahead = store->count > 0 ? (uint32_t)(store->first - first) : 0;
    if (store->count > 0)
        memmove(counts + ahead, store->counts, store->count * sizeof *counts);
    memset(counts, 0, ahead * sizeof *counts);
    memset(counts + ahead + store->count, 0, (span - ahead - store->count) * sizeof *counts);
    if (counts != store->counts) {
        weir_free(self, store->counts);
        store->counts = counts;
        store->capacity = capacity;
    }
    store->first = first;
    store->count = span;
    return true;
}

/* Counts everything below `first` in `first`, which lies within the store or above it. */
static void store_collapse(struct sketch_store *store, int32_t first)
{
    uint32_t below = (uint32_t)(first - store->first);
    uint64_t sum = 0;
    uint32_t merged = below < store->count ? below + 1 : store->count;
    for (uint32_t i = 0; i < merged; i++)
        sum += store->counts[i];
    uint32_t left = store->count > below + 1 ? store->count - below - 1 : 0;
    memmove(store->counts + 1, store->counts + merged, left * sizeof *store->counts);
    store->counts[0] = sum;
    store->first = first;
    store->count = left + 1;
}

static bool store_add(struct weir_self *self, const struct sketch_scale *scale, struct sketch_store *store, int32_t at,
                      uint64_t count)
{
    int32_t span_max = (int32_t)scale->buckets_max;
    if (store->count == 0) {
        if (!store_reserve(self, store, at, at))
            return false;
    } else {
        int32_t first = store->first, last = store->first + (int32_t)store->count - 1;
        if (at < first && last - at >= span_max)
            at = last - span_max + 1 < first ? last - span_max + 1 : first;
        if (at > last && at - first >= span_max) {
            /* Room first: collapsing cannot be undone. Where it ends is within what a store of this size has. */
            int32_t cut = at - span_max + 1;
            if (store->capacity < scale->buckets_max && !store_reserve(self, store, first, first + span_max - 1))
                return false;
            store_collapse(store, cut);
            first = cut;
            last = store->first + (int32_t)store->count - 1;
        }
        if ((at < first || at > last) && !store_reserve(self, store, at < first ? at : first, at > last ? at : last))
            return false;
    }
    store->counts[at - store->first] += count;
    return true;
}

static int32_t bucket_of(const struct sketch_scale *scale, double magnitude)
{
    return (int32_t)ceil(log(magnitude) / scale->log_gamma);
}

/* The number whose relative distance to both bounds of the bucket is the same. */
static double bucket_number(const struct sketch_scale *scale, int32_t at)
{
    return 2 * exp((double)at * scale->log_gamma) / (scale->gamma + 1);
}

bool sketch_add(struct weir_self *self, const struct sketch_scale *scale, struct sketch *sketch, double number)
{
    double magnitude = fabs(number);
    bool is_added = true;
    /* Below the normal doubles there is no relative accuracy to keep. */
    if (magnitude < 2.2250738585072014e-308)
        sketch->zero++;
    else
        is_added =
            store_add(self, scale, number > 0 ? &sketch->positive : &sketch->negative, bucket_of(scale, magnitude), 1);
    sketch->total += is_added;
    return is_added;
}

static bool store_merge(struct weir_self *self, const struct sketch_scale *scale, struct sketch_store *into,
                        const struct sketch_store *from, uint64_t *total)
{
    for (uint32_t i = 0; i < from->count; i++) {
        if (from->counts[i] == 0)
            continue;
        if (!store_add(self, scale, into, from->first + (int32_t)i, from->counts[i]))
            return false;
        *total += from->counts[i];
    }
    return true;
}

bool sketch_merge(struct weir_self *self, const struct sketch_scale *scale, struct sketch *into,
                  const struct sketch *from)
{
    into->zero += from->zero;
    into->total += from->zero;
    return store_merge(self, scale, &into->positive, &from->positive, &into->total) &&
           store_merge(self, scale, &into->negative, &from->negative, &into->total);
}

double sketch_quantile(const struct sketch_scale *scale, const struct sketch *sketch, double q)
{
    if (sketch->total == 0)
        return 0;
    uint64_t rank = (uint64_t)(q * (double)(sketch->total - 1)), seen = 0;
    for (uint32_t i = sketch->negative.count; i > 0; i--) {
        seen += sketch->negative.counts[i - 1];
        if (seen > rank)
            return -bucket_number(scale, sketch->negative.first + (int32_t)i - 1);
    }
    seen += sketch->zero;
    if (seen > rank)
        return 0;
    for (uint32_t i = 0; i < sketch->positive.count; i++) {
        seen += sketch->positive.counts[i];
        if (seen > rank)
            return bucket_number(scale, sketch->positive.first + (int32_t)i);
    }
    return 0;
}

void sketch_clear(struct sketch *sketch)
{
    sketch->positive.count = sketch->negative.count = 0;
    sketch->zero = sketch->total = 0;
}

void sketch_fini(struct weir_self *self, struct sketch *sketch)
{
    weir_free(self, sketch->positive.counts);
    weir_free(self, sketch->negative.counts);
    memset(sketch, 0, sizeof *sketch);
}

/* ---------------------------------------------------------------------------------------------- snapshot */

/* [first, count...], zeros included: runs of them are short, since a store has no bucket outside what it saw. */
static void store_write(struct weir_self *self, const struct sketch_store *store, struct weir_writer *out)
{
    kit_put_array(self, out, store->count + 1);
    kit_put_uint(self, out, (uint64_t)((int64_t)store->first + BUCKET_MAX));
    for (uint32_t i = 0; i < store->count; i++)
        kit_put_uint(self, out, store->counts[i]);
}

static bool store_read(struct weir_self *self, const struct sketch_scale *scale, struct sketch_store *store,
                       struct weir_reader *reader, uint64_t *total)
{
    uint32_t count = kit_want_array(self, reader);
    uint64_t first = kit_want_uint(self, reader);
    if (reader->is_bad || count == 0 || first > 2 * BUCKET_MAX)
        return false;
    for (uint32_t i = 0; i + 1 < count; i++) {
        uint64_t counted = kit_want_uint(self, reader);
        if (reader->is_bad || i > 2 * BUCKET_MAX)
            return false;
        if (counted > 0 && !store_add(self, scale, store, (int32_t)(first + i) - BUCKET_MAX, counted))
            return false;
        *total += counted;
    }
    return true;
}

void sketch_write(struct weir_self *self, const struct sketch *sketch, struct weir_writer *out)
{
    kit_put_array(self, out, 3);
    kit_put_uint(self, out, sketch->zero);
    store_write(self, &sketch->positive, out);
    store_write(self, &sketch->negative, out);
}

bool sketch_read(struct weir_self *self, const struct sketch_scale *scale, struct sketch *sketch,
                 struct weir_reader *reader)
{
    if (kit_want_array(self, reader) != 3)
        return false;
    sketch->zero = kit_want_uint(self, reader);
    sketch->total = sketch->zero;
    return store_read(self, scale, &sketch->positive, reader, &sketch->total) &&
           store_read(self, scale, &sketch->negative, reader, &sketch->total);
}
