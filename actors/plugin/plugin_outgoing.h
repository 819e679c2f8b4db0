/* Emissions on their way to topics: gathered into bundles (plugin_bundle.c), and those of a processor kept until their
 * topics have folded them (plugin_outgoing.c). In the plugin's turns; only actors/plugin includes this. */
#ifndef ACTORS_PLUGIN_PLUGIN_OUTGOING_H
#define ACTORS_PLUGIN_PLUGIN_OUTGOING_H

#include "actors/topic/topic.h"

struct brought_item;
struct place;
struct plugin;

/* Records for one topic, gathered in the block that is sent; or those of one block that is there already. */
struct bundle {
    weir_msg lent; /* all of them lie there; none: in `block` */
    weir_msg block, slice_block;
    uint8_t *data;
    size_t size, capacity;
    size_t wanted; /* what the last ones came to */
    struct record_slice *slices;
    uint32_t count, slice_capacity;
    bool has_merged; /* a record of it has a merged form */
};

enum outgoing_wait {
    OUTGOING_READY,   /* to be sent at the end of the turn */
    OUTGOING_ROOM,    /* its topic's mailbox is full */
    OUTGOING_BACKOFF, /* it was refused for want of memory, or there was none to send it */
    OUTGOING_LISTS,
    OUTGOING_IDLE = OUTGOING_LISTS, /* in none: somebody has yet to answer, or there is nothing */
};

/* A processor's emissions to one topic; see plugin_outgoing.c. */
struct outgoing {
    weir_msg block; /* itself */
    struct bundle bundle;
    struct message sent; /* TOPIC_PUBLISH of what is under way, kept until all of it is decided; detail 0: nothing is */
    size_t sent_size;
    uint32_t undecided; /* records of it that the topic has not answered for */
    uint32_t held;      /* of those that it has, the last ones: to be sent again */
    uint64_t number;    /* of the next record */
    uint32_t next;      /* place, in the list that it is in */
    uint8_t wait;       /* enum outgoing_wait */
};

/* plugin_bundle.c */
bool bundle_has_room(const struct bundle *bundle, const struct brought_item *item);
WEIR_MUST_USE enum weir_error bundle_add(struct plugin *plugin, struct bundle *bundle, const struct brought_item *item);
/* Adds a record that lies in a block of somebody else's, as the others do. False: they do not, or there is no room. */
bool bundle_lend(struct plugin *plugin, struct bundle *bundle, weir_msg block, const struct record_slice *slice);
/* Takes the last record back: its bytes stay where they are until the next one is added. */
struct record_slice bundle_take_back(struct plugin *plugin, struct bundle *bundle, const uint8_t **data);
/* Fills hold, detail and the first words with references of the message's own. WEIR_NO_MEMORY: there are none. */
WEIR_MUST_USE enum weir_error bundle_message(struct plugin *plugin, const struct bundle *bundle,
                                             struct message *message);
/* It was sent, or will never be: it is empty again. */
void bundle_forget(struct plugin *plugin, struct bundle *bundle);
void bundle_fini(struct plugin *plugin, struct bundle *bundle);

/* plugin_outgoing.c */
/* WEIR_BUSY: there is no room for more now, and the plugin is stalled. */
WEIR_MUST_USE enum weir_error outgoing_add(struct turn *turn, struct plugin *plugin, const struct brought_item *item);
/* Sends what can be. */
void outgoing_flush(struct turn *turn, struct plugin *plugin);
/* What a topic has decided. */
void outgoing_on_ack(struct turn *turn, struct plugin *plugin, const struct message *message);
/* The directory has answered for the topic of a place. */
void outgoing_on_topic(struct turn *turn, struct plugin *plugin, uint32_t index, enum weir_error error);
void outgoing_on_room(struct plugin *plugin);
void outgoing_on_timer(struct plugin *plugin);
/* Records that topics have not decided. */
uint64_t outgoing_undecided(const struct plugin *plugin);
void outgoing_fini(struct plugin *plugin, struct place *place);

#endif
