/* A plugin actor's own state, and how its files share the work:
 *
 *   plugin.c         the behaviour: start, dispatch, failure, restart, end
 *   plugin_places.c  topics by name, by mark and by feed
 *   plugin_intake.c  what comes, one by one, into the ring of inputs that are kept
 *   plugin_follow.c  a processor's subscriptions
 *   plugin_straight.c  inputs called straight out of the batch they came in
 *   plugin_runs.c    ... and kept as one
 *   plugin_pump.c    inputs to the host, outputs from it
 *   plugin_brought.c what the input in hand brought about so far
 *   plugin_emit.c    what a handled input brought about, out to topics, and their acknowledgements
 *   plugin_outgoing.c  ... of a processor
 *   plugin_bundle.c  records of one topic, put together in one message
 *   plugin_answer.c  what publishers are told of their records, and when
 *   plugin_replay.c  snapshots, and how an instance gets its state back
 *   plugin_timers.c  the instance's timers
 *   plugin_reload.c  new code for old
 *   plugin_begin.c   who is told of the beginning
 *   plugin_ending.c  the orderly end
 *   plugins.c        the table of instances
 *
 * The way of an input: it waits in `pending` as the message it came with; is copied into the ring `kept` when that has
 * room, and given to the host; what it brings about is noted in `brought` until its end is told, and then written into
 * the block that goes to its topic. It stays kept until a snapshot covers it, everything it emitted is acknowledged and
 * its publisher is answered.
 *
 * Everything here is the turn's alone. Only actors/plugin includes this. */
#ifndef ACTORS_PLUGIN_PLUGIN_STATE_H
#define ACTORS_PLUGIN_PLUGIN_STATE_H

#include "actors/base/assert.h"
#include "actors/base/log.h"
#include "actors/plugin/plugin.h"
#include "actors/plugin/plugin_instance.h"
#include "actors/plugin/plugin_kept.h"
#include "actors/plugin/plugin_outgoing.h"

#define PLUGIN_MAGIC UINT32_C(0x706c7567)
#define PLACE_NONE UINT32_MAX

enum plugin_internal_tag {
    PLUGIN_PUMP = 0x480, /* control, to itself, or the bell of a host */
    PLUGIN_NOTHING,      /* a message whose content was taken before the turn failed; never sent */
    PLUGIN_REVIVE,       /* control, to itself, as it is restarted: what it was told before that is heard */
};

/* Words of its timers: those of the instance count up from 1. */
#define PLUGIN_TIMER_RETRY UINT64_MAX
#define PLUGIN_TIMER_OUTGOING (UINT64_MAX - 1)
#define PLUGIN_TIMER_ENDING (UINT64_MAX - 2)
#define PLUGIN_TIMER_RELOAD (UINT64_MAX - 3)
#define PLUGIN_TIMER_FOLLOW (UINT64_MAX - 4)

/* A topic: of a fold's own, followed, or emitted to. */
struct place {
    weir_msg name; /* none: the place is free */
    const uint8_t *name_text;
    weir_actor topic;
    uint64_t epoch, seq;
    uint64_t gone_at; /* of `taken`, when its topic ended: until the mailbox is through, its mark may still come */
    int64_t credit_owed;
    uint64_t sent_last;             /* number of the last emission to it; 0: none yet */
    uint64_t owed_first, owed_last; /* its records that are to be answered, by position + 1; 0: none */
    uint32_t refs;                  /* kept inputs and emissions under way */
    uint32_t clears;                /* orders to clear it, under way */
    uint32_t feed, window;
    uint32_t name_next, feed_next;
    struct outgoing *outgoing; /* a processor's emissions to it; NULL: none lately */
    uint16_t name_size;
    bool is_own, is_gone; /* a fold's; its topic has ended */
    bool is_asked;        /* the directory was asked for its topic */
    bool has_begun;       /* followed: it had a BEGIN before */
    bool may_emit;
};

struct places {
    struct place *items;
    weir_msg block, buckets_block;
    uint32_t *name_buckets, *feed_buckets;
    uint32_t used, capacity; /* buckets: as many as the capacity */
    uint32_t free_first;     /* chained by name_next */
    uint32_t count, own_count;
};

/* An input that the host has and has not ended. */
struct inflight {
    uint64_t number, position; /* the host's; of kept */
    enum plugin_input_kind kind;
};

/* An emission or a timer of the input in hand. Its views are the host's, which keeps them until all of the input is
 * sent and the next output is taken. */
struct brought_item {
    struct view key, value;
    uint64_t timer, delay_ms, period_ms;
    uint32_t place, update_size; /* see plugin_output */
    uint8_t kind;                /* enum plugin_output_kind */
    bool has_key;
};

/* What the input in hand has brought about so far. */
struct brought {
    weir_msg block;
    struct brought_item *items;
    size_t count, capacity, at; /* at: sent up to here */
    uint32_t last_place;        /* of the last emission; most go where that went */
    uint32_t emits;
    uint64_t emit_bytes;
    bool has_reply;
    bool has_forbidden; /* one went where it must not, and was left out */
    bool is_committing; /* its input has ended well; what is left is to be sent */
};

/* A fold's, to one topic at a time. */
struct outbox {
    struct bundle bundle;
    uint32_t place;
    uint64_t number; /* of the first, by `sent` */
};

/* Whose emission that was. */
struct sent {
    uint64_t position;
    uint32_t place;
    bool is_over;
};

/* Acknowledgements to one publisher that can be told in one message. */
struct ack_run {
    weir_actor to;
    uint32_t count;
    uint64_t number, epoch, seq;
};

struct plugin_timer {
    uint64_t id, word, due_ms, period_ms; /* due by the wall clock */
    weir_timer handle;
    bool is_armed, is_due;
};

enum plugin_phase {
    PHASE_DOWN,      /* no host */
    PHASE_STARTING,  /* it has not said yet that it is there */
    PHASE_RESTORING, /* it gets its snapshot */
    PHASE_RUNNING,
};

enum reload_phase {
    RELOAD_NONE,
    RELOAD_STARTING,  /* the new instance starts */
    RELOAD_DRAINING,  /* the old one ends what it has */
    RELOAD_SNAPSHOT,  /* and tells its state */
    RELOAD_RESTORING, /* which the new one gets */
};

struct plugin {
    uint32_t magic;
    struct plugin_instance *instance;
    struct plugin_config *config; /* its own copy */
    struct arena *arena;
    struct budget *budget;
    const struct plugin_host_ops *ops;
    struct plugin_host *host;
    enum plugin_phase phase;
    bool has_snapshot;  /* the code can tell its state */
    bool has_state;     /* an instance before this one had handled something */
    bool is_stale_told; /* its topics know that it is down */
    bool is_pump_sent, has_retry, is_stalled, is_muted, is_subscribed;
    bool is_follow_void;                              /* a processor's subscriptions are to begin anew, */
    bool has_follow_timer;                            /* after a while: nothing else waits for that */
    bool is_ending;                                   /* it was told to: nothing more is handled, see plugin_ending.c */
    bool is_resting;                                  /* restarted, and begins no instance before PLUGIN_REVIVE */
    uint64_t now_ms;                                  /* wall clock of this turn */
    uint64_t buried[PLUGIN_BURIED_MAX], buried_count; /* a processor's: plugin_follow.c */

    struct message *pending; /* a ring of messages that wait for room in kept */
    weir_msg pending_block;
    uint32_t pending_capacity, pending_first, pending_count;
    size_t pending_at; /* of the first one: bytes of its run that were taken; a batch: see plugin_straight.c */
    uint64_t taken;    /* data messages so far */

    struct places places;
    struct kept_ring kept;
    uint32_t run_count; /* of them, see plugin_runs.c */
    struct inflight *inflight;
    weir_msg inflight_block;
    uint32_t inflight_first, inflight_count;
    bool is_alone;        /* the one in flight has failed before: nothing else is given beside it */
    uint64_t host_number; /* of the last input given */
    uint64_t replay_left; /* inputs to be handled again before it is live */

    struct brought brought;
    struct outbox *outbox;
    weir_msg outbox_block;
    struct sent *sent; /* a ring of PLUGIN_SENT_MAX */
    weir_msg sent_block;
    uint64_t sent_first, sent_next;
    struct ack_run ack;
    uint64_t rate_due_ns;
    uint32_t outgoing_first[OUTGOING_LISTS]; /* places */
    uint32_t outgoing_count;                 /* places that have some */
    size_t outgoing_bytes;
    uint64_t outgoing_backoff_ns;
    bool has_outgoing_timer;
    struct log_limit forbidden, held, no_topic, no_start;

    weir_msg snapshot, snapshot_new;
    size_t snapshot_size, snapshot_new_size;
    bool is_snapshot_asked;
    uint32_t snapshot_failures, restore_failures;

    struct plugin_timer *timers; /* PLUGIN_TIMERS_MAX */
    weir_msg timers_block;
    uint32_t timer_count;
    uint64_t timer_word;

    enum reload_phase reload;
    struct plugin_host *next_host;
    struct plugin_config *next_config;
    struct brought next_brought; /* the timers of the new instance's init */
    bool next_has_snapshot;
    char next_text[PLUGIN_TEXT_SIZE];
    weir_actor reload_from;
    uint64_t reload_word, reload_due_ns; /* due: it is given up unless the old one has ended what it has */

    weir_actor unload_from; /* is to be told of the end; none: nobody */
    uint64_t unload_word;
    uint64_t given_up; /* records emitted that were not decided at the end */

    uint64_t handled, emitted, refused, dead, restarts;
};

extern const struct behaviour plugin_behaviour;

/* plugin.c */
/* The instance has failed with that input in hand: counts its try, ends the host. Returns cause, for the turn. */
WEIR_MUST_USE enum weir_error plugin_failed(struct turn *turn, struct plugin *plugin, enum weir_error cause,
                                            const char *text);
/* Another turn for what is left. */
void plugin_pump_send(struct turn *turn, struct plugin *plugin);
/* Try again soon what no message will tell of. */
void plugin_retry_arm(struct turn *turn, struct plugin *plugin, uint64_t delay_ns);
/* Tells all of a fold's topics that it is down, or live. */
void plugin_state_tell(struct turn *turn, struct plugin *plugin, bool is_stale);
WEIR_MUST_USE enum weir_error plugin_host_begin(struct turn *turn, const struct plugin *plugin,
                                                const struct plugin_config *config, struct plugin_host **out, char *why,
                                                size_t why_size);
void plugin_status_publish(struct plugin *plugin);

/* plugin_places.c */
WEIR_MUST_USE enum weir_error places_init(struct plugin *plugin);
void places_fini(struct plugin *plugin);
struct place *place_at(struct plugin *plugin, uint32_t index);
struct view place_name(struct plugin *plugin, uint32_t index);
uint32_t place_find(const struct plugin *plugin, struct view name);
uint32_t place_find_feed(const struct plugin *plugin, uint32_t feed);
/* Found or made. WEIR_NO_MEMORY, WEIR_FULL. */
WEIR_MUST_USE enum weir_error place_ensure(struct plugin *plugin, struct view name, uint32_t *out);
void place_feed_set(struct plugin *plugin, uint32_t index, uint32_t feed);
/* Its topic has ended. */
void place_gone(struct plugin *plugin, uint32_t index);
static inline void place_hold(struct plugin *plugin, uint32_t index)
{
    if (index != PLACE_NONE)
        place_at(plugin, index)->refs++;
}
static inline void place_drop(struct plugin *plugin, uint32_t index)
{
    if (index != PLACE_NONE)
        place_at(plugin, index)->refs--;
}

/* plugin_intake.c */
static inline struct kept *kept_at(struct plugin *plugin, uint64_t position)
{
    return &plugin->kept.items[position & (plugin->kept.capacity - 1)];
}
/* Takes a data message over: its references are the plugin's from here on. WEIR_NO_MEMORY: they are not. */
WEIR_MUST_USE enum weir_error pending_push(struct plugin *plugin, struct message *message);
static inline struct message *pending_front(struct plugin *plugin) { return &plugin->pending[plugin->pending_first]; }
/* All of it is taken. */
void pending_pop(struct plugin *plugin);
/* Moves as much as there is room for from pending to kept, unless it is to be handled straight. */
void plugin_intake(struct turn *turn, struct plugin *plugin);
/* An input of its own making. False: no room now. */
bool kept_add_timer(struct plugin *plugin, uint64_t id);
bool kept_add_reset(struct plugin *plugin, uint32_t place, struct view nil);
/* Drops from the front what nobody needs any more. */
void kept_release(struct plugin *plugin);
/* Its outcome is known and told, so what it came from may send more. */
void kept_settle(struct turn *turn, struct plugin *plugin, struct kept *kept);
void plugin_intake_fini(struct turn *turn, struct plugin *plugin);
/* Tells the publisher of a batch that was not handled: the plugin ends. */
void forwarded_refuse(struct turn *turn, const struct message *message);
/* Somebody waits for what becomes of it. */
static inline bool is_answered(uint32_t tag)
{
    return tag == TOPIC_FORWARDED || tag == TOPIC_PLUGIN_CLEAR || tag == TOPIC_ASK;
}

/* plugin_follow.c */
WEIR_MUST_USE enum weir_error follow_begin(struct turn *turn, struct plugin *plugin);
/* A processor has lost its state: it is to get a snapshot of all that it follows, as at its start. */
void follow_again(struct turn *turn, struct plugin *plugin);
/* The directory's answer to a subscription, or its end. Where it does not stand all is asked for again after a while: a
 * processor must not go on without what it follows, and nobody else would see that it does. */
void follow_answered(struct turn *turn, struct plugin *plugin, uint32_t sub, enum weir_error error);
/* That while has passed. */
void follow_on_timer(struct turn *turn, struct plugin *plugin);
/* A message of a feed that is no run of pairs. False: no room for what it says. */
bool follow_message(struct turn *turn, struct plugin *plugin, struct message *message);
/* It failed of this for good; which is not to be given as an entry again. */
void follow_buried(struct plugin *plugin, const struct kept *kept);
bool follow_is_buried(struct plugin *plugin, uint32_t index, struct view key, struct view value);
void follow_credit(struct turn *turn, struct plugin *plugin, uint32_t index, uint32_t bytes);

/* plugin_pump.c */
/* Gives and takes as much as can be. An error: the instance has failed, and plugin_failed was called. */
WEIR_MUST_USE enum weir_error pump(struct turn *turn, struct plugin *plugin);
/* The oldest input given is over. */
void inflight_pop(struct plugin *plugin);
void inflight_add(struct plugin *plugin, enum plugin_input_kind kind, uint64_t position);
/* The host has ended. */
static inline void inflight_clear(struct plugin *plugin)
{
    plugin->inflight_count = 0;
    plugin->is_alone = false;
}
/* Goes on with the input in hand, whose end was told: sends what is left of it. */
void commit_continue(struct turn *turn, struct plugin *plugin);
/* Gives the host a snapshot or asks it for one. */
WEIR_MUST_USE enum weir_error give_state(struct plugin *plugin, enum plugin_input_kind kind, struct view bytes);
/* A line of the plugin's in the broker's log. */
void plugin_log(const struct plugin *plugin, const struct plugin_output *output);

/* plugin_brought.c */
/* Notes an emission or a timer of the input in hand, whose views are whole then. An error fails the instance, why says
 * how. */
WEIR_MUST_USE enum weir_error brought_add(struct plugin *plugin, struct brought *brought, struct plugin_output *output,
                                          char *why, size_t why_size);
void brought_clear(struct plugin *plugin, struct brought *brought);
void brought_fini(struct plugin *plugin, struct brought *brought);
/* Of a start, a restore: nothing but timers. */
void brought_timers_apply(struct turn *turn, struct plugin *plugin, struct brought *brought, bool is_replay);

/* plugin_emit.c */
/* Sends what is left of it, and applies timers. WEIR_BUSY: it must wait for a topic. */
WEIR_MUST_USE enum weir_error brought_commit(struct turn *turn, struct plugin *plugin, struct kept *kept);
/* Sends what was gathered. False: there was no room, and the plugin is stalled. */
bool outbox_flush(struct turn *turn, struct plugin *plugin);
/* What was gathered and cannot be sent is not to come later: whoever waits for it is told so. */
void outbox_give_up(struct turn *turn, struct plugin *plugin);
void emit_on_ack(struct turn *turn, struct plugin *plugin, const struct message *message);
/* Orders a topic to clear. WEIR_FULL, WEIR_STALE. */
WEIR_MUST_USE enum weir_error place_clear(struct turn *turn, struct plugin *plugin, uint32_t index, weir_actor from,
                                          uint64_t word, enum topic_cause cause);
void emit_on_cleared(struct turn *turn, struct plugin *plugin, const struct message *message);
/* A topic has ended: nobody will acknowledge what was sent to it. */
void emit_place_gone(struct turn *turn, struct plugin *plugin, uint32_t place);
void emit_on_topic(struct turn *turn, struct plugin *plugin, const struct message *message);
/* A fold has forgotten a topic, as an operator ordered: that topic is to clear. False: it must wait. */
bool emit_clear(struct turn *turn, struct plugin *plugin, struct kept *kept);
/* Whether that emission is folded, or will never be; any number that was given so far. */
static inline bool sent_is_over(const struct plugin *plugin, uint64_t number)
{
    return number < plugin->sent_first || plugin->sent[number & (PLUGIN_SENT_MAX - 1)].is_over;
}

/* plugin_answer.c */
/* A record that was just taken in has a publisher who is to be told what becomes of it. */
void answer_owe(struct plugin *plugin, struct kept *kept, uint64_t position);
/* Something that an answer may have waited for has come to pass: of an input, or of its topic. */
void kept_answer(struct turn *turn, struct plugin *plugin, struct kept *kept);
void place_answer(struct turn *turn, struct plugin *plugin, uint32_t index);
/* An input is not folded, for that reason. text: why; empty: the error says it all. */
void kept_refuse(struct turn *turn, struct plugin *plugin, struct kept *kept, enum weir_error error, struct view text);
/* A request that was not handled. */
void ask_refuse(struct turn *turn, const struct message *message, enum weir_error error);
/* The reply to the one in hand: told when all that it brought about is folded. */
void ask_reply(struct plugin *plugin, struct kept *kept, struct view value);
/* The plugin ends: everybody is told, of what is not known that it is closed. */
void answers_end(struct turn *turn, struct plugin *plugin);
/* Sends what was gathered. */
void ack_flush(struct turn *turn, struct plugin *plugin);

/* plugin_replay.c */
/* An instance has ended with that input in hand: counts its try, and gives up what has failed too often. */
void input_failed(struct turn *turn, struct plugin *plugin, enum weir_error cause, const char *text);
/* The host is there: gives it its snapshot, and decides what is to be handled again. Where that could not be given
 * (PHASE_RESTORING, nothing in flight), it is to be called again. */
void replay_begin(struct turn *turn, struct plugin *plugin);
/* Its state is lost: topics are told, and what was handled is forgotten. */
void replay_state_lost(struct turn *turn, struct plugin *plugin);
/* The snapshot was restored, or there is none. */
void replay_start(struct turn *turn, struct plugin *plugin);
/* All was handled again. */
void replay_check(struct turn *turn, struct plugin *plugin);
bool snapshot_is_due(const struct plugin *plugin);
WEIR_MUST_USE enum weir_error snapshot_keep(struct plugin *plugin, struct view value);
void snapshot_done(struct plugin *plugin, uint64_t cover);
/* One that was not told to its end. */
void snapshot_drop(struct plugin *plugin);
/* One input failed for good: to $dead/TOPIC. */
void kept_bury(struct turn *turn, struct plugin *plugin, struct kept *kept, enum weir_error cause);

/* plugin_timers.c */
void plugin_timers_apply(struct turn *turn, struct plugin *plugin, const struct brought_item *order, uint64_t base_ms,
                         bool is_replay);
void plugin_timers_arm_all(struct turn *turn, struct plugin *plugin);
void plugin_timers_forget(struct turn *turn, struct plugin *plugin);
void plugin_timers_fired(struct turn *turn, struct plugin *plugin, uint64_t word);
/* Makes inputs of those that are due, as far as there is room. */
void plugin_timers_take(struct turn *turn, struct plugin *plugin);
/* Of a replay: that timer, as what was handled again has set it, has fired: its input is there. */
void plugin_timers_replay(struct plugin *plugin, uint64_t id, uint64_t time_ms);
WEIR_MUST_USE enum weir_error plugin_timers_init(struct plugin *plugin);

/* plugin_reload.c */
void reload_order(struct turn *turn, struct plugin *plugin, const struct message *message);
/* One step, if one can be made. An error: the instance has failed. */
WEIR_MUST_USE enum weir_error reload_step(struct turn *turn, struct plugin *plugin);
void reload_abort(struct turn *turn, struct plugin *plugin, enum weir_error error, const char *why);
/* The old one may have had its time. */
void reload_on_timer(struct turn *turn, struct plugin *plugin);
/* Whether inputs must not be given now. */
static inline bool reload_holds(const struct plugin *plugin) { return plugin->reload >= RELOAD_DRAINING; }

/* plugin_begin.c */
/* Answers an order; why: a text, which the reply then has as hold[0], or "". */
void order_answer(struct turn *turn, struct plugin *plugin, weir_actor to, struct message *reply, const char *why);
/* Its actor was started, and others find it, or that failed. */
void instance_begin(struct plugin_instance *instance);
/* It is live, or has failed: whoever ordered it to be loaded is told, once. */
void instance_started(struct turn *turn, struct plugin *plugin, enum weir_error error, const char *why);
/* This actor is the instance's no more. error: for whoever still waits for its start. */
void instance_forget(struct turn *turn, struct plugin *plugin, enum weir_error error);

/* plugin_ending.c */
/* It is to end: handles nothing more, and waits until topics have decided what it emitted. */
void ending_begin(struct turn *turn, struct plugin *plugin);
/* The place of a pump while it ends; leaves when nothing is left to wait for. */
void ending_step(struct turn *turn, struct plugin *plugin);
/* It ends now: counts and says what it emitted in vain. */
void ending_count(struct plugin *plugin);
/* Whoever ordered the end is told, if anybody. */
void ending_tell(struct turn *turn, struct plugin *plugin, weir_actor to, uint64_t word);

#endif
