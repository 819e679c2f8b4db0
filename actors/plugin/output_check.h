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
/* What is so since it is the message's own, of which nobody has noted how deep a value is that holds others: publishers
 * may be allowed more than plugins. */
static inline struct output_known output_known(const struct plugin_output *output)
{
    uint8_t head = output->value.size > 0 ? output->value.data[0] : 0x90;
    bool is_leaf = (head & 0xe0) != 0x80 && (head < 0xdc || head > 0xdf);
    return (struct output_known){.topic = (output->same & OUTPUT_SAME_TOPIC) != 0,
                                 .key = (output->same & OUTPUT_SAME_KEY) != 0,
                                 .value = (output->same & OUTPUT_SAME_VALUE) != 0 && is_leaf};
}
/* The rest of it is checked. */
bool emission_check(const struct plugin_output *output, struct output_known known, const struct runner_bounds *bounds,
                    char *why, size_t why_size);

#endif
