/* Checks outputs; see the header. */
#include "actors/plugin/output_check.h"

#include "actors/plugin/plugin_limits.h"
#include "actors/topic/page.h"
#include "clients/wire/name.h"
#include "clients/wire/utf8.h"
#include "clients/wire/value.h"

#include "actors/base/limits.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 3, 4))) static bool bad(char *why, size_t why_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return false;
}

static bool value_check(struct view value, size_t size_max, unsigned depth_max, char *why, size_t why_size)
{
    size_t size = 0;
    if (value.size > size_max)
        return bad(why, why_size, "the value has %zu bytes, at most %zu are allowed", value.size, size_max);
    if (value.data == NULL || value_scan(value, depth_max, &size) != WEIR_OK || size != value.size)
        return bad(why, why_size, "the value (%zu bytes) is not exactly one msgpack value of depth %u at most",
                   value.size, depth_max);
    return true;
}

/* An update and what it comes to with those before. */
static bool merged_check(const struct plugin_output *output, const struct runner_bounds *bounds, char *why,
                         size_t why_size)
{
    size_t size = output->update_size;
    if (size >= output->value.size)
        return bad(why, why_size, "an update of %zu bytes with nothing behind it", size);
    struct view update = view_of(output->value.data, size);
    struct view merged = view_of(output->value.data + size, output->value.size - size);
    if (!output->has_key)
        return bad(why, why_size, "what has a merged form has to have a key");
    if (!value_check(update, bounds->value_bytes_max, bounds->depth_max, why, why_size) ||
        !value_check(merged, bounds->value_bytes_max, bounds->depth_max, why, why_size))
        return false;
    if (value_is_nil(update) || value_is_nil(merged))
        return bad(why, why_size, "a removal has no merged form: emit nil alone");
    return true;
}

static bool topic_check(struct view topic, char *why, size_t why_size)
{
    const char *reason = NULL;
    if (topic.data == NULL || name_check(topic, &reason) != WEIR_OK)
        return bad(why, why_size, "the topic is no name: %s", reason != NULL ? reason : "there is none");
    if (name_is_reserved(topic))
        return bad(why, why_size, "topics that start with '$' are the broker's");
    return true;
}

bool emission_check(const struct plugin_output *output, struct output_known known, const struct runner_bounds *bounds,
                    char *why, size_t why_size)
{
    if (!known.topic && !topic_check(output->topic, why, why_size))
        return false;
    if (output->has_key && (output->key.data == NULL || output->key.size > KEY_SIZE_MAX))
        return bad(why, why_size, "the key has %zu bytes, at most %d are allowed", output->key.size, KEY_SIZE_MAX);
    if (output->has_key && !known.key && !utf8_is_valid(output->key.data, output->key.size))
        return bad(why, why_size, "the key is not UTF-8");
    if (output->update_size > 0)
        return merged_check(output, bounds, why, why_size);
    if (known.value && output->value.size <= bounds->value_bytes_max)
        return true;
    return value_check(output->value, bounds->value_bytes_max, bounds->depth_max, why, why_size);
}

static bool text_check(struct view text, char *why, size_t why_size)
{
    if (text.size >= PLUGIN_TEXT_SIZE || (text.size > 0 && !utf8_is_valid(text.data, text.size)))
        return bad(why, why_size, "a text of %zu bytes is too long or not UTF-8", text.size);
    return true;
}

/* What is left out of it is checked where it is put in again. */
static bool child_emission_check(const struct plugin_output *output, const struct runner_bounds *bounds, char *why,
                                 size_t why_size)
{
    struct output_known known = output_known(output);
    known.value = (output->same & OUTPUT_SAME_VALUE) != 0;
    return emission_check(output, known, bounds, why, why_size);
}

bool output_check(const struct plugin_output *output, const struct runner_bounds *bounds, char *why, size_t why_size)
{
    switch (output->kind) {
    case OUTPUT_EMIT: return child_emission_check(output, bounds, why, why_size);
    case OUTPUT_SNAPSHOT:
        return value_check(output->value, bounds->snapshot_bytes_max, VALUE_DEPTH_LIMIT, why, why_size);
    case OUTPUT_REPLY: return value_check(output->value, bounds->value_bytes_max, bounds->depth_max, why, why_size);
    case OUTPUT_TIMER:
        if (output->delay_ms > PLUGIN_TIMER_MS_MAX || output->period_ms > PLUGIN_TIMER_MS_MAX)
            return bad(why, why_size, "a timer of more than %llu ms", (unsigned long long)PLUGIN_TIMER_MS_MAX);
        return true;
    case OUTPUT_TIMER_CANCEL: return true;
    case OUTPUT_LOG:
        if (output->level > WEIR_LOG_ERROR)
            return bad(why, why_size, "a log level of %u", (unsigned)output->level);
        return text_check(output->text, why, why_size);
    case OUTPUT_DONE:
        if (output->result > WEIR_ACTOR_FAILED)
            return bad(why, why_size, "a result of %u", (unsigned)output->result);
        return text_check(output->text, why, why_size);
    }
    return bad(why, why_size, "an output of kind %u", (unsigned)output->kind);
}
