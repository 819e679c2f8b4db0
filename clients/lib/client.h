/* The inside of libweir: one struct weir, its lock, and its parts (link, publisher, subscriptions, requests).
 *
 * One mutex guards everything below. Three sorts of threads take it: the user's, in calls; a poller's, in the pipe's
 * handlers, which only note what happened; and the client's own, which dials, takes frames apart, renews credit and
 * runs callbacks (with the lock released). Functions declared here are called with the lock held unless they say
 * otherwise. */
#ifndef CLIENTS_LIB_CLIENT_H
#define CLIENTS_LIB_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "actors/base/limits.h"
#include "clients/lib/numbers.h"
#include "clients/lib/weir.h"
#include "clients/sp/inbox.h"
#include "clients/sp/pipe.h"
#include "clients/wire/frame.h"

#define CLIENT_MAGIC 0x57454952u
#define CLIENT_DEPTH_MAX (64 + VALUE_ENVELOPE_DEPTH) /* a broker takes 64 at most, and wraps what it quarantines */

/* Bytes on their way out: whole SP messages, one behind the other. */
struct outbuf {
    uint8_t *data;
    size_t start, end, capacity;
};

enum link_state { LINK_DOWN, LINK_HELLO, LINK_UP };

struct link {
    enum link_state state;
    struct sp_pipe *pipe;
    bool is_ipc, is_receiving, is_sending, is_closed;
    bool is_deferred;      /* nothing is with the pipe yet: a poller will come by; is_sending is set, too */
    bool is_flushing;      /* a thread is in the pipe's send, without the lock */
    bool has_received;     /* bytes are in inbox that were not taken apart */
    bool is_resting;       /* the client's thread waits for bytes: client_wake interrupts it */
    bool is_patient;       /* it does not hurry for what comes: link_attend makes it */
    bool is_paused;        /* not receiving, because too many events wait for the user */
    bool was_up;           /* this client has had a session before */
    enum weir_error error; /* why it closes */
    char reason[160];
    struct sp_inbox inbox;              /* the client's thread; on_received commits while that one waits for it */
    void *space;                        /* where the receive under way puts them, of the inbox */
    size_t offered;                     /* and how many at most */
    bool is_flowing;                    /* the last receive filled much of what it was offered: there is likely more */
    bool is_streaming;                  /* it was large: to deliver it takes longer than to switch threads */
    struct outbuf control;              /* frames that never wait behind data */
    struct outbuf data;                 /* closed PUBLISH frames that wait for credit or the line */
    struct outbuf sending;              /* what is with the pipe now */
    uint64_t sent_ns, sent_before_ns;   /* when the last send ended, and the one before it */
    uint64_t send_ns;                   /* how long one takes that is done at once */
    uint64_t rested_ns, paced_ns;       /* how long the line has rested beyond what sends took, until paced_ns */
    uint64_t credit_total, credit_used; /* for PUBLISH bodies, from the broker */
    uint64_t credit_first;              /* what it began with: the whole window */
    uint64_t granted_total, consumed_total; /* for ENTRIES and UPDATES bodies, to the broker */
    uint64_t data_total;                    /* of those, what came */
    uint64_t leftover;                      /* bytes of earlier connections that were queued when this one began */
    uint64_t message_max, records_max;
    atomic_uint depth_max;        /* of values. Written with the lock; who looks at a record before it has the lock
                                     reads it relaxed: the broker's bound, or that of the one before */
    bool takes_options;           /* the broker understands PUBLISH_WITH and publishers */
    bool takes_hold;              /* and HOLD */
    bool is_holding;              /* it may hold back acks of what was sent since held_ns */
    uint64_t held_ns, awaited_ns; /* awaited_ns: when somebody waited last */
    uint64_t dialed_ns, up_ns, heard_ns, pinged_ns;
    unsigned pings;
};

/* A PUBLISH frame that is not done with: not sent yet, or sent with outcomes to come. */
struct unacked {
    uint64_t number;
    uint32_t count;
    uint32_t remaining; /* records whose outcome is to come; 0: done with */
    enum ack_level ack;
    bool has_options, is_resent; /* is_resent: it went out on an earlier connection, and may be answered in part */
    uint32_t taken_count;        /* ack accepted: up to the last one acked here; those may be refused still */
    uint8_t *kept;               /* the message, to be sent again after a loss; NULL: it is not kept */
    size_t kept_size;
};

struct publish_waiter {
    struct publish_waiter *next;
    uint64_t number;
    bool is_done;
    enum weir_error outcome;
    struct weir_seq seq;
    char reason[160]; /* of the broker, or why there is no answer; empty: none */
};

struct publisher {
    /* The open batch: records of one topic and ack level, not yet a frame. */
    char topic[TOPIC_NAME_SIZE_MAX]; /* of the last one, where none is open */
    size_t topic_size;
    enum ack_level ack;
    struct publish_with with;
    uint8_t *items;
    size_t items_size, items_capacity;
    uint32_t count;
    uint64_t lowest_number; /* of all that this client ever publishes */
    uint64_t first_number, next_number;
    /* A ring in order of numbers; the last unsent_count of them are the messages in link.data, in the same order. */
    struct unacked *unacked;
    size_t unacked_start, unacked_count, unacked_capacity, unsent_count;
    size_t sending_count; /* those before the unsent: with the pipe now */
    struct publish_waiter *waiters;
    size_t kept_bytes, kept_records; /* of frames that are kept until they are answered */
    bool is_telling;                 /* on_outcome runs */
};

struct feed {
    struct weir_subscription *subscription;
    uint32_t id;
    uint32_t references; /* queued frames that name it */
    bool is_open;        /* it has an id in this connection */
    bool is_joining;     /* between BEGIN and END */
    bool has_cursor;     /* a whole snapshot came, so epoch and seq can be resumed from */
    uint64_t epoch, seq;
    size_t topic_size;
    char topic[];
};

/* A frame that a subscription has not consumed yet, with its own copy of the body: one small frame never keeps a whole
 * receive buffer. */
struct queued {
    struct queued *next;
    struct frame frame;
    struct feed *feed; /* NULL: about the whole subscription */
    size_t size;       /* bytes of body */
    size_t credit;     /* bytes to give back when consumed: all of them, or none */
    struct view items; /* still to be delivered */
    uint64_t epoch;    /* of its feed at that time */
    uint64_t seq;      /* of the next item */
    size_t capacity;   /* bytes of body that there is room for */
    uint8_t body[];
};

struct weir_subscription {
    struct weir *client;
    struct weir_subscription *next, *previous; /* of the client's */
    uint32_t id;
    struct weir_subscribe_options options; /* its pointers are not used after the copy */
    enum overflow_policy policy;
    char *pattern;
    uint8_t *key; /* of the keys that it is about: encoded; NULL: of all */
    size_t key_size;
    bool key_is_prefix;
    void *feeds_by_topic; /* tsearch tree of struct feed, by topic */
    struct queued *first, **last;
    struct queued *current; /* the pulled one whose views are out */
    struct weir_subscription *listed_next;
    bool is_listed;               /* in client->ready or client->pullable */
    bool is_over;                 /* no more will come */
    bool is_over_told;            /* weir_next has said so */
    atomic_bool is_ended_by_user; /* none of its events is delivered any more: set with the lock held; the thread that
                                     delivers looks between two events without (relaxed: it only ends sooner) */
    bool is_ended_in_callback;    /* the client's thread frees it when the callback is back */
};

/* Subscriptions with something to deliver, first come first served. */
struct ready_list {
    struct weir_subscription *first, *last;
};

struct request_waiter {
    struct request_waiter *next;
    uint64_t id;
    bool is_done;
    struct weir_reply *reply;
    enum weir_error error;
};

struct weir {
    uint32_t magic;
    struct weir_options options;
    char *url, *name, *publisher_name; /* publisher_name: NULL: it has none */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* for the user's threads: room, outcomes, replies, events, the link */
    pthread_cond_t work;    /* for the client's thread */
    pthread_t thread;
    bool is_stopping, is_over;
    enum weir_error over_error;
    uint64_t backoff_ms;
    uint64_t jitter; /* state of the random numbers behind backoff; the client's thread */
    struct link link;
    struct publisher publisher;
    struct weir_subscription *subscriptions;
    struct ready_list ready;              /* with a callback: the client's thread delivers */
    struct ready_list pullable;           /* for weir_await */
    struct weir_subscription *delivering; /* whose callback runs now */
    unsigned waiting_count;               /* the user's threads that wait on `changed` */
    size_t queued_bytes, queued_count;    /* of all subscriptions; bytes: what counts for credit */
    size_t queued_free_bytes;             /* of queued frames that take no credit */
    struct queued *spare, *small;         /* blocks of consumed frames, for the next ones; see event.c */
    unsigned spare_count, small_count;
    size_t spare_bytes;
    unsigned burst;             /* events that are delivered without the lock between; the client's thread only */
    struct numbers feeds_by_id; /* struct feed, of this connection */
    struct numbers subscriptions_by_id; /* those that the user has not ended */
    uint32_t next_sub;
    struct request_waiter *requests;
    uint64_t next_request;
    struct weir_counts counts;
};

/* client.c */
void client_wake(struct weir *client);
bool client_is_own_thread(const struct weir *client);
/* Waits on `changed` until deadline_ns (UINT64_MAX: for ever); false when it has passed. */
bool client_wait(struct weir *client, uint64_t deadline_ns);
uint64_t deadline_after_ms(uint64_t timeout_ms);

/* link.c: the connection */
void link_dial(struct weir *client); /* releases the lock meanwhile */
void link_close(struct weir *client, enum weir_error error, const char *reason);
/* Receives while the client's thread does something else. */
void link_receive(struct weir *client);
/* Waits for bytes in the client's thread until then, or until client_wake; false: nothing may be received now, so there
 * is nothing to wait for. Releases the lock meanwhile. */
bool link_rest(struct weir *client, uint64_t until_ns);
/* Somebody waits for what comes: the broker is asked for acks that it holds back, with the next pump, and the client's
 * thread looks at once. */
void link_attend(struct weir *client);
/* Something is to be sent now: has the broker hold back the acks of it where nobody waits for them, and send those that
 * it has held back for long. */
void link_hold(struct weir *client, uint64_t now_ns);
/* Asks for acks that are held back, when records no longer follow one another or somebody waits. */
void link_hold_end(struct weir *client, uint64_t now_ns);
/* Takes apart what came; true when it did something. */
bool link_take(struct weir *client);
/* The next time the link wants attention; sends pings and gives up on a silent peer. */
uint64_t link_heartbeat(struct weir *client, uint64_t now_ns);
/* Once the pipe has closed: frees it, and tells all parts. Releases the lock meanwhile. */
void link_reap(struct weir *client);
void link_fini(struct weir *client);

/* send.c: what goes out */
/* Sends what may be sent, if the line is idle. */
void link_pump(struct weir *client);
/* The same, with the lock released during a send. */
void link_pump_released(struct weir *client);
/* What was with the pipe is with the kernel, or a poller comes by to send. On a poller's thread. */
void link_on_sent(struct weir *client);
/* Whether the broker's credit is half used up. */
bool link_is_short_of_credit(const struct link *link);
/* Queues a control frame; its answer is waited for, but for those of the second. */
void link_control(struct weir *client, const struct frame *frame);
void link_control_unattended(struct weir *client, const struct frame *frame);
/* The user has dealt with size bytes of data frames: renews the broker's credit. */
void link_consumed(struct weir *client, size_t size);
/* Adds bytes that are whole messages; false when memory is out. */
bool outbuf_append(struct outbuf *buffer, struct view messages);
/* Adds one SP message of head and items to buffer; false when memory is out. */
bool outbuf_message(struct outbuf *buffer, bool is_ipc, struct view head, struct view items);
/* Room for one message's body of at most body_max bytes at the end; NULL: no memory. Commit says how long it became;
 * nothing else may be called in between. */
uint8_t *outbuf_body_reserve(struct outbuf *buffer, bool is_ipc, size_t body_max);
void outbuf_body_commit(struct outbuf *buffer, bool is_ipc, size_t body_size);
size_t outbuf_size(const struct outbuf *buffer);
void outbuf_clear(struct outbuf *buffer);

/* publish.c */
void publisher_close_batch(struct weir *client);
void client_publisher_fini(struct weir *client);

/* outcome.c: what became of published frames */
bool unacked_reserve(struct publisher *publisher);
void unacked_push(struct publisher *publisher, const struct unacked *frame);
/* The frame at i of the ring, counted from the oldest; how many were sent or are with the pipe. */
struct unacked *unacked_at(const struct publisher *publisher, size_t i);
size_t unacked_sent_count(const struct publisher *publisher);
const struct unacked *unacked_oldest(const struct publisher *publisher); /* NULL: none */
/* Frees what the frame keeps to be sent again. */
void unacked_release(struct publisher *publisher, struct unacked *frame);
/* Takes the oldest frame out, which keeps nothing any more. */
void unacked_pop(struct publisher *publisher);
void unacked_fini(struct publisher *publisher);
struct outcome {
    uint64_t number;
    uint32_t count;
    enum weir_error error;
    uint64_t epoch, seq;
    const char *reason;
};
/* Releases the lock for the user's callback. */
void outcome_tell(struct weir *client, const struct outcome *outcome);
/* The next frame of link.data goes out; then all that did are with the kernel. */
void publisher_on_sending(struct weir *client);
void publisher_on_sent(struct weir *client);
void publisher_on_ack(struct weir *client, const struct frame *frame);
void publisher_on_refused(struct weir *client, const struct frame *frame);

/* loss.c: published frames when the connection goes and comes */
/* What this broker would not take is refused here, what it could not tell from new records is unknown. is_shallower: it
 * takes less deep values than the one before. */
void publisher_on_link_up(struct weir *client, bool is_shallower);
void publisher_on_link_down(struct weir *client);
void publisher_on_over(struct weir *client);

/* feed.c: topics under subscriptions, and the cursor of each */
struct feed *feed_ensure(struct weir_subscription *subscription, struct view topic);
/* What the frame says moves the cursor; *out is NULL when the frame is of a subscription that was ended meanwhile.
 * WEIR_PROTOCOL with *reason when it breaks the order that was promised, WEIR_NO_MEMORY. */
enum weir_error feed_begin(struct weir *client, struct weir_subscription *subscription, const struct frame *frame,
                           struct feed **out, const char **reason);
enum weir_error feed_follow(struct weir *client, const struct frame *frame, struct feed **out, const char **reason);
void feed_hold(struct feed *feed);
void feed_drop(struct feed *feed);
void feeds_close(struct weir *client);
void feeds_free(struct weir_subscription *subscription);
/* The cursors of all feeds, as far as size_max bytes reach; *count of them. NULL: no memory. The caller frees. */
uint8_t *feeds_cursors(const struct weir_subscription *subscription, size_t size_max, size_t *size, uint32_t *count);

/* subscribe.c */
void subscriptions_on_link_up(struct weir *client);
void subscriptions_on_over(struct weir *client);
/* Queues a frame about a subscription. */
void subscriptions_on_frame(struct weir *client, const struct frame *frame, struct view body);
/* Runs callbacks for what one subscription has; false when none waits. Releases the lock meanwhile. */
bool subscriptions_deliver(struct weir *client);
void subscriptions_fini(struct weir *client);

/* event.c: queued frames as events */
enum weir_error events_push(struct weir_subscription *subscription, const struct frame *frame, struct view body,
                            struct feed *feed);
/* The next event; false when none is queued. The frame it points into stays as `current` until the next call. */
bool subscription_event(struct weir_subscription *subscription, struct weir_event *event);
/* The next item of the frame that `event` came from, in its place. Without the lock, by the thread that delivers. */
bool subscription_event_more(struct weir_subscription *subscription, struct weir_event *event);
/* Frees the spare blocks. */
void events_fini(struct weir *client);
/* Forgets all that is queued. */
void events_clear(struct weir_subscription *subscription);

/* request.c */
void requests_on_reply(struct weir *client, const struct frame *frame);
void requests_on_link_down(struct weir *client);

#endif
