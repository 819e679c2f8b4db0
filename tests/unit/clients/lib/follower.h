/* What the subscription tests share: taking events, and a client that follows topic "t". */
#ifndef TESTS_UNIT_CLIENTS_LIB_FOLLOWER_H
#define TESTS_UNIT_CLIENTS_LIB_FOLLOWER_H

#include "tests/unit/clients/lib/fake.h"

static struct weir_event next_event(struct weir_subscription *sub, enum weir_event_kind kind)
{
    struct weir_event event;
    enum weir_error error = weir_next(sub, WAIT_MS, &event);
    if (error != WEIR_OK)
        fail_msg("%s instead of an event %s", weir_error_text(error), weir_event_name(kind));
    if (event.kind != kind)
        fail_msg("event %s instead of %s", weir_event_name(event.kind), weir_event_name(kind));
    return event;
}

static inline uint64_t event_number(const struct weir_event *event)
{
    struct value_reader reader;
    value_reader_init(&reader, view_of(event->value.data, event->value.size), 1);
    uint64_t number = value_read_uint(&reader);
    assert_int_equal(reader.error, WEIR_OK);
    return number;
}

static inline bool is_text(struct weir_view view, const char *text)
{
    return view.size == strlen(text) && memcmp(view.data, text, view.size) == 0;
}

/* The snapshot of topic "t" as feed 9 at seq, with one entry. */
static inline void send_snapshot(struct session *s, uint32_t sub, uint64_t epoch, uint64_t seq)
{
    send_begin(s, sub, 9, "t", epoch, seq, false);
    send_entry(s, 9, seq);
    send_end(s, 9, epoch, seq);
}

static inline void take_snapshot(struct weir_subscription *sub, uint64_t epoch, uint64_t seq)
{
    struct weir_event event = next_event(sub, WEIR_EVENT_BEGIN);
    assert_true(is_text(event.topic, "t"));
    assert_false(event.resumed);
    event = next_event(sub, WEIR_EVENT_ENTRY);
    assert_int_equal(event_number(&event), seq);
    event = next_event(sub, WEIR_EVENT_END);
    assert_int_equal(event.epoch, epoch);
    assert_int_equal(event.seq, seq);
}

static inline void take_updates(struct weir_subscription *sub, uint64_t seq, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct weir_event event = next_event(sub, WEIR_EVENT_UPDATE);
        assert_int_equal(event.seq, seq + i);
        assert_int_equal(event_number(&event), seq + i);
        assert_true(is_text(event.topic, "t"));
        assert_null(event.key.data);
    }
}

/* A client that follows "t", whose snapshot at seq 10 of epoch 7 it has taken. */
static inline struct weir *follower(struct fake *fake, const struct weir_options *options, struct session **s,
                                    struct weir_subscription **sub)
{
    fake_start(fake);
    struct weir *client = fake_client(fake, options, 1000, s);
    assert_int_equal(weir_subscribe(client, "t", NULL, sub), WEIR_OK);
    session_skip(*s, FRAME_SUBSCRIBE);
    send_subscribed(*s, 1, 1);
    send_snapshot(*s, 1, 7, 10);
    next_event(*sub, WEIR_EVENT_SUBSCRIBED);
    take_snapshot(*sub, 7, 10);
    return client;
}

static inline void follower_end(struct fake *fake, struct weir *client)
{
    assert_int_equal(weir_close(&client, WAIT_MS), WEIR_OK);
    fake_stop(fake);
}

/* The next frame is SUBSCRIBE with this cursor; epoch 0: with none. */
static inline void cursor_of(struct session *s, uint64_t epoch, uint64_t seq)
{
    struct kept *kept = session_take(s, FRAME_SUBSCRIBE);
    struct cursor cursor;
    struct view cursors = kept->frame.as.subscribe.cursors;
    if (epoch == 0) {
        assert_int_equal(kept->frame.as.subscribe.cursor_count, 0);
    } else {
        assert_int_equal(kept->frame.as.subscribe.cursor_count, 1);
        assert_int_equal(cursors_next(&cursors, &cursor), WEIR_OK);
        assert_true(view_is_same(cursor.topic, view_text("t")));
        assert_int_equal(cursor.epoch, epoch);
        assert_int_equal(cursor.seq, seq);
    }
    free(kept);
}

#endif
