/* Runs one plugin instance: the shared object, its state, its verbs. The same code in either host and in the test kit:
 * inputs go in by call, outputs come out through a sink, and nothing here knows of actors, rings or processes. One
 * thread at a time. */
#ifndef ACTORS_PLUGIN_RUNNER_H
#define ACTORS_PLUGIN_RUNNER_H

#include "actors/plugin/weir_actor.h"
#include "clients/wire/view.h"
#include "weir_error.h"

/* What an instance is told. Handled one after the other; each but INPUT_STOP is answered by one OUTPUT_DONE with its
 * number, behind whatever else it brought about. */
enum plugin_input_kind {
    INPUT_MESSAGE,  /* message */
    INPUT_SNAPSHOT, /* -> OUTPUT_SNAPSHOT, OUTPUT_DONE */
    INPUT_RESTORE,  /* bytes: a snapshot; before any message */
    INPUT_STOP,
};
struct plugin_input {
    enum plugin_input_kind kind;
    uint64_t number; /* rises by one from input to input */
    struct weir_message message;
    struct view bytes;
};

enum plugin_output_kind {
    OUTPUT_EMIT,         /* topic, key (text; data NULL: none), value, update_size */
    OUTPUT_TIMER,        /* timer, delay_ms, period_ms */
    OUTPUT_TIMER_CANCEL, /* timer */
    OUTPUT_LOG,          /* level, text */
    OUTPUT_SNAPSHOT,     /* value */
    OUTPUT_REPLY,        /* value; to a WEIR_MESSAGE_ASK, once */
    OUTPUT_DONE,         /* number, result, text: why not OK. Emissions, timers and replies of a number whose
                            result is not OK must be ignored. */
};
/* EMIT: which of its views are the message's own, byte for byte. Such a one need not be carried to whoever has the
 * message: what comes from a process has them empty. */
enum output_same { OUTPUT_SAME_TOPIC = 1, OUTPUT_SAME_KEY = 2, OUTPUT_SAME_VALUE = 4 };
/* Views are the runner's or the plugin's until the sink returns. From a process host all of it is what a hostile child
 * may have written: kinds, sizes, topics and values have to be checked by who takes it. */
struct plugin_output {
    enum plugin_output_kind kind;
    uint64_t number; /* of the input that brought it about */
    struct view topic, key, value, text;
    bool has_key;
    uint64_t timer, delay_ms, period_ms;
    uint32_t level, result; /* enum weir_log_level; enum weir_actor_result */
    bool has_snapshot;      /* DONE of number 0, see host.h */
    bool is_last;           /* EMIT, of a process: its input is handled with that, and well; there is no DONE */
    uint8_t same;           /* enum output_same */
    uint32_t update_size; /* EMIT: so much of value is the update, what is behind it its merged form; 0: it has none */
};

/* Everything else empty. One field after the other, here and where an output or an input is filled for each message:
 * for a struct of this size that is a third of what an initializer costs, which compilers make one string instruction
 * of. */
static inline void plugin_output_init(struct plugin_output *out, enum plugin_output_kind kind, uint64_t number)
{
    out->kind = kind;
    out->number = number;
    out->topic = view_of(NULL, 0);
    out->key = view_of(NULL, 0);
    out->value = view_of(NULL, 0);
    out->text = view_of(NULL, 0);
    out->has_key = false;
    out->timer = out->delay_ms = out->period_ms = 0;
    out->level = out->result = 0;
    out->has_snapshot = false;
    out->is_last = false;
    out->same = 0;
    out->update_size = 0;
}

/* Bounds of one instance. 0 means the default that plugin_limits.h gives; runner_bounds_fill puts it in. */
struct runner_bounds {
    uint64_t memory_bytes_max; /* weir_alloc, weir_hold and snapshots together */
    uint32_t emits_max;        /* of one input */
    uint32_t emit_bytes_max;   /* of one input: topics, keys and values */
    uint32_t value_bytes_max;  /* of one value */
    uint32_t depth_max;        /* of one value's nesting */
    uint32_t snapshot_bytes_max;
};

void runner_bounds_fill(struct runner_bounds *bounds);

/* Takes an output; false: no room, which fails the input in hand (the runner then sends nothing of it but its DONE, for
 * which the sink must always have room). */
typedef bool (*plugin_sink)(void *context, const struct plugin_output *output);

struct runner;

/* Opens the shared object and checks it: a regular file that only its owner (root or this user) can write, its ABI,
 * its role. It is copied first: each instance has static data of its own, a file that is overwritten in place harms
 * nobody, and what is opened later is what the file says then. So $ORIGIN in a plugin's RUNPATH leads nowhere.
 * why (at least PLUGIN_TEXT_SIZE bytes) says what is wrong. WEIR_NOT_FOUND, WEIR_FORBIDDEN, WEIR_BAD_REQUEST,
 * WEIR_TOO_BIG, WEIR_IO, WEIR_NO_MEMORY. Runs the object's constructors. Then init is called by runner_start. */
WEIR_MUST_USE enum weir_error runner_open(const char *file, enum weir_actor_role role,
                                          const struct runner_bounds *bounds, plugin_sink sink, void *context,
                                          struct runner **out, char *why, size_t why_size);
/* The same with a copy that object_copy has made (taken over in any case), for a process that can open no file any
 * more; file is its name for people. */
WEIR_MUST_USE enum weir_error runner_open_copy(int copy, const char *file, enum weir_actor_role role,
                                               const struct runner_bounds *bounds, plugin_sink sink, void *context,
                                               struct runner **out, char *why, size_t why_size);
/* Calls init with config (a msgpack value). Its timers and log lines go to the sink with number 0. WEIR_FAILED: what is
 * left to do is runner_close. */
WEIR_MUST_USE enum weir_error runner_start(struct runner *runner, struct view config, char *why, size_t why_size);
/* Handles one input; everything it brings about has gone to the sink when this returns. Returns its result. After
 * WEIR_ACTOR_FAILED the instance must be closed: nobody can tell what state its plugin is in. */
enum weir_actor_result runner_handle(struct runner *runner, const struct plugin_input *input);
/* The same in two steps, of an input that is answered: what the first returned the second tells the sink, for whom that
 * may be one too many. */
enum weir_actor_result runner_call(struct runner *runner, const struct plugin_input *input);
void runner_tell(struct runner *runner, const struct plugin_input *input, enum weir_actor_result result);
const struct weir_actor_plugin *runner_plugin(const struct runner *runner);
/* Calls stop, unless init never succeeded (a call that failed has left the state as it was), and closes the shared
 * object. */
void runner_close(struct runner **pointer);

#endif
