/* What a child has written, checked before anything else of the broker sees it: that it is about the input in hand,
 * within what one input may bring about, and what output_check asks. The bytes must be the broker's own copy. */
#ifndef ACTORS_PLUGIN_CHILD_CHECK_H
#define ACTORS_PLUGIN_CHILD_CHECK_H

#include "actors/plugin/runner.h"

struct child_check {
    struct runner_bounds bounds; /* filled */
    uint64_t number;             /* of the input in hand */
    uint32_t emits, others;      /* of that input so far */
    uint64_t emit_bytes;
    bool has_snapshot; /* that input told one: the largest output there is, kept until the input's end */
};

/* Timers, log lines and the like of one input together: what a plugin that means well never reaches. */
#define CHILD_CHECK_OTHERS_MAX 4096

/* The input in hand is now this one. */
void child_check_begin(struct child_check *check, uint64_t number);
/* False: why (PLUGIN_TEXT_SIZE) says what is wrong. */
bool child_check(struct child_check *check, const struct plugin_output *output, char *why, size_t why_size);

#endif
