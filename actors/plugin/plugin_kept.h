/* Inputs that are kept until nothing can ask for them any more: what a restart handles again, and what is still to be
 * answered. In the plugin's turns; only actors/plugin includes this. */
#ifndef ACTORS_PLUGIN_PLUGIN_KEPT_H
#define ACTORS_PLUGIN_PLUGIN_KEPT_H

#include "actors/topic/topic.h"

struct plugin;

enum kept_state {
    KEPT_WAITING, /* to be handled */
    KEPT_DONE,
    KEPT_REFUSED,
    KEPT_DEAD, /* it failed for good */
    KEPT_RUN,  /* the first of several records that were handled in one go; see plugin_runs.c */
};

/* An input: what it says, who waits for its outcome, how far it is. */
struct kept {
    weir_msg page;
    const uint8_t *data; /* in it: the key's text, then the value */
    uint32_t value_size; /* of a run: all bytes of it */
    uint32_t place;      /* PLACE_NONE: of no topic */
    uint32_t pending;    /* emissions not acknowledged */
    uint32_t credit;     /* bytes to give back to the feed */
    uint32_t owed_step;  /* to the next one of its place that is to be answered; 0: it is the last */
    uint16_t key_size;
    uint8_t kind, state, level; /* enum weir_message_kind, kept_state, ack_level */
    uint8_t attempts;           /* that failed, until it was handled */
    uint8_t replays;            /* that failed, since it was last handled again */
    bool has_key, is_replayed;
    bool is_cleared : 1; /* a reset of a fold's topic: that was told to clear */
    bool is_record : 1;  /* its bytes lie in a batch's block, where a key has its head before it */
    bool is_owed;        /* an answer, in its turn */
    uint8_t error;       /* enum weir_error: what its publisher is told; of an emission that its topic refused, too */
    uint64_t epoch, seq, time_ms;
    union {
        uint64_t timer;       /* its id */
        uint64_t deadline_ns; /* of a request: until when it is waited for */
        struct {
            uint32_t count, slice; /* of a run: records, and the index of the first one's slice */
        } run;
    } as;
    weir_actor publisher;        /* or who asks */
    uint64_t number;             /* the publisher's; of a followed topic: the feed's */
    uint64_t ack_epoch, ack_seq; /* of its last emission; 0: none was folded */
    uint64_t sent_before;        /* to its place, when it was handled: sent_last */
    weir_msg why;                /* with error: a sentence; of a request: the reply; of a run: the slices */
};
_Static_assert(sizeof(struct kept) == 128, "two cache lines; each record on its way has one");

static inline struct view kept_key(const struct kept *kept) { return view_of(kept->data, kept->key_size); }
static inline struct view kept_value(const struct kept *kept)
{
    return view_of(kept->data + kept->key_size, kept->value_size);
}

/* Positions rise for ever; an item is at its position modulo the capacity. Pages are filled in turn, so that the items
 * in one are neighbours: a page has one reference, as long as it is the one being filled or an item lies in it. */
struct kept_ring {
    struct kept *items;
    weir_msg block;
    uint32_t capacity;
    uint64_t first, next, end; /* oldest; next to give; behind the newest */
    uint64_t cover;            /* the snapshot has all before this */
    uint64_t base;             /* without a snapshot: state is what all from here on brought about */
    size_t bytes;
    weir_msg page; /* being filled */
    uint8_t *page_data;
    size_t page_used, page_size;
    size_t page_wanted; /* of the next one: where many end before they are full they are small */
};

/* Of a key's head, which is in the shortest form, for a text of so many bytes. */
static inline uint32_t key_head_size(size_t text_size) { return text_size < 32 ? 1 : text_size < 256 ? 2 : 3; }

/* A key's text behind its head. */
static inline struct view key_text(struct view encoded)
{
    size_t head = encoded.size == 0 ? 0 : encoded.size < 1 + 32 ? 1 : encoded.size < 2 + 256 ? 2 : 3;
    return view_of(encoded.data + head, encoded.size - head);
}

/* plugin_intake.c */
/* Room in the ring for so many more, at most `wanted`; without any bytes. */
uint32_t kept_room(struct plugin *plugin, uint32_t wanted);
/* What comes next lies in a page of its own: whatever is not of one page stands between. */
void kept_page_end(struct plugin *plugin);

/* plugin_runs.c */
/* Adds the next `count` records of a batch that are handled already, each of which brought about one emission, the last
 * `count` ones. bytes: of their texts and values. There is room for them. */
void run_add(struct plugin *plugin, const struct message *batch, uint32_t count, uint32_t bytes);
/* Adds the next record of a batch as an input as any other, its bytes where the batch has them. There is room for it.
 */
struct kept *record_add(struct plugin *plugin, const struct message *batch);
/* Makes a kept input of its own of each of its records. */
void run_part(struct plugin *plugin, uint64_t position);
/* ... of all runs: their records are to be looked at one by one. */
void runs_part(struct plugin *plugin);
/* A topic has folded emissions from that number on. Returns how many of these were answered for at once; 0: they are to
 * be looked at one by one. */
uint32_t run_ack(struct turn *turn, struct plugin *plugin, uint64_t number, const struct message *ack);

/* plugin_straight.c */
/* Whether its records may be kept where they lie, by record_add; it has slices then. */
bool batch_stays(struct plugin *plugin, struct message *batch);
/* So many records of it, whose numbers are neighbours, are taken. */
void batch_step(struct plugin *plugin, struct message *batch, uint32_t count);
/* Whether that message waits to be handled straight. */
bool straight_takes(struct plugin *plugin, const struct message *message);
/* Handles some of what waits, and counts it. WEIR_AGAIN: nothing can be now. */
WEIR_MUST_USE enum weir_error straight_handle(struct turn *turn, struct plugin *plugin, uint32_t *budget);

#endif
