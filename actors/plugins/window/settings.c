/* The configuration of `window`: read once, at init. */
#include "actors/plugins/kit_config.h"
#include "actors/plugins/kit_target.h"
#include "actors/plugins/window/window.h"

/* A week: longer windows are for a database. */
#define SIZE_MS_MAX 604800000.0

static bool quantiles_read(struct weir_self *self, struct weir_bytes list, struct settings *settings)
{
    struct weir_reader reader = {list, false};
    struct weir_item item;
    if (list.size == 0)
        return true;
    if (!weir_read(self, &reader, &item) || item.count > QUANTILES_MAX) {
        kit_fail(self, "config: 'quantiles' has more than %d numbers", (int)QUANTILES_MAX);
        return false;
    }
    settings->quantile_count = item.count;
    for (uint32_t i = 0; i < settings->quantile_count; i++) {
        double q = -1;
        if (!weir_read(self, &reader, &item) || !kit_number_of(&item, &q) || q < 0 || q > 1) {
            kit_fail(self, "config: 'quantiles' must be numbers from 0 to 1, such as [0.5, 0.99]; number %u is not",
                     (unsigned)i + 1);
            return false;
        }
        settings->quantiles[i] = q;
        snprintf(settings->names[i], sizeof settings->names[i], "p%.10g", q * 100);
    }
    return true;
}

static bool word_read(struct weir_self *self, const char *key, struct weir_bytes text, const char *yes, const char *no,
                      bool *out)
{
    if (text.size == 0)
        return true;
    if (!kit_is(text, yes) && !kit_is(text, no)) {
        kit_fail(self, "config: '%s' is '%.*s', but must be %s or %s", key, (int)text.size, (const char *)text.data,
                 yes, no);
        return false;
    }
    *out = kit_is(text, yes);
    return true;
}

static bool times_check(struct weir_self *self, struct settings *s)
{
    if (s->slide_ms == 0)
        s->slide_ms = s->size_ms;
    if (s->slide_ms > s->size_ms || s->size_ms % s->slide_ms != 0) {
        kit_fail(self, "config: 'size_ms' (%llu) must be a multiple of 'slide_ms' (%llu)",
                 (unsigned long long)s->size_ms, (unsigned long long)s->slide_ms);
        return false;
    }
    if (s->time.size == 0 && s->lateness_ms > 0) {
        kit_fail(self,
                 "config: 'lateness_ms' needs 'time', a field with the records' own time: by the broker's clock no "
                 "record is late");
        return false;
    }
    uint64_t panes = s->size_ms / s->slide_ms + s->lateness_ms / s->slide_ms + 2;
    if (panes > PANES_MAX) {
        kit_fail(self,
                 "config: size_ms / slide_ms + lateness_ms / slide_ms is %llu, but at most %d: choose a longer "
                 "slide_ms",
                 (unsigned long long)panes - 2, (int)PANES_MAX - 2);
        return false;
    }
    s->span = (uint32_t)(s->size_ms / s->slide_ms);
    s->pane_count = (uint32_t)panes;
    return true;
}

enum weir_actor_result settings_read(struct weir_self *self, struct weir_bytes config, struct settings *s,
                                     struct sketch_scale *scale)
{
    struct weir_bytes quantiles = {NULL, 0}, emit = {NULL, 0}, missing = {NULL, 0};
    double accuracy = 0.01;
    uint64_t buckets = 1024;
    *s = (struct settings){
        .keys_max = 1000, .ahead_ms = 3600000, .takes_entries = true, .skips_missing = self->role != WEIR_ACTOR_FOLD};
    const struct kit_key keys[] = {
        {"size_ms", KIT_UINT, &s->size_ms, 1, SIZE_MS_MAX, true},
        {"slide_ms", KIT_UINT, &s->slide_ms, 1, SIZE_MS_MAX, false},
        {"to", KIT_TEXT, &s->to, 1, KIT_TOPIC_MAX, false},
        {"field", KIT_TEXT, &s->field, 0, 255, false},
        {"by", KIT_TEXT, &s->by, 0, 255, false},
        {"time", KIT_TEXT, &s->time, 1, 255, false},
        {"lateness_ms", KIT_UINT, &s->lateness_ms, 0, SIZE_MS_MAX, false},
        {"ahead_ms", KIT_UINT, &s->ahead_ms, 0, 1e15, false},
        {"quantiles", KIT_LIST, &quantiles, 0, 0, false},
        {"accuracy", KIT_NUMBER, &accuracy, 0.001, 0.2, false},
        {"buckets_max", KIT_UINT, &buckets, 64, 8192, false},
        {"emit", KIT_TEXT, &emit, 0, 0, false},
        {"missing", KIT_TEXT, &missing, 0, 0, false},
        {"entries", KIT_BOOL, &s->takes_entries, 0, 0, false},
        {"remove_idle", KIT_BOOL, &s->removes_idle, 0, 0, false},
        {"merge", KIT_BOOL, &s->merges, 0, 0, false},
        {"keys_max", KIT_UINT, &s->keys_max, 1, 1000000, false},
    };
    if (!kit_config(self, "config", config, keys, sizeof keys / sizeof *keys) ||
        !word_read(self, "emit", emit, "each", "closed", &s->emits_each) ||
        !word_read(self, "missing", missing, "skip", "refuse", &s->skips_missing) ||
        !quantiles_read(self, quantiles, s) || !times_check(self, s) || !kit_target_check(self, s->to))
        return WEIR_ACTOR_FAILED;
    if (s->merges && (self->role != WEIR_ACTOR_FOLD || s->span > 1 || s->emits_each))
        return kit_fail(self, "config: 'merge' is for a fold whose windows tumble (no 'slide_ms') and are emitted when "
                              "they are closed: what overlaps cannot be added up");
    sketch_scale_init(scale, accuracy, (uint32_t)buckets);
    return WEIR_ACTOR_OK;
}
