/* Is an output what it should be? Asked by the runner of what its plugin hands over, so that the plugin learns why not,
 * and by the process host of what a hostile child may have written. Pure, any thread. */
#ifndef ACTORS_PLUGIN_OUTPUT_CHECK_H
#define ACTORS_PLUGIN_OUTPUT_CHECK_H

#include "actors/plugin/runner.h"

/* Kind, topic (a name that is not the broker's), key (UTF-8), value (exactly one, well-formed, not too deep or large),
 * text (UTF-8), times, level and result. bounds must have been filled. False: why says what is wrong. */
bool output_check(const struct plugin_output *output, const struct runner_bounds *bounds, char *why, size_t why_size);

/* What is known to be good of an emission, since it was checked before. */
struct output_known {
    bool topic, key;
    bool value; /* well-formed and not too deep; whether it is too large is looked at */
};
/* The rest of it is checked. */
bool emission_check(const struct plugin_output *output, struct output_known known, const struct runner_bounds *bounds,
                    char *why, size_t why_size);

#endif
