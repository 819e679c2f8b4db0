/* What is remembered of a child's failures, and what follows from it: whether it may be restarted once more, and when.
 * Called by the supervisors' machines, under the tree's lock. */
#include "actors/supervise/tree.h"

#include "actors/base/clock.h"

#include <string.h>

static struct past *past_at(struct supervisor *supervisor, struct child *child)
{
    const struct aside *aside = aside_of(supervisor->tree, child);
    if (!aside || msg_is_none(aside->past))
        return NULL;
    struct past *past = arena_data(supervisor->tree->arena, aside->past);
    past->window.times_ns = past->times_ns;
    return past;
}

/* NULL: no memory. */
static struct past *past_ensure(struct supervisor *supervisor, struct child *child)
{
    struct past *past = past_at(supervisor, child);
    if (past)
        return past;
    const struct supervisor_config *config = &supervisor->config;
    uint32_t times = 0;
    if (config->is_intensity_per_child && config->intensity != SUPERVISOR_INTENSITY_UNLIMITED)
        times = config->intensity;
    size_t size = sizeof(struct past) + times * sizeof(uint64_t);
    struct aside *aside = aside_ensure(supervisor->tree, child);
    weir_msg block;
    if (!aside)
        return NULL;
    if (arena_alloc(supervisor->tree->arena, size, NULL, &block)) {
        aside_tidy(supervisor->tree, child);
        return NULL;
    }
    aside->past = block;
    past = arena_data(supervisor->tree->arena, block);
    memset(past, 0, size);
    past->window.max = times;
    past->window.times_ns = past->times_ns;
    return past;
}

void past_note(struct supervisor *supervisor, struct child *child, const struct supervision_death *death)
{
    child->last_cause = death->cause;
    struct past *past = past_ensure(supervisor, child);
    if (!past)
        return;
    uint64_t quiet_ns = supervisor->config.backoff_quiet_ms * NS_PER_MS;
    past->repeats = past->death_count && death->at_ns - past->failed_ns < quiet_ns ? past->repeats + 1 : 0;
    past->failed_ns = death->at_ns;
    past->deaths[past->death_count % DEATHS_KEPT] = *death;
    past->death_count++;
}

size_t past_deaths(struct supervisor *supervisor, struct child *child, struct supervision_death *out, size_t max)
{
    const struct past *past = past_at(supervisor, child);
    if (!past)
        return 0;
    size_t kept = past->death_count < DEATHS_KEPT ? past->death_count : DEATHS_KEPT;
    size_t count = kept < max ? kept : max;
    for (size_t i = 0; i < count; i++)
        out[i] = past->deaths[(past->death_count - 1 - i) % DEATHS_KEPT];
    return count;
}

bool window_admit(struct window *window, uint64_t period_ns, uint64_t now_ns)
{
    while (window->count > 0 && now_ns - window->times_ns[window->oldest] > period_ns) {
        window->oldest = (window->oldest + 1) % window->max;
        window->count--;
    }
    if (window->count >= window->max)
        return false;
    window->times_ns[(window->oldest + window->count) % window->max] = now_ns;
    window->count++;
    return true;
}

bool past_admit(struct supervisor *supervisor, struct child *child, uint64_t now_ns)
{
    const struct supervisor_config *config = &supervisor->config;
    if (config->intensity == SUPERVISOR_INTENSITY_UNLIMITED)
        return true;
    uint64_t period_ns = config->period_ms * NS_PER_MS;
    if (!config->is_intensity_per_child)
        return window_admit(&supervisor->window, period_ns, now_ns);
    struct past *past = past_ensure(supervisor, child);
    return past && window_admit(&past->window, period_ns, now_ns);
}

/* Source: splitmix64. */
static uint64_t random_next(struct supervisor *supervisor)
{
    uint64_t z = supervisor->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t past_backoff_ns(struct supervisor *supervisor, struct child *child)
{
    const struct supervisor_config *config = &supervisor->config;
    const struct past *past = past_at(supervisor, child);
    uint32_t repeats = past ? past->repeats : 1;
    if (config->backoff_max_ms == 0 || repeats == 0)
        return 0;
    uint64_t max_ns = config->backoff_max_ms * NS_PER_MS;
    uint64_t delay_ns = config->backoff_min_ms * NS_PER_MS;
    for (uint32_t i = 1; i < repeats && delay_ns < max_ns && delay_ns > 0; i++)
        delay_ns *= 2;
    if (delay_ns > max_ns)
        delay_ns = max_ns;
    uint64_t jitter_ns = delay_ns / 100 * config->backoff_jitter_percent;
    return jitter_ns ? delay_ns - random_next(supervisor) % jitter_ns : delay_ns;
}
