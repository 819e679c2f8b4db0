/* Checks of what a child has written; child_check.h says when. */
#include "actors/plugin/child_check.h"

#include <stdio.h>

#include "actors/plugin/output_check.h"

void child_check_begin(struct child_check *check, uint64_t number)
{
    check->number = number;
    check->emits = check->others = 0;
    check->emit_bytes = 0;
    check->has_snapshot = false;
}

static bool is_within_bounds(struct child_check *check, const struct plugin_output *output)
{
    if (output->kind == OUTPUT_SNAPSHOT && check->has_snapshot)
        return false;
    check->has_snapshot = check->has_snapshot || output->kind == OUTPUT_SNAPSHOT;
    if (output->kind != OUTPUT_EMIT && output->kind != OUTPUT_REPLY)
        return ++check->others <= CHILD_CHECK_OTHERS_MAX;
    check->emit_bytes += output->topic.size + output->key.size + output->value.size;
    return ++check->emits <= check->bounds.emits_max && check->emit_bytes <= check->bounds.emit_bytes_max;
}

/* What is the message's own is not told once more, and there is no half of it. */
static bool same_is_empty(const struct plugin_output *output)
{
    bool has_topic = (output->same & OUTPUT_SAME_TOPIC) != 0, has_key = (output->same & OUTPUT_SAME_KEY) != 0;
    bool has_value = (output->same & OUTPUT_SAME_VALUE) != 0;
    return (!has_topic || output->topic.size == 0) && (!has_key || (output->has_key && output->key.size == 0)) &&
           (!has_value || (output->value.size == 0 && output->update_size == 0));
}

/* Only the fields that a kind has may be there: what nobody looks at would be a place to hide in. */
static bool has_its_fields(const struct plugin_output *output)
{
    bool is_emit = output->kind == OUTPUT_EMIT;
    bool may_value = is_emit || output->kind == OUTPUT_SNAPSHOT || output->kind == OUTPUT_REPLY;
    bool may_text = output->kind == OUTPUT_LOG || output->kind == OUTPUT_DONE;
    bool has_level = output->kind == OUTPUT_LOG;
    bool may_tell_start = output->kind == OUTPUT_DONE && output->number == 0;
    bool has_same = output->same != 0 || output->is_last;
    return (has_level || output->level == 0) && (may_tell_start || !output->has_snapshot) &&
           (is_emit || (output->topic.size == 0 && !output->has_key && output->update_size == 0 && !has_same)) &&
           (!has_same || (output->number != 0 && same_is_empty(output))) && (may_value || output->value.size == 0) &&
           (may_text || output->text.size == 0);
}

bool child_check(struct child_check *check, const struct plugin_output *output, char *why, size_t why_size)
{
    const char *wrong = NULL;
    if (output->number != check->number)
        wrong = "an output that belongs to no input in hand";
    else if (!has_its_fields(output))
        wrong = "an output with fields that its kind does not have";
    else if (!is_within_bounds(check, output))
        wrong = "more outputs than one input may have";
    else
        return output_check(output, &check->bounds, why, why_size);
    snprintf(why, why_size, "%s", wrong);
    return false;
}
