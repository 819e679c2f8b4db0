/* The state of `window` as one value, and back:
 * [1, size_ms, slide_ms, quantiles?, watermark_ms, late, dropped, [[id, closed, is_shown, [pane...]]...]], a pane being
 * [index, count, sum, min, max, sketch?]. With `merge` it begins with 2, and a group has one thing more: its total, a
 * list of a pane or none. */
#include "actors/plugins/kit_target.h"
#include "actors/plugins/window/window.h"

enum { FORM = 1, FORM_MERGE = 2 };

static uint64_t form_of(const struct window *window) { return window->settings.merges ? FORM_MERGE : FORM; }

static void pane_write(struct weir_self *self, const struct window *window, const struct pane *pane,
                       struct weir_writer *out)
{
    bool has_sketch = window->settings.quantile_count > 0;
    kit_put_array(self, out, has_sketch ? 6 : 5);
    kit_put_uint(self, out, pane->index);
    kit_put_uint(self, out, pane->count);
    kit_put_double(self, out, pane->sum);
    kit_put_double(self, out, pane->min);
    kit_put_double(self, out, pane->max);
    if (has_sketch)
        sketch_write(self, &pane->sketch, out);
}

static void group_write(struct weir_self *self, const struct window *window, const struct group *group,
                        struct weir_writer *out)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < window->settings.pane_count; i++)
        used += group->panes[i].count > 0;
    kit_put_array(self, out, window->settings.merges ? 5 : 4);
    kit_put_bin(self, out, group->entry.id);
    kit_put_uint(self, out, group->closed);
    kit_put_bool(self, out, group->is_shown);
    kit_put_array(self, out, used);
    for (uint32_t i = 0; i < window->settings.pane_count; i++) {
        if (group->panes[i].count > 0)
            pane_write(self, window, &group->panes[i], out);
    }
    if (!window->settings.merges)
        return;
    kit_put_array(self, out, group->total.count > 0);
    if (group->total.count > 0)
        pane_write(self, window, &group->total, out);
}

enum weir_actor_result window_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    const struct window *window = state;
    kit_put_array(self, out, 8);
    kit_put_uint(self, out, form_of(window));
    kit_put_uint(self, out, window->settings.size_ms);
    kit_put_uint(self, out, window->settings.slide_ms);
    kit_put_bool(self, out, window->settings.quantile_count > 0);
    kit_put_uint(self, out, window->watermark_ms);
    kit_put_uint(self, out, window->late);
    kit_put_uint(self, out, window->dropped);
    kit_put_array(self, out, window->groups.count);
    for (const struct kit_entry *entry = window->groups.oldest; entry != NULL && !out->is_full; entry = entry->newer)
        group_write(self, window, (const struct group *)entry, out);
    return WEIR_ACTOR_OK;
}

/* total: it is that, and no pane of its index. */
static bool pane_read(struct weir_self *self, struct window *window, struct group *group, struct pane *total,
                      struct weir_reader *reader)
{
    bool has_sketch = window->settings.quantile_count > 0;
    if (kit_want_array(self, reader) != (has_sketch ? 6U : 5U))
        return false;
    uint64_t index = kit_want_uint(self, reader);
    struct pane *pane = total != NULL ? total : &group->panes[index % window->settings.pane_count];
    if (pane->count > 0)
        return false;
    pane->index = index;
    pane->count = kit_want_uint(self, reader);
    pane->sum = kit_want_double(self, reader);
    pane->min = kit_want_double(self, reader);
    pane->max = kit_want_double(self, reader);
    return !reader->is_bad && pane->count > 0 &&
           (!has_sketch || sketch_read(self, &window->scale, &pane->sketch, reader));
}

static bool group_read(struct weir_self *self, struct window *window, struct weir_reader *reader)
{
    bool is_full = false;
    if (kit_want_array(self, reader) != (window->settings.merges ? 5U : 4U))
        return false;
    struct weir_bytes id = kit_want_bin(self, reader);
    if (!kit_id_is_whole(id) || kit_table_find(&window->groups, id) != NULL)
        return false;
    struct group *group = group_ensure(self, window, id, &is_full);
    if (group == NULL)
        return false;
    group->closed = kit_want_uint(self, reader);
    group->is_shown = kit_want_bool(self, reader);
    uint32_t panes = kit_want_array(self, reader);
    for (uint32_t i = 0; i < panes && !reader->is_bad; i++) {
        if (!pane_read(self, window, group, NULL, reader))
            return false;
    }
    uint32_t totals = window->settings.merges ? kit_want_array(self, reader) : 0;
    return !reader->is_bad && totals <= 1 && (totals == 0 || pane_read(self, window, group, &group->total, reader));
}

enum weir_actor_result window_restore(struct weir_self *self, void *state, struct weir_bytes snapshot)
{
    struct window *window = state;
    const struct settings *settings = &window->settings;
    struct weir_reader reader = {snapshot, false};
    bool is_whole = kit_want_array(self, &reader) == 8;
    uint64_t form = kit_want_uint(self, &reader);
    if (!is_whole || (form != FORM && form != FORM_MERGE))
        return kit_fail(self, "this is no snapshot of window 1.0");
    bool is_alike = form == form_of(window);
    is_alike &= kit_want_uint(self, &reader) == settings->size_ms;
    is_alike &= kit_want_uint(self, &reader) == settings->slide_ms;
    is_alike &= kit_want_bool(self, &reader) == (settings->quantile_count > 0);
    if (!reader.is_bad && !is_alike) {
        weir_log(self, WEIR_LOG_WARNING, "size_ms, slide_ms, quantiles or merge have changed: the windows begin anew");
        return WEIR_ACTOR_OK;
    }
    window->watermark_ms = kit_want_uint(self, &reader);
    window->late = kit_want_uint(self, &reader);
    window->dropped = kit_want_uint(self, &reader);
    uint32_t groups = kit_want_array(self, &reader);
    for (uint32_t i = 0; i < groups && !reader.is_bad; i++) {
        if (!group_read(self, window, &reader))
            return kit_fail(self,
                            "the snapshot's key %u cannot be taken: malformed, or beyond keys_max or "
                            "memory_bytes_max",
                            (unsigned)i + 1);
    }
    if (reader.is_bad)
        return kit_fail(self, "the snapshot is malformed");
    if (window->groups.count == 0)
        return WEIR_ACTOR_OK;
    window->is_armed = true;
    return weir_timer_set(self, TIMER_SWEEP, 0, 0);
}
