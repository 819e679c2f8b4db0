/* The plugin `top`: the K heaviest keys of each topic, by Space-Saving (summary.h), since ever or in each period.
 * README.md of the folder above says how it is used. */
#include "actors/plugins/kit_ask.h"
#include "actors/plugins/kit_config.h"
#include "actors/plugins/top/summary.h"

enum {
    FORM = 1,
    K_MAX = 1000,
    COUNTERS_MAX = 100000,
    /* Topics that one instance keeps apart: each has counters of its own, and all of them may be emitted at once. */
    BOARDS_MAX = 64,
    TIMER_EMIT = 1,
    TIMER_PERIOD = 2,
};

/* One topic's. */
struct board {
    struct kit_entry entry; /* by the topic that is emitted to */
    struct summary summary;
    uint64_t period; /* time / period_ms of what is counted */
    bool is_changed; /* since it was emitted */
};

struct top {
    struct weir_bytes kept, to, by, weight; /* the configuration; texts are parts of it */
    uint64_t k, counters, every_ms, period_ms;
    bool skips_missing, takes_entries;
    struct kit_table boards;
    const struct counter **sorted; /* room for all counters of a board */
    bool emit_is_armed, period_is_armed;
    uint64_t emit_due_ms; /* when what has changed is emitted */
};

static enum weir_actor_result top_settings(struct weir_self *self, struct top *top)
{
    struct weir_bytes missing = {NULL, 0};
    const struct kit_key keys[] = {
        {"k", KIT_UINT, &top->k, 1, K_MAX, false},
        {"counters", KIT_UINT, &top->counters, 1, COUNTERS_MAX, false},
        {"to", KIT_TEXT, &top->to, 1, KIT_TOPIC_MAX, false},
        {"by", KIT_TEXT, &top->by, 0, 255, false},
        {"weight", KIT_TEXT, &top->weight, 1, 255, false},
        {"every_ms", KIT_UINT, &top->every_ms, 0, 86400000, false},
        {"period_ms", KIT_UINT, &top->period_ms, 0, 604800000, false},
        {"missing", KIT_TEXT, &missing, 0, 0, false},
        {"entries", KIT_BOOL, &top->takes_entries, 0, 0, false},
    };
    if (!kit_config(self, "config", top->kept, keys, sizeof keys / sizeof *keys) || !kit_target_check(self, top->to))
        return WEIR_ACTOR_FAILED;
    if (top->counters == 0)
        top->counters = top->k * 10 < 100 ? 100 : top->k * 10;
    if (top->counters < top->k)
        return kit_fail(self,
                        "config: 'counters' (%llu) must be at least 'k' (%llu); ten times that keeps errors small",
                        (unsigned long long)top->counters, (unsigned long long)top->k);
    if (missing.size > 0 && !kit_is(missing, "skip") && !kit_is(missing, "refuse"))
        return kit_fail(self, "config: 'missing' is '%.*s', but must be skip or refuse", (int)missing.size,
                        (const char *)missing.data);
    top->skips_missing = missing.size > 0 ? kit_is(missing, "skip") : self->role != WEIR_ACTOR_FOLD;
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result top_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    struct top *top = weir_alloc(self, sizeof *top);
    if (top == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    memset(top, 0, sizeof *top);
    top->k = 10;
    top->every_ms = 1000;
    top->takes_entries = true;
    top->kept = kit_keep(self, config);
    if (top->kept.data == NULL)
        return kit_fail(self, "no memory: memory_bytes_max is too small");
    enum weir_actor_result result = top_settings(self, top);
    if (result != WEIR_ACTOR_OK)
        return result;
    top->sorted = weir_alloc(self, top->counters * sizeof *top->sorted);
    if (top->sorted == NULL || !kit_table_init(self, &top->boards, BOARDS_MAX))
        return kit_fail(self, "no memory for %llu counters: raise memory_bytes_max", (unsigned long long)top->counters);
    *state = top;
    return WEIR_ACTOR_OK;
}

/* ------------------------------------------------------------------------------------------------ emitting */

static void put_weight(struct weir_self *self, const struct top *top, struct weir_writer *writer, double weight)
{
    if (top->weight.size == 0)
        kit_put_uint(self, writer, (uint64_t)weight);
    else
        kit_put_double(self, writer, weight);
}

static void board_write(struct weir_self *self, const struct top *top, const struct board *board, bool is_closed,
                        uint32_t count, struct weir_writer *writer)
{
    kit_put_map(self, writer, top->period_ms > 0 ? 5 : 3);
    if (top->period_ms > 0) {
        kit_put_text(self, writer, "start_ms");
        kit_put_uint(self, writer, board->period * top->period_ms);
        kit_put_text(self, writer, "closed");
        kit_put_bool(self, writer, is_closed);
    }
    kit_put_text(self, writer, "total");
    put_weight(self, top, writer, board->summary.total);
    /* What no key that is missing can weigh more than. */
    kit_put_text(self, writer, "missed_max");
    put_weight(self, top, writer, kit_table_is_full(&board->summary.keys) ? board->summary.heap[0]->count : 0);
    kit_put_text(self, writer, "top");
    kit_put_array(self, writer, count);
    for (uint32_t i = 0; i < count; i++) {
        kit_put_map(self, writer, 3);
        kit_put_text(self, writer, "key");
        kit_put_str(self, writer, top->sorted[i]->entry.id);
        kit_put_text(self, writer, "count");
        put_weight(self, top, writer, top->sorted[i]->count);
        kit_put_text(self, writer, "error");
        put_weight(self, top, writer, top->sorted[i]->error);
    }
}

/* Room for the `count` keys that are in sorted. */
static size_t board_size(const struct top *top, uint32_t count)
{
    size_t size = 256;
    for (uint32_t i = 0; i < count; i++)
        size += top->sorted[i]->entry.id.size + 64;
    return size;
}

static enum weir_actor_result board_emit(struct weir_self *self, struct top *top, struct board *board, bool is_closed)
{
    uint32_t count = summary_top(&board->summary, top->sorted, (uint32_t)top->k);
    size_t capacity = board_size(top, count);
    struct weir_writer writer = {weir_alloc(self, capacity), 0, capacity, false};
    if (writer.data == NULL)
        return kit_fail(self, "no memory to write the list: raise memory_bytes_max");
    board_write(self, top, board, is_closed, count, &writer);
    board->is_changed = false;
    enum weir_actor_result result =
        writer.is_full ? kit_fail(self, "the list does not fit where it must")
                       : weir_emit(self, board->entry.id, kit_of("top"), weir_bytes_of(writer.data, writer.size));
    weir_free(self, writer.data);
    return result;
}

/* Ends the period that a board counts in, once it is over. */
static enum weir_actor_result board_turn(struct weir_self *self, struct top *top, struct board *board, uint64_t now_ms)
{
    enum weir_actor_result result = WEIR_ACTOR_OK;
    if (top->period_ms == 0 || board->period >= now_ms / top->period_ms)
        return WEIR_ACTOR_OK;
    if (board->summary.keys.count > 0)
        result = board_emit(self, top, board, true);
    summary_clear(self, &board->summary);
    board->period = now_ms / top->period_ms;
    return result;
}

/* ------------------------------------------------------------------------------------------------ handling */

/* A board that is not there yet needs a place and memory. NULL: *result says how to end, weir_fail has been called. */
static struct board *board_ensure(struct weir_self *self, struct top *top, struct weir_bytes topic,
                                  enum weir_actor_result *result)
{
    struct board *board = (struct board *)kit_table_find(&top->boards, topic);
    if (board != NULL)
        return board;
    if (kit_table_is_full(&top->boards)) {
        *result = kit_refuse(self, "lists for %d topics are kept already, and no more", (int)BOARDS_MAX);
        return NULL;
    }
    board = (struct board *)kit_table_add(self, &top->boards, topic, sizeof *board);
    if (board != NULL && summary_init(self, &board->summary, (uint32_t)top->counters))
        return board;
    if (board != NULL) {
        summary_fini(self, &board->summary);
        kit_table_remove(self, &top->boards, &board->entry);
    }
    *result = kit_fail(self, "no memory for %llu counters of one more topic: raise memory_bytes_max",
                       (unsigned long long)top->counters);
    return NULL;
}

/* The key and the weight of a record. False with weir_fail called. */
static bool record_read(struct weir_self *self, const struct top *top, const struct weir_message *message,
                        char number[KIT_NUMBER_TEXT_MAX], struct weir_bytes *key, double *weight)
{
    struct weir_bytes field;
    *weight = 1;
    if (!kit_group(self, top->by, message, number, key))
        return false;
    if (top->weight.size == 0)
        return true;
    if (kit_field(self, message->value, top->weight, &field) && kit_number(self, field, weight) && *weight >= 0)
        return true;
    kit_refuse(self, "the value has no number of 0 or more at '%.*s' to weigh it by", (int)top->weight.size,
               (const char *)top->weight.data);
    return false;
}

static enum weir_actor_result timers_arm(struct weir_self *self, struct top *top, uint64_t now_ms)
{
    enum weir_actor_result result = WEIR_ACTOR_OK;
    if (!top->emit_is_armed && top->every_ms > 0) {
        top->emit_is_armed = true;
        top->emit_due_ms = now_ms + top->every_ms;
        result = weir_timer_set(self, TIMER_EMIT, top->every_ms, 0);
    }
    if (result == WEIR_ACTOR_OK && !top->period_is_armed && top->period_ms > 0) {
        top->period_is_armed = true;
        result = weir_timer_set(self, TIMER_PERIOD, top->period_ms - now_ms % top->period_ms, 0);
    }
    return result;
}

static enum weir_actor_result record_take(struct weir_self *self, struct top *top, const struct weir_message *message)
{
    char topic_memory[KIT_TOPIC_MAX], number[KIT_NUMBER_TEXT_MAX];
    struct weir_bytes topic, key;
    double weight = 1;
    if (kit_is_nil(message->value))
        return WEIR_ACTOR_OK;
    if (!record_read(self, top, message, number, &key, &weight))
        return top->skips_missing ? WEIR_ACTOR_OK : WEIR_ACTOR_REFUSED;
    if (!kit_target(self, top->to, message, topic_memory, &topic))
        return WEIR_ACTOR_REFUSED;
    enum weir_actor_result result = WEIR_ACTOR_FAILED;
    struct board *board = board_ensure(self, top, topic, &result);
    if (board == NULL)
        return result;
    result = board_turn(self, top, board, message->time_ms);
    if (result != WEIR_ACTOR_OK)
        return result;
    if (board->summary.keys.count == 0 && top->period_ms > 0)
        board->period = message->time_ms / top->period_ms;
    if (!summary_add(self, &board->summary, key, weight))
        return kit_fail(self, "no memory for one more key: raise memory_bytes_max, or lower counters");
    board->is_changed = true;
    if (top->every_ms == 0)
        result = board_emit(self, top, board, false);
    return result == WEIR_ACTOR_OK ? timers_arm(self, top, message->time_ms) : result;
}

static enum weir_actor_result timer_take(struct weir_self *self, struct top *top, const struct weir_message *message)
{
    enum weir_actor_result result = WEIR_ACTOR_OK;
    bool is_period = message->number == TIMER_PERIOD, is_counting = false;
    /* Armed by restore, which knows no time. */
    if (!is_period && message->time_ms < top->emit_due_ms)
        return weir_timer_set(self, TIMER_EMIT, top->emit_due_ms - message->time_ms, 0);
    *(is_period ? &top->period_is_armed : &top->emit_is_armed) = false;
    for (struct kit_entry *entry = top->boards.oldest; entry != NULL && result == WEIR_ACTOR_OK; entry = entry->newer) {
        struct board *board = (struct board *)entry;
        result = board_turn(self, top, board, message->time_ms);
        if (result == WEIR_ACTOR_OK && !is_period && board->is_changed)
            result = board_emit(self, top, board, false);
        is_counting |= board->summary.keys.count > 0;
    }
    /* The next record arms what is needed; a period that is going on must end without one. */
    if (result != WEIR_ACTOR_OK || !is_period || !is_counting)
        return result;
    top->period_is_armed = true;
    return weir_timer_set(self, TIMER_PERIOD, top->period_ms - message->time_ms % top->period_ms, 0);
}

static void topic_forget(struct weir_self *self, struct top *top, struct weir_bytes topic)
{
    struct board *board = (struct board *)kit_table_find(&top->boards, topic);
    if (board == NULL)
        return;
    summary_fini(self, &board->summary);
    kit_table_remove(self, &top->boards, &board->entry);
}

/* The list as it is now, or with a key what that one's counter says; nil where nothing is counted. */
static enum weir_actor_result board_ask(struct weir_self *self, struct top *top, const struct weir_message *message)
{
    struct weir_message question;
    if (!kit_question_state(self, message, top->to, &question))
        return WEIR_ACTOR_REFUSED;
    const struct board *board = (const struct board *)kit_table_find(&top->boards, question.topic);
    const struct counter *counter = NULL;
    if (board != NULL && question.key.data != NULL)
        counter = (const struct counter *)kit_table_find(&board->summary.keys, question.key);
    bool is_list = board != NULL && question.key.data == NULL;
    uint32_t count = is_list ? summary_top(&board->summary, top->sorted, (uint32_t)top->k) : 0;
    struct weir_writer reply = kit_reply_begin(self, board_size(top, count));
    if (is_list) {
        board_write(self, top, board, false, count, &reply);
    } else if (counter != NULL) {
        kit_put_map(self, &reply, 2);
        kit_put_text(self, &reply, "count");
        put_weight(self, top, &reply, counter->count);
        kit_put_text(self, &reply, "error");
        put_weight(self, top, &reply, counter->error);
    } else {
        kit_put_nil(self, &reply);
    }
    return kit_reply(self, &reply);
}

static enum weir_actor_result top_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    struct top *top = state;
    switch (message->kind) {
    case WEIR_MESSAGE_RECORD: return record_take(self, top, message);
    case WEIR_MESSAGE_ENTRY: return top->takes_entries ? record_take(self, top, message) : WEIR_ACTOR_OK;
    case WEIR_MESSAGE_TIMER: return timer_take(self, top, message);
    case WEIR_MESSAGE_RESET:
        if (kit_clears(self, message))
            topic_forget(self, top, message->topic);
        return WEIR_ACTOR_OK;
    case WEIR_MESSAGE_ASK: return board_ask(self, top, message);
    default: return WEIR_ACTOR_OK;
    }
}

/* ---------------------------------------------------------------------------------------------- snapshot */

/* [1, period_ms, emit_due_ms, [[topic, total, period, is_changed, [[key, count, error]...]]...]], counters in the order
 * of the heap.
 */
static enum weir_actor_result top_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    const struct top *top = state;
    kit_put_array(self, out, 4);
    kit_put_uint(self, out, FORM);
    kit_put_uint(self, out, top->period_ms);
    kit_put_uint(self, out, top->emit_is_armed ? top->emit_due_ms : 0);
    kit_put_array(self, out, top->boards.count);
    for (const struct kit_entry *entry = top->boards.oldest; entry != NULL && !out->is_full; entry = entry->newer) {
        const struct board *board = (const struct board *)entry;
        kit_put_array(self, out, 5);
        kit_put_bin(self, out, board->entry.id);
        kit_put_double(self, out, board->summary.total);
        kit_put_uint(self, out, board->period);
        kit_put_bool(self, out, board->is_changed);
        kit_put_array(self, out, board->summary.keys.count);
        for (uint32_t i = 0; i < board->summary.keys.count; i++) {
            const struct counter *counter = board->summary.heap[i];
            kit_put_array(self, out, 3);
            kit_put_bin(self, out, counter->entry.id);
            kit_put_double(self, out, counter->count);
            kit_put_double(self, out, counter->error);
        }
    }
    return WEIR_ACTOR_OK;
}

static bool board_read(struct weir_self *self, struct top *top, struct weir_reader *reader)
{
    enum weir_actor_result result = WEIR_ACTOR_OK;
    if (kit_want_array(self, reader) != 5)
        return false;
    struct weir_bytes topic = kit_want_bin(self, reader);
    if (topic.size > KIT_TOPIC_MAX || kit_table_find(&top->boards, topic) != NULL)
        return false;
    struct board *board = board_ensure(self, top, topic, &result);
    if (board == NULL)
        return false;
    double total = kit_want_double(self, reader);
    board->period = kit_want_uint(self, reader);
    board->is_changed = kit_want_bool(self, reader);
    uint32_t count = kit_want_array(self, reader);
    for (uint32_t i = 0; i < count; i++) {
        bool is_triple = kit_want_array(self, reader) == 3;
        struct weir_bytes key = kit_want_bin(self, reader);
        double weight = kit_want_double(self, reader), error = kit_want_double(self, reader);
        if (!is_triple || reader->is_bad || kit_table_find(&board->summary.keys, key) != NULL ||
            !summary_put(self, &board->summary, key, weight, error))
            return false;
    }
    board->summary.total = total;
    return !reader->is_bad;
}

static enum weir_actor_result top_restore(struct weir_self *self, void *state, struct weir_bytes snapshot)
{
    struct top *top = state;
    struct weir_reader reader = {snapshot, false};
    if (kit_want_array(self, &reader) != 4 || kit_want_uint(self, &reader) != FORM)
        return kit_fail(self, "this is no snapshot of top 1.0");
    if (kit_want_uint(self, &reader) != top->period_ms && !reader.is_bad) {
        weir_log(self, WEIR_LOG_WARNING, "period_ms has changed: counting begins anew");
        return WEIR_ACTOR_OK;
    }
    top->emit_due_ms = kit_want_uint(self, &reader);
    uint32_t count = kit_want_array(self, &reader);
    for (uint32_t i = 0; i < count && !reader.is_bad; i++) {
        if (!board_read(self, top, &reader))
            return kit_fail(self,
                            "the snapshot's topic %u cannot be taken: malformed, or of more counters than "
                            "counters (%llu) allows",
                            (unsigned)i + 1, (unsigned long long)top->counters);
    }
    if (reader.is_bad)
        return kit_fail(self, "the snapshot is malformed");
    if (top->boards.count == 0)
        return WEIR_ACTOR_OK;
    /* What the time is, timers tell. */
    top->emit_is_armed = top->emit_due_ms > 0;
    top->period_is_armed = top->period_ms > 0;
    enum weir_actor_result result =
        top->emit_is_armed ? weir_timer_set(self, TIMER_EMIT, 0, 0) : (enum weir_actor_result)WEIR_ACTOR_OK;
    return result == WEIR_ACTOR_OK && top->period_is_armed ? weir_timer_set(self, TIMER_PERIOD, 0, 0) : result;
}

static void top_stop(struct weir_self *self, void *state)
{
    struct top *top = state;
    while (top->boards.oldest != NULL) {
        summary_fini(self, &((struct board *)top->boards.oldest)->summary);
        kit_table_remove(self, &top->boards, top->boards.oldest);
    }
    kit_table_fini(self, &top->boards);
    weir_free(self, (void *)top->sorted);
    weir_free(self, (void *)(uintptr_t)top->kept.data);
    weir_free(self, top);
}

KIT_PLUGIN(top, "the K heaviest keys of each topic, since ever or in each period");
