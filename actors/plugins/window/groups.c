/* The groups of `window`: their panes, what is emitted of them, and when they are forgotten. */
#include "actors/plugins/kit_ask.h"
#include "actors/plugins/window/window.h"

/* Room for eight fields and QUANTILES_MAX quantiles with their names. */
enum { EMITTED_SIZE_MAX = 2048 };

struct group *group_ensure(struct weir_self *self, struct window *window, struct weir_bytes id, bool *is_full)
{
    struct group *group = (struct group *)kit_table_find(&window->groups, id);
    *is_full = group == NULL && kit_table_is_full(&window->groups);
    if (group != NULL || *is_full)
        return group;
    size_t size = window->settings.pane_count * sizeof *group->panes;
    struct pane *panes = weir_alloc(self, size);
    if (panes == NULL)
        return NULL;
    memset(panes, 0, size);
    group = (struct group *)kit_table_add(self, &window->groups, id, sizeof *group);
    if (group == NULL) {
        weir_free(self, panes);
        return NULL;
    }
    group->panes = panes;
    return group;
}

void group_remove(struct weir_self *self, struct window *window, struct group *group)
{
    for (uint32_t i = 0; i < window->settings.pane_count; i++)
        sketch_fini(self, &group->panes[i].sketch);
    sketch_fini(self, &group->total.sketch);
    weir_free(self, group->panes);
    kit_table_remove(self, &window->groups, &group->entry);
}

bool group_add(struct weir_self *self, struct window *window, struct group *group, uint64_t index, double number)
{
    struct pane *pane = &group->panes[index % window->settings.pane_count];
    if (window->settings.quantile_count > 0 && !sketch_add(self, &window->scale, &pane->sketch, number))
        return false;
    if (pane->count == 0) {
        pane->index = index;
        pane->sum = 0;
        pane->min = pane->max = number;
    }
    pane->count++;
    pane->sum += number;
    if (number < pane->min)
        pane->min = number;
    if (number > pane->max)
        pane->max = number;
    return true;
}

/* Adds up the panes of the window that ends with `last`; the sketches go to the scratch one. */
static bool window_sum(struct weir_self *self, struct window *window, const struct group *group, uint64_t last,
                       struct pane *out)
{
    *out = (struct pane){.index = last};
    sketch_clear(&window->scratch);
    for (uint32_t i = 0; i < window->settings.pane_count; i++) {
        const struct pane *pane = &group->panes[i];
        if (pane->count == 0 || pane->index > last || last - pane->index >= window->settings.span)
            continue;
        if (out->count == 0 || pane->min < out->min)
            out->min = pane->min;
        if (out->count == 0 || pane->max > out->max)
            out->max = pane->max;
        out->count += pane->count;
        out->sum += pane->sum;
        if (window->settings.quantile_count > 0 && !sketch_merge(self, &window->scale, &window->scratch, &pane->sketch))
            return false;
    }
    return true;
}

static void put_double(struct weir_self *self, struct weir_writer *writer, const char *name, double value)
{
    kit_put_text(self, writer, name);
    kit_put_double(self, writer, value);
}

static void put_uint(struct weir_self *self, struct weir_writer *writer, const char *name, uint64_t value)
{
    kit_put_text(self, writer, name);
    kit_put_uint(self, writer, value);
}

/* When the window that ends with pane `last` begins. */
static uint64_t window_start(const struct settings *settings, uint64_t last)
{
    uint64_t end_ms = (last + 1) * settings->slide_ms;
    return end_ms > settings->size_ms ? end_ms - settings->size_ms : 0;
}

/* What was summed up, from start_ms to the end of pane `last`, with its sketch. */
static void window_write(struct weir_self *self, const struct window *window, const struct pane *sum,
                         const struct sketch *sketch, uint64_t start_ms, uint64_t last, bool is_closed,
                         struct weir_writer *writer)
{
    const struct settings *settings = &window->settings;
    uint64_t end_ms = (last + 1) * settings->slide_ms;
    kit_put_map(self, writer, 8 + settings->quantile_count);
    put_uint(self, writer, "start_ms", start_ms);
    put_uint(self, writer, "end_ms", end_ms);
    put_uint(self, writer, "count", sum->count);
    put_double(self, writer, "sum", sum->sum);
    put_double(self, writer, "mean", sum->sum / (double)sum->count);
    put_double(self, writer, "min", sum->min);
    put_double(self, writer, "max", sum->max);
    for (uint32_t i = 0; i < settings->quantile_count; i++) {
        double value = sketch_quantile(&window->scale, sketch, settings->quantiles[i]);
        /* What is known exactly is not told worse than it is. */
        put_double(self, writer, settings->names[i], value < sum->min ? sum->min : value > sum->max ? sum->max : value);
    }
    kit_put_text(self, writer, "closed");
    kit_put_bool(self, writer, is_closed);
}

/* Adds a closed window to what its key's come to. False: beyond the memory budget. */
static bool total_add(struct weir_self *self, struct window *window, struct pane *total, const struct pane *sum)
{
    if (window->settings.quantile_count > 0 && !sketch_merge(self, &window->scale, &total->sketch, &window->scratch))
        return false;
    if (total->count == 0) {
        total->index = sum->index;
        total->sum = 0;
        total->min = sum->min;
        total->max = sum->max;
    }
    total->count += sum->count;
    total->sum += sum->sum;
    total->min = sum->min < total->min ? sum->min : total->min;
    total->max = sum->max > total->max ? sum->max : total->max;
    return true;
}

/* A closed window, and what those of its key come to with it. */
static enum weir_actor_result merged_emit(struct weir_self *self, struct window *window, struct group *group,
                                          const struct pane *sum, struct weir_bytes update)
{
    char memory[EMITTED_SIZE_MAX];
    struct weir_writer writer = {memory, 0, sizeof memory, false};
    struct pane *total = &group->total;
    if (!total_add(self, window, total, sum))
        return kit_fail(self, "no memory to add up windows: raise memory_bytes_max or lower buckets_max");
    window_write(self, window, total, &total->sketch, window_start(&window->settings, total->index), sum->index, true,
                 &writer);
    return weir_emit_merged(self, kit_id_topic(group->entry.id), kit_id_key(group->entry.id), update,
                            weir_bytes_of(memory, writer.size));
}

enum weir_actor_result group_emit(struct weir_self *self, struct window *window, struct group *group, uint64_t last,
                                  bool is_closed, bool *is_empty)
{
    char memory[EMITTED_SIZE_MAX];
    struct weir_writer writer = {memory, 0, sizeof memory, false};
    struct pane sum;
    if (!window_sum(self, window, group, last, &sum))
        return kit_fail(self, "no memory to add up a window: raise memory_bytes_max or lower buckets_max");
    *is_empty = sum.count == 0;
    if (*is_empty)
        return WEIR_ACTOR_OK;
    window_write(self, window, &sum, &window->scratch, window_start(&window->settings, last), last, is_closed, &writer);
    group->is_shown = true;
    if (window->settings.merges)
        return merged_emit(self, window, group, &sum, weir_bytes_of(memory, writer.size));
    return weir_emit(self, kit_id_topic(group->entry.id), kit_id_key(group->entry.id),
                     weir_bytes_of(memory, writer.size));
}

/* Emits that nothing is there any more. */
static enum weir_actor_result group_hide(struct weir_self *self, struct window *window, struct group *group,
                                         uint32_t *emitted)
{
    if (!window->settings.removes_idle || !group->is_shown)
        return WEIR_ACTOR_OK;
    group->is_shown = false;
    (*emitted)++;
    return weir_emit(self, kit_id_topic(group->entry.id), kit_id_key(group->entry.id), weir_bytes_of("\xc0", 1));
}

/* Gives back the pane that no later window than the one ending with `last` has; whether others are in use. */
static bool group_expire(struct window *window, struct group *group, uint64_t last)
{
    bool is_used = false;
    for (uint32_t i = 0; i < window->settings.pane_count; i++) {
        struct pane *pane = &group->panes[i];
        if (pane->count > 0 && pane->index <= last && last - pane->index + 1 >= window->settings.span) {
            pane->count = 0;
            sketch_clear(&pane->sketch);
        }
        is_used |= pane->count > 0;
    }
    return is_used;
}

enum weir_actor_result group_close(struct weir_self *self, struct window *window, struct group **pointer,
                                   uint64_t closed, uint32_t *emitted)
{
    struct group *group = *pointer;
    enum weir_actor_result result = WEIR_ACTOR_OK;
    bool is_used = true;
    /* Ends after pane_count windows at the latest: then its panes are all behind. */
    while (group->closed < closed && is_used && result == WEIR_ACTOR_OK) {
        bool is_empty = false;
        result = group_emit(self, window, group, group->closed, true, &is_empty);
        if (result == WEIR_ACTOR_OK && is_empty)
            result = group_hide(self, window, group, emitted);
        *emitted += !is_empty;
        is_used = group_expire(window, group, group->closed);
        if (is_empty) {
            group->total.count = 0;
            sketch_clear(&group->total.sketch);
        }
        /* The next window may go on where this one ends. */
        is_used = is_used || (window->settings.merges && !is_empty);
        group->closed++;
    }
    if (result != WEIR_ACTOR_OK)
        return result;
    if (is_used) {
        kit_table_touch(&window->groups, &group->entry);
        return WEIR_ACTOR_OK;
    }
    result = group_hide(self, window, group, emitted);
    group_remove(self, window, group);
    *pointer = NULL;
    return result;
}

enum weir_actor_result group_ask(struct weir_self *self, struct window *window, const struct weir_message *message)
{
    struct weir_message question;
    char id_memory[KIT_ID_MAX];
    uint64_t newest = 0;
    uint32_t count = 0;
    if (!kit_question_state(self, message, window->settings.to, &question))
        return WEIR_ACTOR_REFUSED;
    struct weir_bytes key = question.key.data != NULL ? question.key : kit_of("all");
    const struct group *group =
        (const struct group *)kit_table_find(&window->groups, kit_id(id_memory, question.topic, key));
    for (uint32_t i = 0; group != NULL && i < window->settings.pane_count; i++) {
        const struct pane *pane = &group->panes[i];
        newest = pane->count > 0 && pane->index > newest ? pane->index : newest;
    }
    struct weir_writer windows = kit_reply_begin(self, (size_t)window->settings.pane_count * EMITTED_SIZE_MAX);
    for (uint64_t last = group != NULL ? group->closed : 1; last <= newest && !windows.is_full; last++) {
        struct pane sum;
        if (!window_sum(self, window, group, last, &sum))
            windows.is_full = true;
        if (sum.count == 0)
            continue;
        window_write(self, window, &sum, &window->scratch, window_start(&window->settings, last), last, false,
                     &windows);
        count++;
    }
    struct weir_writer reply = kit_reply_begin(self, windows.size + 8);
    kit_put_array(self, &reply, count);
    kit_put_raw(&reply, weir_bytes_of(windows.data, windows.size));
    reply.is_full = reply.is_full || windows.is_full;
    weir_free(self, windows.data);
    return kit_reply(self, &reply);
}
