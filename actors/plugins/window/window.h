/* The parts of the plugin `window` that its files share. */
#ifndef ACTORS_PLUGINS_WINDOW_WINDOW_H
#define ACTORS_PLUGINS_WINDOW_WINDOW_H

#include "actors/plugins/kit_table.h"
#include "actors/plugins/window/sketch.h"

enum {
    QUANTILES_MAX = 16,
    /* Pieces of one window, those that late records may still fall into included: what one group costs at most, and how
     * often one record can be merged into what is emitted. */
    PANES_MAX = 256,
    /* Groups are closed so many at a time and the rest in timers at once, so that one message never brings about more
     * emissions than hosts take. */
    SWEEP_EMITS_MAX = 200,
    TIMER_SWEEP = 1,
};

struct settings {
    struct weir_bytes kept; /* the configuration, which the texts below are parts of */
    struct weir_bytes to, field, by, time;
    uint64_t size_ms, slide_ms, lateness_ms, ahead_ms;
    double quantiles[QUANTILES_MAX];
    char names[QUANTILES_MAX][KIT_NUMBER_TEXT_MAX]; /* "p50" */
    uint32_t quantile_count;
    uint32_t span;       /* panes of a window: size / slide */
    uint32_t pane_count; /* and those ahead of the newest closed one */
    uint64_t keys_max;
    bool skips_missing, takes_entries, emits_each, removes_idle, merges;
};

/* The records of one slide_ms of time. */
struct pane {
    uint64_t index; /* time / slide_ms */
    uint64_t count; /* 0: not used */
    double sum, min, max;
    struct sketch sketch;
};

/* What is kept for one (topic, key). */
struct group {
    struct kit_entry entry;
    uint64_t closed; /* windows that end with an earlier pane have been emitted */
    bool is_shown;   /* something was emitted that would have to be removed */
    struct pane *panes;
    struct pane
        total; /* with merges: of the closed windows since the last empty one, the first of which is its index */
};

struct window {
    struct settings settings;
    struct sketch_scale scale;
    struct kit_table groups; /* in the order of `closed` */
    struct sketch scratch;
    uint64_t watermark_ms; /* no record before it is waited for */
    uint64_t late, dropped;
    bool is_armed;
};

/* settings.c. kept is not set yet; views point into config. FAILED with weir_fail called. */
enum weir_actor_result settings_read(struct weir_self *self, struct weir_bytes config, struct settings *settings,
                                     struct sketch_scale *scale);

/* groups.c. NULL with weir_fail called. */
struct group *group_ensure(struct weir_self *self, struct window *window, struct weir_bytes id, bool *is_full);
void group_remove(struct weir_self *self, struct window *window, struct group *group);
/* Counts a number in the pane of its time. False: beyond the memory budget. */
bool group_add(struct weir_self *self, struct window *window, struct group *group, uint64_t index, double number);
/* Emits the window that ends with pane `last`; nothing is emitted, and *is_empty true, where it has no records. */
enum weir_actor_result group_emit(struct weir_self *self, struct window *window, struct group *group, uint64_t last,
                                  bool is_closed, bool *is_empty);
/* Emits and forgets the windows before `closed`; *pointer is NULL afterwards when nothing is left of it. */
enum weir_actor_result group_close(struct weir_self *self, struct window *window, struct group **pointer,
                                   uint64_t closed, uint32_t *emitted);
/* Replies with the windows of a key that are not closed yet, up to the one that ends with its latest record's pane. */
enum weir_actor_result group_ask(struct weir_self *self, struct window *window, const struct weir_message *message);

/* saved.c */
enum weir_actor_result window_snapshot(struct weir_self *self, void *state, struct weir_writer *out);
enum weir_actor_result window_restore(struct weir_self *self, void *state, struct weir_bytes snapshot);

#endif
