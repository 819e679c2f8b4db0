/* A frame of every op, as PROTOCOL.md shows them by name. For tests only. */
#ifndef TESTS_UNIT_CLIENTS_WIRE_SAMPLES_H
#define TESTS_UNIT_CLIENTS_WIRE_SAMPLES_H

#include "clients/wire/frame.h"

/* A view of the bytes of a string literal, without its NUL. */
#define RAW(literal)                                    \
    {                                                   \
        (const uint8_t *)(literal), sizeof(literal) - 1 \
    }

#define VALUE_ADA "\x81\xa5since\xcd\x06\xa4"   /* {"since": 1700} */
#define VALUE_EVE "\x81\xa5since\xcd\x06\xb0"   /* {"since": 1712} */
#define VALUE_BOB "\x81\xa5since\xcd\x06\xb8"   /* {"since": 1720} */
#define VALUE_OVEN "\xcb\x40\x35\x80\0\0\0\0\0" /* 21.5 */

struct sample {
    const char *name;
    struct frame frame;
};

static const struct sample samples[] = {
    {"hello-client",
     {FRAME_HELLO,
      {.hello =
           {.version = 1, .credit = 1048576, .message_max = 1048576, .heartbeat_ms = 5000, .peer = RAW("dashboard")}}}},
    {"hello-server",
     {FRAME_HELLO,
      {.hello = {.version = 1,
                 .credit = 262144,
                 .message_max = 2097152,
                 .heartbeat_ms = 5000,
                 .peer = RAW("weir/0.1.0"),
                 .is_server = true}}}},
    {"hello-publisher",
     {FRAME_HELLO, {.hello = {.version = 1, .message_max = 1048576, .peer = RAW("till"), .publisher = RAW("till-7")}}}},
    {"hello-publish-with",
     {FRAME_HELLO,
      {.hello = {.version = 1,
                 .credit = 262144,
                 .message_max = 1048576,
                 .heartbeat_ms = 5000,
                 .peer = RAW("weir/0.1.0"),
                 .is_server = true,
                 .publish_with = true}}}},
    {"hello-bounds",
     {FRAME_HELLO,
      {.hello = {.version = 1,
                 .credit = 262144,
                 .message_max = 1048576,
                 .records_max = 100,
                 .depth_max = 32,
                 .peer = RAW("weir/0.1.0"),
                 .is_server = true}}}},
    {"ping", {FRAME_PING, {.ping = {.n = 3}}}},
    {"pong", {FRAME_PONG, {.pong = {.n = 3}}}},
    {"credit", {FRAME_CREDIT, {.credit = {.total = 1310720}}}},
    {"close", {FRAME_CLOSE, {.close = {.code = RAW("closed"), .message = RAW("the broker shuts down")}}}},
    {"alias", {FRAME_ALIAS, {.alias = {.alias = 5, .topic = RAW("sensors/oven")}}}},
    {"publish-alias",
     {FRAME_PUBLISH,
      {.publish = {.has_alias = true,
                   .alias = 5,
                   .number = 1001,
                   .ack = ACK_FOLDED,
                   .count = 2,
                   .items = RAW("\xc0" VALUE_OVEN "\xc0\x16")}}}},
    {"publish-topic",
     {FRAME_PUBLISH,
      {.publish = {.topic = RAW("presence"),
                   .number = 1003,
                   .ack = ACK_NONE,
                   .count = 1,
                   .items = RAW("\xa3"
                                "ada" VALUE_ADA)}}}},
    {"publish-with",
     {FRAME_PUBLISH_WITH,
      {.publish = {.topic = RAW("presence"),
                   .number = 1004,
                   .ack = ACK_FOLDED,
                   .with = {.has_if_seq = true, .if_seq = 42, .ttl_ms = 30000},
                   .count = 1,
                   .items = RAW("\xa3"
                                "ada" VALUE_ADA)}}}},
    {"publish-bound",
     {FRAME_PUBLISH_WITH,
      {.publish = {.has_alias = true,
                   .alias = 6,
                   .number = 1005,
                   .ack = ACK_FOLDED,
                   .with = {.has_if_seq = true, .bind = true},
                   .count = 1,
                   .items = RAW("\xa3"
                                "ada" VALUE_ADA)}}}},
    {"subscribe",
     {FRAME_SUBSCRIBE,
      {.subscribe =
           {.sub = 1, .pattern = RAW("sensors/#"), .policy = POLICY_RESYNC, .snapshot = true, .updates = true}}}},
    {"subscribe-resume",
     {FRAME_SUBSCRIBE,
      {.subscribe = {.sub = 2,
                     .pattern = RAW("presence"),
                     .policy = POLICY_BLOCK,
                     .outbox = 65536,
                     .cursor_count = 1,
                     .cursors = RAW("\x93\xa8presence\x07\x29")}}}},
    {"subscribe-conflate",
     {FRAME_SUBSCRIBE,
      {.subscribe = {.sub = 3,
                     .pattern = RAW("screen"),
                     .policy = POLICY_CONFLATE,
                     .snapshot = true,
                     .updates = true,
                     .interval_ms = 200,
                     .block_ms = 1000}}}},
    {"subscribe-prefix",
     {FRAME_SUBSCRIBE,
      {.subscribe = {.sub = 4,
                     .pattern = RAW("prices"),
                     .snapshot = true,
                     .updates = true,
                     .prefix = RAW("\xa4"
                                   "EUR/")}}}},
    {"unsubscribe", {FRAME_UNSUBSCRIBE, {.unsubscribe = {.sub = 1}}}},
    {"request", {FRAME_REQUEST, {.request = {.id = 9, .verb = RAW("list"), .args = RAW("\x81\xa7pattern\xa1#")}}}},
    {"hold", {FRAME_HOLD, {.hold = {.on = true}}}},
    {"ack", {FRAME_ACK, {.ack = {.number = 1001, .count = 2, .epoch = 7, .seq = 41}}}},
    {"refused",
     {FRAME_REFUSED,
      {.refused = {.number = 1003,
                   .count = 1,
                   .code = RAW("busy"),
                   .message = RAW("the topic is full"),
                   .topic = RAW("presence"),
                   .cause = RAW("mailbox"),
                   .retry_ms = 100}}}},
    {"refused-conflict",
     {FRAME_REFUSED,
      {.refused = {.number = 1004,
                   .count = 1,
                   .code = RAW("conflict"),
                   .message = RAW("the newest record is another"),
                   .topic = RAW("presence"),
                   .cause = RAW("if_seq"),
                   .seq = 45}}}},
    {"subscribed", {FRAME_SUBSCRIBED, {.subscribed = {.sub = 1, .topics = 2}}}},
    {"unsubscribed", {FRAME_UNSUBSCRIBED, {.unsubscribed = {.sub = 1, .code = RAW("ok"), .message = RAW("")}}}},
    {"reply", {FRAME_REPLY, {.reply = {.id = 9, .ok = true, .result = RAW("\x81\xa6topics\x90")}}}},
    {"begin",
     {FRAME_BEGIN,
      {.begin = {.sub = 1,
                 .feed = 77,
                 .topic = RAW("presence"),
                 .kind = RAW("map"),
                 .epoch = 7,
                 .seq = 42,
                 .cause = RAW("new")}}}},
    {"begin-resumed",
     {FRAME_BEGIN,
      {.begin = {.sub = 2,
                 .feed = 78,
                 .topic = RAW("presence"),
                 .kind = RAW("map"),
                 .epoch = 7,
                 .seq = 41,
                 .resumed = true}}}},
    {"entries",
     {FRAME_ENTRIES,
      {.entries = {.feed = 77,
                   .count = 2,
                   .items = RAW("\xa3"
                                "ada" VALUE_ADA "\xa3"
                                "eve" VALUE_EVE)}}}},
    {"entries-merge",
     {FRAME_ENTRIES,
      {.entries = {.feed = 77,
                   .count = 2,
                   .items = RAW("\xc0\x81\xa4"
                                "door\x81\xa4"
                                "open\xc3\xc0\x81\xa4"
                                "temp\x15")}}}},
    {"entries-merge-delta",
     {FRAME_ENTRIES,
      {.entries = {.feed = 77,
                   .count = 2,
                   .items = RAW("\xc0\x81\xa4"
                                "temp\xc0\xc0\x81\xa4"
                                "door\x81\xa6"
                                "locked\xc3")}}}},
    {"end", {FRAME_END, {.end = {.feed = 77, .epoch = 7, .seq = 42}}}},
    {"updates",
     {FRAME_UPDATES,
      {.updates = {.feed = 77,
                   .seq = 43,
                   .count = 2,
                   .items = RAW("\xa3"
                                "eve"
                                "\xc0"
                                "\xa3"
                                "bob" VALUE_BOB)}}}},
    {"sys-update", {FRAME_UPDATES, {.updates = {.feed = 9, .seq = 24, .count = 1, .items = RAW("\xa2\x31\x37\xc0")}}}},
    {"gap", {FRAME_GAP, {.gap = {.feed = 77, .from = 45, .to = 60, .cause = RAW("overflow")}}}},
    {"conflated", {FRAME_CONFLATED, {.conflated = {.feed = 77, .from = 61, .to = 64, .cause = RAW("overflow")}}}},
    {"reset", {FRAME_RESET, {.reset = {.feed = 77, .epoch = 8, .cause = RAW("cleared")}}}},
    {"idle", {FRAME_IDLE, {.idle = {.feed = 77, .seq = 64}}}},
    {"stale", {FRAME_STALE, {.stale = {.feed = 77, .cause = RAW("restart")}}}},
    {"live-frame", {FRAME_LIVE, {.live = {.feed = 77}}}},
    {"ended", {FRAME_ENDED, {.ended = {.feed = 77, .cause = RAW("not-found")}}}},
};

#define SAMPLE_COUNT (sizeof samples / sizeof samples[0])

#endif
