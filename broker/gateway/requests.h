/* Requests of one connection, from REQ peers and inside sessions alike: [verb, {args}] in, one reply each out, in any
 * order. requests.c keeps the outstanding ones and their deadlines, verbs.c, get.c and ask.c carry them out. In the
 * connection's turns. */
#ifndef BROKER_GATEWAY_REQUESTS_H
#define BROKER_GATEWAY_REQUESTS_H

#include "actors/topic/topic.h"
#include "clients/wire/request.h"

struct connection;
struct handed;

/* nng forwards a request through at most 15 devices; each adds 4 bytes, and the requester's own id 4 more. */
#define REQUEST_HOPS_SIZE_MAX 64
/* Room before a reply's map for whatever its protocol puts there: SP prefix, hops or frame head. */
#define REPLY_HEAD_MAX 160
/* Records with their topic that did not answer for so long will not: it was deleted. */
#define REQUEST_ANSWER_MS 30000
/* Subscriptions that stand for a `get` have this bit, so that they never meet a session's own. */
#define REQUEST_SUB_BIT (UINT32_C(1) << 31)
/* Publishers' numbers of records that belong to requests have this bit; sessions' own must not. A topic counts up from
 * the number of a batch, so the token stands above room for a whole batch. */
#define REQUEST_NUMBER_BIT (UINT64_C(1) << 60)
#define REQUEST_NUMBER_SHIFT 16
_Static_assert(TOPIC_BATCH_MAX < 1 << REQUEST_NUMBER_SHIFT, "a batch's numbers must not reach the next token");

enum request_kind { REQUEST_PUBLISH, REQUEST_GET, REQUEST_ASK };

/* One outstanding request. */
struct request_slot {
    uint32_t token; /* 0: free; 31 bits; never the same for two requests that are close in time */
    enum request_kind kind;
    uint64_t id;                         /* a session's */
    uint8_t hops[REQUEST_HOPS_SIZE_MAX]; /* a REQ peer's */
    uint8_t hops_size;
    uint64_t deadline_ns;
    enum weir_error error; /* the first, when something was refused */
    weir_msg error_topic;  /* its name */
    uint64_t error_word;   /* what its TOPIC_NACK says besides */
    weir_msg error_text;   /* and in words; none: nothing */
    /* publish */
    enum ack_level ack;
    bool is_single, is_building;                        /* building: its records are still being read */
    uint32_t count, waiting, handed, answered, refused; /* records; answered: acked or refused by the topic */
    uint64_t epoch, seq;
    /* get */
    bool has_key, is_begun;
    bool is_page, has_limit;     /* only some entries of a map */
    uint32_t last_at, last_size; /* where the page's last key is in result */
    uint32_t feed, pairs;
    enum topic_kind topic_kind;
    uint64_t state_at; /* where the state's header is in result */
    weir_msg result;   /* the reply, being built behind REPLY_HEAD_MAX bytes */
    uint32_t result_size;
};

struct requests {
    weir_msg block;
    struct request_slot *slots;
    uint32_t slot_count, used;
    uint32_t tokens;
    uint32_t building;    /* the token of a publish whose records are being read; it paused the connection */
    size_t building_done; /* bytes of its records that are done with */
    bool is_timer_armed;
};

/* Carries one request out. id or hops name it in the reply. WEIR_OK: taken or answered. WEIR_AGAIN: the connection was
 * paused in the middle; call again with the same. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error requests_take(struct connection *connection, const struct request *request, uint64_t id,
                                            struct view hops);

/* Answers a request that has no slot: one that did not parse, say. */
void requests_refuse(struct connection *connection, uint64_t id, struct view hops, enum weir_error error,
                     const char *text);

/* From the connection's ops and actor: messages that are about requests; true when it was one. */
bool requests_on_message(struct connection *connection, struct message *message);
void requests_on_handed(struct connection *connection, const struct handed *handed, enum weir_error error);
void requests_on_timer(struct connection *connection);
void requests_on_turn_end(struct connection *connection);
/* Replies left the queue: there may be room for more requests. */
void requests_on_replied(struct connection *connection);
/* How a topic's refusal is put to people and programs. */
struct nack_text {
    enum weir_error error;    /* what it is called outside */
    const char *text, *cause; /* cause: empty: none */
    uint64_t seq;             /* of the record that is there */
};
/* Why the directory refuses or ends a subscription, to a person. */
const char *follow_refusal_text(enum weir_error error);
struct nack_text nack_text_of(enum weir_error error, uint64_t nack_word);
/* What a plugin said in its TOPIC_NACK, or the usual text where it said nothing. */
#define NACK_TEXT_SIZE 256
void nack_sentence(struct arena *arena, weir_msg said, const char *usual, char out[static NACK_TEXT_SIZE]);

void requests_fini(struct connection *connection);

/* -------------------------------------------------------------------- between requests.c and the verbs */

/* A free slot for a request; NULL without memory. Valid until the next call. */
struct request_slot *request_open(struct connection *connection, enum request_kind kind, uint64_t id, struct view hops);
struct request_slot *request_find(struct connection *connection, uint32_t token);
void request_close(struct connection *connection, struct request_slot *slot);
void request_error_set(struct connection *connection, struct request_slot *slot, enum weir_error error,
                       struct view topic);

/* Sends ["ok", map] where the map is bytes REPLY_HEAD_MAX .. size of block; takes the block. */
void reply_ok(struct connection *connection, const struct request_slot *slot, weir_msg block, size_t size);
void reply_error(struct connection *connection, const struct request_slot *slot, const struct reply_refusal *refusal);
void reply_error_text(struct connection *connection, const struct request_slot *slot, enum weir_error error,
                      const char *text);

WEIR_MUST_USE enum weir_error verb_publish(struct connection *connection, const struct request *request, uint64_t id,
                                           struct view hops);
/* All of a publish that can be known is: answers it. */
void verb_publish_check(struct connection *connection, struct request_slot *slot);
WEIR_MUST_USE enum weir_error verb_get(struct connection *connection, const struct request *request, uint64_t id,
                                       struct view hops);
void verb_get_message(struct connection *connection, struct request_slot *slot, struct message *message);
void verb_get_end(struct connection *connection, struct request_slot *slot);
/* ask.c */
WEIR_MUST_USE enum weir_error verb_ask(struct connection *connection, const struct request *request, uint64_t id,
                                       struct view hops);
/* TOPIC_ANSWER. */
void verb_ask_answer(struct connection *connection, const struct message *message);
void verb_ask_expire(struct connection *connection, struct request_slot *slot);
/* Writes the count into an array32 or map32 header. */
void container_count_write(uint8_t *header, uint32_t count);
WEIR_MUST_USE enum weir_error verb_list(struct connection *connection, const struct request *request, uint64_t id,
                                        struct view hops);

#endif
