/* libweir: publish to a Weir broker, follow topics from their present state, ask it.
 *
 * Threads: every function here may be called from any thread at any time, for one client from several at once, except
 * weir_close, which must be the last. Callbacks run one at a time on the client's own thread; inside one, the functions
 * marked "callback: yes" may be called, the others would wait for the thread they run on and return WEIR_FORBIDDEN.
 *
 * Errors: 0 is WEIR_OK; see weir_error.h. Timeouts are in milliseconds; WEIR_FOREVER waits without end, 0 never waits.
 *
 * Includes only libc; the wire format behind it is described in PROTOCOL.md. */
#ifndef WEIR_H
#define WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir_error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_API __attribute__((visibility("default")))
#define WEIR_FOREVER UINT64_MAX
#define WEIR_DEFAULT_URL "tcp://127.0.0.1:7450"

struct weir; /* a client: one session with one broker, kept up by reconnecting */
struct weir_subscription;

/* Borrowed bytes; valid only as said where they are handed out. */
struct weir_view {
    const void *data;
    size_t size;
};

/* ------------------------------------------------------------------------------------------ a client */

enum weir_link { WEIR_LINK_DOWN, WEIR_LINK_UP };

struct weir_options {
    const char *url;             /* NULL: WEIR_URL from the environment, else WEIR_DEFAULT_URL */
    const char *name;            /* shown to the operator; NULL: the program's name and pid */
    uint64_t connect_timeout_ms; /* weir_open waits this long for the first connection; 0: 5,000 */
    uint64_t backoff_min_ms;     /* reconnect waits a random time up to this, doubling; 0: 50 */
    uint64_t backoff_max_ms;     /* at most; a session that stood so long ends the doubling; 0: 5,000 */
    bool reconnect_never;        /* true: the first loss ends the client; calls return WEIR_CLOSED */
    size_t window_bytes;         /* received and not yet consumed, at most about this; 0: 1 MiB */
    size_t publish_buffer_bytes; /* accepted from the caller and not yet sent; 0: 1 MiB */
    /* NULL, or the name (1 to 64 bytes of UTF-8) under which this program numbers its records, over all its
     * connections: then no loss leaves a record unknown, since what was not answered is sent again on the next
     * connection and folded once. It is kept until it is answered, in publish_buffer_bytes. One client at a time has
     * the name: a second one ends this one with WEIR_CONFLICT. Not for ack none, and not across an end of the broker,
     * whose topics then begin anew. */
    const char *publisher;
    uint64_t first_number; /* with publisher: of the first record, above all it has used before; 0: by the clock */
    uint64_t heartbeat_ms; /* silence after which the broker is asked; thrice: it is lost; 0: 5,000 */

    /* Optional, on the client's thread: the session is up or down; cause says why. */
    void (*on_link)(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason, void *context);
    /* Optional, on the client's thread: what became of records published with an ack level, or refused.
     * WEIR_OK: folded as seq, seq+1, ... in epoch; or accepted: then 0, 0, and a refusal may follow. WEIR_CLOSED: the
     * connection was lost before an answer, so that they may or may not have been folded; for ack none only those that
     * were on their way to the kernel. WEIR_CONFLICT: refused, by its condition or number; seq is of the record that is
     * there, 0 if there is none. Anything else: refused. numbers are those of weir_publish. */
    void (*on_outcome)(struct weir *client, uint64_t number, uint32_t count, enum weir_error outcome, uint64_t epoch,
                       uint64_t seq, const char *reason, void *context);
    void *context;
};

/* Connects and says hello, trying again until connect_timeout_ms is over; options may be NULL. WEIR_CONNECT or
 * WEIR_TIMEOUT when the broker cannot be reached in time; at once WEIR_PROTOCOL when what answers is no Weir,
 * WEIR_FORBIDDEN when it wants no session, WEIR_BAD_REQUEST for an odd URL or a name that is no UTF-8 or longer than
 * 255 bytes. *reason (may be NULL) is then a sentence that lives until this thread's next weir_open. Blocks. */
WEIR_API WEIR_MUST_USE enum weir_error weir_open(const struct weir_options *options, struct weir **out,
                                                 const char **reason);

/* Waits up to timeout_ms until what is buffered is sent and outstanding acks have come, ends the session and frees
 * everything, subscriptions included; what is still open is told to on_outcome as WEIR_CLOSED. WEIR_TIMEOUT: not all
 * was sent, or answered for; with timeout 0 what is published just before is often not sent. Nulls *client. While the
 * client is dialing it takes until that ends, at most connect_timeout_ms more. Not from a callback (WEIR_FORBIDDEN). */
WEIR_API enum weir_error weir_close(struct weir **client, uint64_t timeout_ms);

/* Why this thread's last call of weir_publish, weir_publish_wait, weir_flush, weir_subscribe, weir_request, weir_get,
 * weir_get_page or weir_list did not return WEIR_OK, in a sentence that says what was wrong with what ("the key has
 * 2000 bytes, more than 1024"; what the broker said, where it refused); valid until its next call. Never NULL.
 * Callback: yes */
WEIR_API const char *weir_reason(void);

/* ------------------------------------------------------------------------------------------ publishing */

enum weir_ack { WEIR_ACK_NONE, WEIR_ACK_ACCEPTED, WEIR_ACK_FOLDED, WEIR_ACK_DURABLE };
enum weir_form {
    WEIR_MSGPACK, /* value is one msgpack value, at most 16 arrays and maps deep */
    WEIR_TEXT,    /* value is UTF-8 text, sent as a msgpack str */
    WEIR_BYTES    /* value is anything, sent as a msgpack bin */
};

struct weir_record {
    const char *topic; /* NUL-terminated */
    const char *key;   /* NULL: none */
    const void *value;
    size_t value_size;
    enum weir_form form;
    enum weir_ack ack;
    /* Options, all of them 0 for none; WEIR_FORBIDDEN where the broker is too old for them. */
    bool is_conditional; /* only if the newest record has if_seq: its key's in a map, the topic's otherwise; */
    uint64_t if_seq;     /* 0: only if there is none. Else WEIR_CONFLICT */
    uint64_t ttl_ms;     /* kinds last and map: the topic publishes the key's removal when this time is over */
    bool bind;           /* kinds last and map: the same a while after this client's connection has ended. A client that
                            comes back publishes its bound keys again, at best in on_link */
};

/* Hands one record over: copied, sent at once when the line is idle, gathered with others while it is busy. Waits up to
 * timeout_ms for room (the buffer, and the broker's credit), then WEIR_BUSY with nothing taken. *number (may be NULL)
 * is what on_outcome and weir_wait name it by. WEIR_BAD_TOPIC, WEIR_BAD_REQUEST (no msgpack), WEIR_TOO_BIG. Callback:
 * with timeout 0. */
WEIR_API WEIR_MUST_USE enum weir_error weir_publish(struct weir *client, const struct weir_record *record,
                                                    uint64_t timeout_ms, uint64_t *number);

struct weir_seq {
    uint64_t epoch, seq;
};
/* weir_publish, then waits for the outcome of that record. WEIR_TIMEOUT: not known yet. WEIR_CONFLICT: out->seq is of
 * the record that is there. Not from a callback. */
WEIR_API WEIR_MUST_USE enum weir_error weir_publish_wait(struct weir *client, const struct weir_record *record,
                                                         uint64_t timeout_ms, struct weir_seq *out);

/* Waits until everything published so far is with the kernel and every ack asked for has come. Not from a callback. */
WEIR_API WEIR_MUST_USE enum weir_error weir_flush(struct weir *client, uint64_t timeout_ms);

struct weir_counts {
    uint64_t published, acked, refused, unknown; /* records; unknown: on_outcome WEIR_CLOSED. For ack none only refused;
                                                    for accepted acked, and refused where that came later. */
    uint64_t reconnects;
    uint64_t bytes_sent, bytes_received;
};
/* Of acks that follow one another, while nobody waits for them, acked may be 10 ms behind, refused 5. Callback: yes */
WEIR_API void weir_counts(struct weir *client, struct weir_counts *out);

/* ----------------------------------------------------------------------------------------- subscribing */

enum weir_event_kind {
    WEIR_EVENT_SUBSCRIBED, /* the subscription stands: count topics match at present. Again after each reconnect */
    WEIR_EVENT_BEGIN,      /* a topic's snapshot begins, or with resumed its updates go on behind the cursor */
    WEIR_EVENT_ENTRY,  /* one element of the state; of a merge topic a map of one: a member of it, see PROTOCOL.md */
    WEIR_EVENT_END,    /* the snapshot is complete at epoch, seq */
    WEIR_EVENT_UPDATE, /* one record, seq one above the last; above it, where only some keys are followed */
    WEIR_EVENT_GAP,
    WEIR_EVENT_CONFLATED, /* seq..seq_to were left out, cause; conflated: newer ones of their keys follow */
    WEIR_EVENT_RESET,     /* the topic's history is void; BEGIN follows */
    WEIR_EVENT_IDLE,      /* nothing new up to seq */
    WEIR_EVENT_STALE,
    WEIR_EVENT_LIVE,  /* its topic is being restarted; runs again */
    WEIR_EVENT_ENDED, /* the feed is over: error, cause. topic empty: the whole subscription is */
};
WEIR_API const char *weir_event_name(enum weir_event_kind kind); /* "begin", "entry", ... */

struct weir_event {
    enum weir_event_kind kind;
    struct weir_view topic; /* text, no NUL */
    const char *topic_kind; /* BEGIN: "last", "map", "log", "merge" */
    uint64_t epoch, seq, seq_to;
    uint64_t count;         /* SUBSCRIBED */
    bool resumed, delta;    /* BEGIN; END too. delta: the entries are laid over what was known */
    struct weir_view key;   /* text, no NUL; data NULL: no key */
    struct weir_view value; /* one msgpack value; nil in a map topic's update or delta: the key was deleted */
    struct weir_view cause; /* text */
    enum weir_error error;  /* ENDED */
};

struct weir_cursor {
    const char *topic;
    uint64_t epoch, seq;
};

struct weir_subscribe_options {
    /* What the broker does when this client does not keep up: NULL or "resync": a fresh snapshot once it reads again;
     * "block": the topic waits, and with it its publishers; "conflate": updates that a newer one of the same key
     * replaces are left out, WEIR_EVENT_CONFLATED says which; "drop": the oldest waiting updates go, WEIR_EVENT_GAP
     * says which; "disconnect": WEIR_EVENT_ENDED with WEIR_CLOSED ends the subscription. */
    const char *policy;
    uint64_t interval_ms;              /* conflate: at least so long between two batches of updates; 0: as they come */
    uint64_t block_ms;                 /* block: the topic waits at most so long, then it is as resync; 0: as long as
                                          the broker allows */
    const char *key, *prefix;          /* only records of this key, or of keys that begin so; not both; NULL: all. The
                                          updates' seq then has holes, and WEIR_EVENT_IDLE says how far the topic is */
    bool no_snapshot;                  /* updates only */
    bool snapshot_only;                /* ENDED after END; of a topic that ended first, after BEGIN */
    size_t outbox_bytes;               /* what may wait in the topic before the policy acts, behind what the broker has
                                          taken out of it: as much again, within 4 and 256 KiB; 0: as much as the topic
                                          retains */
    const struct weir_cursor *cursors; /* where to resume; copied */
    size_t cursor_count;
    /* Called on the client's thread for each event, whose views end with the call. NULL: pull with weir_next. */
    void (*on_event)(struct weir_subscription *subscription, const struct weir_event *event, void *context);
    void *context;
};

/* Asks for a topic or pattern. After a loss it is taken up where it stood, without gap or duplicate; where the broker
 * can not, BEGIN without resumed says so. A BEGIN may also come where a snapshot was not yet ended (the loss cut it
 * off): it starts anew. Does not wait: WEIR_EVENT_SUBSCRIBED tells when it stands, WEIR_EVENT_ENDED
 * that it was refused. options may be NULL. Callback: yes. */
WEIR_API WEIR_MUST_USE enum weir_error weir_subscribe(struct weir *client, const char *pattern,
                                                      const struct weir_subscribe_options *options,
                                                      struct weir_subscription **out);

/* The next event of a subscription without on_event. Its views are valid until the next call for that subscription.
 * WEIR_TIMEOUT; WEIR_CLOSED: it is over and all was taken. One thread at a time for one subscription. Not from a
 * callback. */
WEIR_API WEIR_MUST_USE enum weir_error weir_next(struct weir_subscription *subscription, uint64_t timeout_ms,
                                                 struct weir_event *out);

/* Waits until one of the client's subscriptions without on_event has something for weir_next, its end included; each
 * gets its turn. WEIR_TIMEOUT; WEIR_CLOSED: the client is over and all was taken. Not from a callback. */
WEIR_API WEIR_MUST_USE enum weir_error weir_await(struct weir *client, uint64_t timeout_ms,
                                                  struct weir_subscription **out);

/* Ends and frees it; after this none of its events is delivered: waits for a callback that is running on the client's
 * thread. Not while another thread is in weir_next for it. From within its own callback: yes. Nulls *subscription. */
WEIR_API void weir_unsubscribe(struct weir_subscription **subscription);

/* --------------------------------------------------------------------------------------------- asking */

struct weir_reply {
    enum weir_error error; /* the broker's answer; WEIR_OK: result */
    char *message;         /* for people, when error */
    uint8_t *result;       /* an encoded msgpack map */
    size_t result_size;
};
/* Sends [verb, args] (args: an encoded msgpack map; size 0: empty) and waits for the reply. WEIR_OK means that a reply
 * came; look at reply->error. Not from a callback. */
WEIR_API WEIR_MUST_USE enum weir_error weir_request(struct weir *client, const char *verb, struct weir_view args,
                                                    uint64_t timeout_ms, struct weir_reply *reply);
WEIR_API void weir_reply_free(struct weir_reply *reply);

/* The state of a topic, or of one key of it: reply->result is {epoch, seq, kind, state}. */
WEIR_API WEIR_MUST_USE enum weir_error weir_get(struct weir *client, const char *topic, const char *key,
                                                uint64_t timeout_ms, struct weir_reply *reply);
/* One page of a large map, or merged map: reply->result is {epoch, seq, kind, state, next?}; state has at most limit
 * entries (0: as many as there are, if a message can hold them) with keys that begin with prefix (NULL: all), and next,
 * where others follow, is the key to give as after (data NULL: the first page). Each page is of its own seq: a key that
 * stays in the map is in exactly one page, one that comes or goes meanwhile perhaps in none. Another epoch: start over.
 */
struct weir_page {
    const char *prefix;
    struct weir_view after;
    uint64_t limit;
};
WEIR_API WEIR_MUST_USE enum weir_error weir_get_page(struct weir *client, const char *topic,
                                                     const struct weir_page *page, uint64_t timeout_ms,
                                                     struct weir_reply *reply);
/* The topics that match: reply->result is {topics: [{topic, kind, epoch, seq, bytes, subscribers}...]}. */
WEIR_API WEIR_MUST_USE enum weir_error weir_list(struct weir *client, const char *pattern, uint64_t timeout_ms,
                                                 struct weir_reply *reply);

WEIR_API const char *weir_version(void);

#ifdef __cplusplus
}
#endif

#endif
