/* Quantiles in bounded memory: DDSketch.
 *
 * Masson, Rim, Lee: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", PVLDB
 * 12(12), 2019. Numbers are counted in buckets whose bounds grow by gamma = (1 + a) / (1 - a), so that the middle of
 * the bucket in which a quantile lies is off by at most the part a of its true value. Sketches of the same accuracy add
 * up, which is what sliding windows are made of. When the buckets of one sign would span more than buckets_max, the
 * smallest are counted as one (the paper's collapsing): then only quantiles that fall there lose the guarantee. */
#ifndef ACTORS_PLUGINS_WINDOW_SKETCH_H
#define ACTORS_PLUGINS_WINDOW_SKETCH_H

#include "weir_actor.h"

/* What all sketches of an instance share. */
struct sketch_scale {
    double gamma, log_gamma;
    uint32_t buckets_max; /* of each sign */
};

/* Counts of the buckets first to first + count - 1. */
struct sketch_store {
    uint64_t *counts;
    int32_t first;
    uint32_t count, capacity;
};

struct sketch {
    struct sketch_store positive, negative; /* the latter by magnitude */
    uint64_t zero, total;
};

void sketch_scale_init(struct sketch_scale *scale, double accuracy, uint32_t buckets_max);
/* False: beyond the memory budget; the sketch is as before. */
bool sketch_add(struct weir_self *self, const struct sketch_scale *scale, struct sketch *sketch, double number);
bool sketch_merge(struct weir_self *self, const struct sketch_scale *scale, struct sketch *into,
                  const struct sketch *from);
/* The number that a share q (0 to 1) of all are not above: the one at rank q * (total - 1) from the bottom, rounded
 * down, within the accuracy. 0 for an empty sketch. */
double sketch_quantile(const struct sketch_scale *scale, const struct sketch *sketch, double q);
/* Empties it; its memory is kept. */
void sketch_clear(struct sketch *sketch);
/* Gives its memory back. */
void sketch_fini(struct weir_self *self, struct sketch *sketch);

void sketch_write(struct weir_self *self, const struct sketch *sketch, struct weir_writer *out);
/* Into an empty sketch. False: malformed, or beyond the memory budget. */
bool sketch_read(struct weir_self *self, const struct sketch_scale *scale, struct sketch *sketch,
                 struct weir_reader *reader);

#endif
