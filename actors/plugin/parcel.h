/* Inputs and outputs of a plugin instance as frames of a ring. What is too large for one frame goes in several, in
 * order, all but the last of one size, with nothing in between. Who reads from a process that it does not trust copies
 * (parcel_pull with a limit), then decodes, then checks (output_check.h). One thread a side. */
#ifndef ACTORS_PLUGIN_PARCEL_H
#define ACTORS_PLUGIN_PARCEL_H

#include "actors/plugin/channel.h"
#include "actors/plugin/runner.h"

/* Head, topic, key and value. */
#define PARCEL_PARTS_MAX 5

/* One message on its way out. The parts are borrowed until it is through. */
struct parcel {
    struct view parts[PARCEL_PARTS_MAX];
    uint64_t total, done;
    union {
        struct parcel_input {
            uint32_t kind, message_kind, attempt;
            uint32_t topic_size, key_size, value_size; /* key_size PARCEL_NO_KEY: none */
            uint64_t number, epoch, seq, message_number, time_ms;
        } input;
        struct parcel_output {
            uint8_t kind, level, flags, topic_size; /* level: or the result */
            uint16_t key_size, text_size;
            uint32_t value_size, update_size;
            uint64_t number;
        } output;
    } head;
    uint64_t words[3]; /* of a timer */
    uint8_t *placed;   /* where its head stands in the ring, if it went in one frame; NULL: it did not */
};
#define PARCEL_NO_KEY UINT32_MAX
/* SAME_: that of the message, which is not in the parcel. LAST: of an emission, and with that its input is handled. */
enum parcel_flags {
    PARCEL_HAS_KEY = 1,
    PARCEL_HAS_SNAPSHOT = 2,
    PARCEL_SAME_TOPIC = 4,
    PARCEL_SAME_KEY = 8,
    PARCEL_SAME_VALUE = 16,
    PARCEL_LAST = 32,
    PARCEL_FLAGS = 2 * PARCEL_LAST - 1,
};

/* Both fill a parcel in place (it must not be moved then). Sizes beyond what a field holds: false. */
bool parcel_of_input(struct parcel *out, const struct plugin_input *input);
bool parcel_of_output(struct parcel *out, const struct plugin_output *output);

/* Bytes of the ring that it takes as a whole. */
uint64_t parcel_channel_bytes(const struct channel *ring, uint64_t total);
/* Writes as much of it as there is room for (committed, not published); true when it is through. */
bool parcel_push(struct channel *ring, struct parcel *parcel);
/* Of an emission that was pushed last and not published yet: its input is handled with that, and needs no DONE. False:
 * it does, since it did not go in one frame. */
bool parcel_make_last(const struct parcel *parcel);

/* What comes in. Zeroed before the first use, but for size_max and keeps; parcel_inbox_fini frees. */
struct parcel_chunk;
struct parcel_inbox {
    struct parcel_chunk *chunks; /* the one in use, then those that are full */
    uint8_t *data;               /* the message on its way: where it begins, */
    size_t size, room;           /* bytes of it so far, and how many it may have there */
    size_t size_max;             /* larger messages make the ring bad */
    bool is_partial;             /* data holds the beginning of a message */
    bool is_borrowed;            /* the last message is still in the ring, as `frame` */
    bool keeps; /* messages stay where they are until parcel_inbox_clear, not only until the next one */
    struct channel_frame frame;
};
void parcel_inbox_fini(struct parcel_inbox *inbox);
/* The messages so far are not needed any more; one that is on its way stays. */
void parcel_inbox_clear(struct parcel_inbox *inbox);

/* The next message whole, until the next call (or as `keeps` says): copied, so that nobody can change it any more; with
 * may_borrow one that came in one frame is left where it is, and its room with it, until parcel_release or the next
 * call. False: none yet, the ring is bad, or there is no memory (ring->fault is set). */
bool parcel_pull(struct channel *ring, struct parcel_inbox *inbox, bool may_borrow, struct view *out);
void parcel_release(struct channel *ring, struct parcel_inbox *inbox);

/* Take a message apart: sizes must add up, an output has only flags that there are, and no bytes of a key without one;
 * nothing more is checked. Views point into data. */
bool parcel_to_input(struct view data, struct plugin_input *out);
bool parcel_to_output(struct view data, struct plugin_output *out);

#endif
