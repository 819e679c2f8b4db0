/* What runner.c, runner_verbs.c and object.c share: an instance, and what it is doing. */
#ifndef ACTORS_PLUGIN_RUNNER_STATE_H
#define ACTORS_PLUGIN_RUNNER_STATE_H

#include "actors/base/assert.h"
#include "actors/plugin/object.h"
#include "actors/plugin/output_check.h"
#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/runner.h"

#define RUNNER_MAGIC 0x52754e72u

enum runner_phase { PHASE_NONE, PHASE_INIT, PHASE_RESTORE, PHASE_MESSAGE, PHASE_SNAPSHOT, PHASE_STOP };

/* Before each piece of memory that a plugin has from weir_alloc or weir_hold. */
struct runner_block {
    _Alignas(max_align_t) uint64_t magic;
    size_t size;
    struct runner_block *next, **place; /* in the list of all, so that closing gives back what the plugin did not */
};

struct runner {
    struct weir_self self; /* first: a plugin's handle is the runner's address */
    uint32_t magic;
    struct object object;
    struct runner_bounds bounds;
    plugin_sink sink;
    void *context;
    void *state; /* the plugin's */
    bool is_started, has_failed;
    uint64_t memory_used;
    struct runner_block *blocks;
    /* Of the call that runs. */
    enum runner_phase phase;
    uint64_t number;
    const struct weir_message *message; /* that is handled; NULL: none */
    uint32_t emits;
    uint64_t emit_bytes;
    bool is_asked;   /* a reply may be given, and was not */
    bool is_overrun; /* the sink had no room: whatever the plugin returns, the call has failed */
    char text[PLUGIN_TEXT_SIZE];
    struct plugin_output emission; /* that is on its way: what emissions do not have stays empty in it */
};

extern const struct weir_verbs runner_verbs;

/* The instance of a handle; only its own runner makes handles. */
static inline struct runner *runner_of(struct weir_self *self)
{
    struct runner *runner = CONTAINER_OF(self, struct runner, self);
    MAGIC_CHECK(runner, RUNNER_MAGIC);
    return runner;
}

const char *runner_phase_name(enum runner_phase phase);
__attribute__((format(printf, 2, 3))) void runner_fail_text(struct runner *runner, const char *format, ...);
void runner_memory_free(struct runner *runner);
/* text, at most capacity - 1 bytes of it, cut between characters, with what is not UTF-8 replaced by '?'. */
struct view text_cut(char *out, size_t capacity, const char *text);

enum weir_actor_result runner_emit(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                   struct weir_bytes value);
enum weir_actor_result runner_emit_merged(struct weir_self *self, struct weir_bytes topic, struct weir_bytes key,
                                          struct weir_bytes update, struct weir_bytes merged);
enum weir_actor_result runner_reply(struct weir_self *self, struct weir_bytes value);
enum weir_actor_result runner_timer(struct weir_self *self, uint64_t id, uint64_t delay_ms, uint64_t period_ms);
void runner_timer_cancel(struct weir_self *self, uint64_t id);
void runner_log(struct weir_self *self, int level, const char *text);

#endif
