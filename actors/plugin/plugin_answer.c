/* What publishers are told of their records, and when: those of one topic in the order in which they came, as
 * clients/PROTOCOL.md says, each when all that it brought about is folded. One that brought about nothing is told the
 * topic's seq, when all that was emitted to the topic before it is folded. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/log.h"

void answer_owe(struct plugin *plugin, struct kept *kept, uint64_t position)
{
    struct place *place = place_at(plugin, kept->place);
    uint64_t self = position + 1;
    kept->is_owed = true;
    if (place->owed_first == 0)
        place->owed_first = self;
    else
        kept_at(plugin, place->owed_last - 1)->owed_step = (uint32_t)(self - place->owed_last);
    place->owed_last = self;
}

void ack_flush(struct turn *turn, struct plugin *plugin)
{
    struct ack_run *run = &plugin->ack;
    if (run->count == 0)
        return;
    struct message ack = {.tag = TOPIC_ACK, .detail = run->count, .word = {run->number, run->epoch, run->seq}};
    if (turn_control(turn, run->to, &ack) == WEIR_FULL)
        log_warning("plugin.ack_lost", "plugin=%s number=%llu", plugin->config->name, (unsigned long long)run->number);
    run->count = 0;
}

static void tell_folded(struct turn *turn, struct plugin *plugin, const struct kept *kept)
{
    struct ack_run *run = &plugin->ack;
    uint64_t epoch = kept->ack_epoch, seq = kept->ack_seq;
    uint32_t count = kept->state == KEPT_RUN ? kept->as.run.count : 1;
    if (kept->level != ACK_FOLDED)
        return;
    if (seq == 0) { /* it changed nothing: the topic is where it was */
        epoch = place_at(plugin, kept->place)->epoch;
        seq = place_at(plugin, kept->place)->seq;
    }
    bool is_next = run->count > 0 && actor_is_same(run->to, kept->publisher) && run->epoch == epoch &&
                   kept->number == run->number + run->count && seq == run->seq + run->count;
    if (is_next) {
        run->count += count;
        return;
    }
    ack_flush(turn, plugin);
    *run = (struct ack_run){.to = kept->publisher, .count = count, .number = kept->number, .epoch = epoch, .seq = seq};
}

static void tell_refused(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    uint32_t attempts = kept->state == KEPT_DEAD ? kept->attempts : 1;
    struct message nack = {.tag = TOPIC_NACK,
                           .detail = 1,
                           .hold = {kept->why, WEIR_MSG_NONE},
                           .word = {kept->number, kept->error, attempts}};
    kept->why = WEIR_MSG_NONE;
    ack_flush(turn, plugin);
    enum weir_error sent = turn_control(turn, kept->publisher, &nack);
    if (sent)
        arena_drop(plugin->arena, nack.hold[0]);
    if (sent == WEIR_FULL)
        log_warning("plugin.nack_lost", "plugin=%s number=%llu", plugin->config->name,
                    (unsigned long long)kept->number);
}

static void tell(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    kept->is_owed = false;
    if (kept->error == WEIR_OK)
        tell_folded(turn, plugin, kept);
    else
        tell_refused(turn, plugin, kept);
}

/* ---------------------------------------------------------------------------------------------- requests */

static void answer_send(struct turn *turn, weir_actor to, uint64_t number, enum weir_error error, weir_msg *said)
{
    struct message answer = {.tag = TOPIC_ANSWER, .hold = {*said, WEIR_MSG_NONE}, .word = {number, error}};
    *said = WEIR_MSG_NONE;
    /* Who reads no answer has its deadline. */
    if (turn_control(turn, to, &answer) != WEIR_OK)
        arena_drop(turn_arena(turn), answer.hold[0]);
}

void ask_refuse(struct turn *turn, const struct message *message, enum weir_error error)
{
    weir_msg nothing = WEIR_MSG_NONE;
    answer_send(turn, message->from, message->word[1], error, &nothing);
}

void ask_reply(struct plugin *plugin, struct kept *kept, struct view value)
{
    enum weir_error error = arena_alloc(plugin->arena, value.size, plugin->budget, &kept->why);
    if (error == WEIR_OK)
        memcpy(arena_data(plugin->arena, kept->why), value.data, value.size);
    else
        kept->error = (uint8_t)error;
}

/* Of a request that is over: the reply, unless what it brought about was not folded. */
static void tell_asker(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    static const char none[] = "the plugin gave no reply";
    kept->is_owed = false;
    if (kept->state == KEPT_DONE && kept->error != WEIR_OK) {
        arena_drop(plugin->arena, kept->why);
        kept->why = WEIR_MSG_NONE;
    } else if (kept->state == KEPT_DONE && msg_is_none(kept->why)) {
        kept->error = WEIR_BAD_REQUEST;
        if (arena_alloc(plugin->arena, sizeof none - 1, plugin->budget, &kept->why) == WEIR_OK)
            memcpy(arena_data(plugin->arena, kept->why), none, sizeof none - 1);
    }
    answer_send(turn, kept->publisher, kept->number, kept->error, &kept->why);
}

/* ----------------------------------------------------------------------------------------------- records */

/* Whether it is known what became of a record. */
static bool is_decided(const struct plugin *plugin, const struct kept *kept)
{
    if (kept->state == KEPT_WAITING || kept->pending > 0)
        return false;
    if (kept->error != WEIR_OK || kept->ack_seq > 0)
        return true;
    const struct place *place = &plugin->places.items[kept->place];
    return sent_is_over(plugin, kept->sent_before) && place->clears == 0; /* else its epoch is to change */
}

void place_answer(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    while (place->owed_first > 0) {
        struct kept *kept = kept_at(plugin, place->owed_first - 1);
        if (!is_decided(plugin, kept))
            return;
        place->owed_first = kept->owed_step > 0 ? place->owed_first + kept->owed_step : 0;
        tell(turn, plugin, kept);
    }
}

void kept_answer(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    if (kept->kind == WEIR_MESSAGE_RESET && kept->error != WEIR_OK && !actor_is_none(kept->publisher)) {
        /* The order to clear a topic, which else answers itself. Whoever gave it and does not read need not know. */
        struct message done = {.tag = TOPIC_DONE, .word = {kept->error, kept->number}};
        (void)!turn_control(turn, kept->publisher, &done);
    }
    bool is_asked = kept->is_owed && kept->kind == WEIR_MESSAGE_ASK;
    if (is_asked)
        tell_asker(turn, plugin, kept);
    if (kept->is_owed || (is_asked && kept->place != PLACE_NONE))
        place_answer(turn, plugin, kept->place);
}

void kept_refuse(struct turn *turn, struct plugin *plugin, struct kept *kept, enum weir_error error, struct view text)
{
    kept->error = (uint8_t)error;
    /* Without memory the error must do. */
    if (kept->is_owed && text.size > 0 && arena_alloc(plugin->arena, text.size, plugin->budget, &kept->why) == WEIR_OK)
        memcpy(arena_data(plugin->arena, kept->why), text.data, text.size);
    kept_answer(turn, plugin, kept);
}

void answers_end(struct turn *turn, struct plugin *plugin)
{
    runs_part(plugin);
    for (uint64_t position = plugin->kept.first; position < plugin->kept.end; position++) {
        struct kept *kept = kept_at(plugin, position);
        bool is_open = kept->state == KEPT_WAITING || kept->pending > 0;
        if (kept->is_owed && kept->kind == WEIR_MESSAGE_ASK) {
            /* By itself: its topic's records are told in this loop. */
            kept->error = WEIR_CLOSED;
            tell_asker(turn, plugin, kept);
            continue;
        }
        if (kept->is_owed && !is_decided(plugin, kept))
            kept->error = WEIR_CLOSED;
        if (kept->is_owed)
            tell(turn, plugin, kept);
        else if (is_open && kept->kind == WEIR_MESSAGE_RESET)
            kept_refuse(turn, plugin, kept, WEIR_CLOSED, view_of(NULL, 0));
    }
    ack_flush(turn, plugin);
}
