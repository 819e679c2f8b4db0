/* What a handled input brought about goes out to topics, gathered into batches, and is acknowledged by them. A fold's
 * records go to its own topics on the control lane, a bounded number ahead; a processor's are plugin_outgoing.c's. In
 * the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

static bool is_fold(const struct plugin *plugin) { return plugin->config->role == WEIR_ACTOR_FOLD; }

/* ----------------------------------------------------------------------------------------------- outbox */

static void outbox_forget(struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    if (outbox->bundle.count > 0)
        place_drop(plugin, outbox->place);
    bundle_forget(plugin, &outbox->bundle);
}

void emit_on_topic(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    uint32_t index = (uint32_t)message->word[0];
    struct place *place = place_at(plugin, index);
    enum weir_error error = (enum weir_error)message->word[2];
    struct view name = place_name(plugin, index);
    uint64_t suppressed = 0;
    place->is_asked = false;
    place->topic = error ? WEIR_ACTOR_NONE : (weir_actor){message->word[1]};
    place->is_gone = error && error != WEIR_BUSY;
    /* As many names as what publishers write may make. */
    if (place->is_gone && log_limit_pass(&plugin->no_topic, turn_now_ns(turn), &suppressed))
        log_warning("plugin.no_topic", "plugin=%s topic=%.*s cause=%s suppressed=%llu", plugin->config->name,
                    (int)name.size, (const char *)name.data, weir_error_code(error), (unsigned long long)suppressed);
    plugin->is_stalled = false;
    outgoing_on_topic(turn, plugin, index, error);
    place_drop(plugin, index);
}

static enum weir_error outbox_send(struct turn *turn, struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    struct message message = {.tag = TOPIC_EMITTED, .word = {0, 0, TOPIC_NUMBER_WORD(outbox->number, ACK_FOLDED)}};
    weir_actor topic = place_at(plugin, outbox->place)->topic;
    if (actor_is_none(topic))
        return WEIR_STALE;
    enum weir_error error = bundle_message(plugin, &outbox->bundle, &message);
    if (error)
        return error;
    error = turn_control(turn, topic, &message);
    if (error) {
        arena_drop(plugin->arena, message.hold[0]);
        arena_drop(plugin->arena, message.hold[1]);
    }
    return error;
}

bool outbox_flush(struct turn *turn, struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    if (outbox->bundle.count == 0)
        return true;
    uint32_t index = outbox->place;
    enum weir_error error = outbox_send(turn, plugin);
    if (error == WEIR_OK)
        plugin->emitted += outbox->bundle.count;
    if (error == WEIR_OK || error == WEIR_STALE)
        outbox_forget(plugin);
    if (error == WEIR_STALE)
        emit_place_gone(turn, plugin, index);
    if (error == WEIR_OK || error == WEIR_STALE)
        return true;
    plugin->is_stalled = true;
    plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    return false;
}

/* A large record that is emitted as it is lies in a block already, which may go to the topic. */
static bool is_lendable(const struct brought_item *item, const struct kept *kept)
{
    return kept->is_record && item->value.data == kept->data + kept->key_size && item->update_size == 0 &&
           item->value.size == kept->value_size && item->value.size >= PLUGIN_LEND_MIN &&
           item->has_key == kept->has_key && (!item->has_key || item->key.data == kept->data);
}

/* Whether it may go with what is gathered: copied, or in one block. */
static bool outbox_takes(const struct outbox *outbox, const struct brought_item *item, const struct kept *kept)
{
    const struct bundle *bundle = &outbox->bundle;
    if (bundle->count == 0)
        return true;
    if (outbox->place != item->place)
        return false;
    return msg_is_none(bundle->lent)
               ? bundle_has_room(bundle, item)
               : bundle->lent.bits == kept->page.bits && bundle->count < TOPIC_BATCH_MAX && is_lendable(item, kept);
}

static bool outbox_lend(struct plugin *plugin, const struct kept *kept)
{
    const uint8_t *block = arena_data(plugin->arena, kept->page);
    uint32_t at = (uint32_t)(kept->data - block), head = kept->has_key ? key_head_size(kept->key_size) : 0;
    const struct record_slice slice = {at - head, head + kept->key_size, at + kept->key_size, kept->value_size, 0};
    return bundle_lend(plugin, &plugin->outbox->bundle, kept->page, &slice);
}

static enum weir_error outbox_add(struct plugin *plugin, const struct kept *kept, const struct brought_item *item)
{
    struct outbox *outbox = plugin->outbox;
    enum weir_error error = WEIR_OK;
    if (!is_lendable(item, kept) || !outbox_lend(plugin, kept))
        error = msg_is_none(outbox->bundle.lent) ? bundle_add(plugin, &outbox->bundle, item) : WEIR_NO_MEMORY;
    if (error || outbox->bundle.count > 1)
        return error;
    outbox->place = item->place;
    outbox->number = plugin->sent_next;
    place_hold(plugin, item->place);
    return WEIR_OK;
}

/* False: so much was emitted lately that it must wait. */
static bool rate_allows(struct turn *turn, struct plugin *plugin)
{
    if (plugin->config->emit_bytes_per_s == 0 || plugin->rate_due_ns <= turn_now_ns(turn))
        return true;
    plugin->is_stalled = true;
    plugin_retry_arm(turn, plugin, plugin->rate_due_ns - turn_now_ns(turn));
    return false;
}

static void rate_count(struct turn *turn, struct plugin *plugin, size_t bytes)
{
    uint64_t rate = plugin->config->emit_bytes_per_s;
    if (rate > 0)
        plugin->rate_due_ns = turn_now_ns(turn) + (uint64_t)((double)bytes * (double)NS_PER_S / (double)rate);
}

/* To a fold's own topic. WEIR_BUSY: it must wait. */
static enum weir_error emit_own(struct turn *turn, struct plugin *plugin, struct kept *kept, uint64_t position,
                                const struct brought_item *item)
{
    struct outbox *outbox = plugin->outbox;
    struct place *place = place_at(plugin, item->place);
    if (!outbox_takes(outbox, item, kept) && !outbox_flush(turn, plugin))
        return WEIR_BUSY;
    if (place->is_gone) {
        kept->error = WEIR_CLOSED;
        return WEIR_OK;
    }
    if (plugin->sent_next - plugin->sent_first == PLUGIN_SENT_MAX) {
        (void)outbox_flush(turn, plugin);
        plugin->is_stalled = true; /* until topics acknowledge */
        return WEIR_BUSY;
    }
    if (outbox_add(plugin, kept, item) != WEIR_OK) {
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return WEIR_BUSY;
    }
    plugin->sent[plugin->sent_next & (PLUGIN_SENT_MAX - 1)] = (struct sent){position, item->place, false};
    place->refs++;
    place->sent_last = plugin->sent_next++;
    kept->pending++;
    return WEIR_OK;
}

/* WEIR_BUSY: it must wait. */
static enum weir_error emit_one(struct turn *turn, struct plugin *plugin, struct kept *kept, uint64_t position,
                                const struct brought_item *item)
{
    if (!rate_allows(turn, plugin))
        return WEIR_BUSY;
    enum weir_error error =
        is_fold(plugin) ? emit_own(turn, plugin, kept, position, item) : outgoing_add(turn, plugin, item);
    if (error == WEIR_OK)
        rate_count(turn, plugin, item->key.size + item->value.size);
    return error;
}

enum weir_error brought_commit(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    struct brought *brought = &plugin->brought;
    uint64_t position = plugin->inflight[plugin->inflight_first].position;
    if (brought->has_forbidden && !kept->is_replayed) {
        brought->has_forbidden = false;
        kept->error = WEIR_FORBIDDEN;
        plugin->refused++;
    }
    for (; brought->at < brought->count; brought->at++) {
        const struct brought_item *item = &brought->items[brought->at];
        if (item->kind == OUTPUT_REPLY) {
            if (!kept->is_replayed)
                ask_reply(plugin, kept, item->value);
            continue;
        }
        if (item->kind != OUTPUT_EMIT) {
            plugin_timers_apply(turn, plugin, item, kept->is_replayed ? kept->time_ms : plugin->now_ms,
                                kept->is_replayed);
            continue;
        }
        if (!kept->is_replayed && emit_one(turn, plugin, kept, position, item) != WEIR_OK)
            return WEIR_BUSY;
        place_drop(plugin, item->place);
    }
    brought_clear(plugin, brought);
    return WEIR_OK;
}

enum weir_error place_clear(struct turn *turn, struct plugin *plugin, uint32_t index, weir_actor from, uint64_t word,
                            enum topic_cause cause)
{
    struct place *place = place_at(plugin, index);
    const struct message clear = {.tag = TOPIC_CLEAR, .word = {word, 0, cause}};
    if (actor_is_none(place->topic))
        return WEIR_STALE;
    /* The topic answers whoever ordered it. */
    enum weir_error error = actor_control(turn_runtime(turn), from, place->topic, &clear);
    place->clears += error == WEIR_OK;
    return error;
}

void emit_on_cleared(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    uint32_t index = TOPIC_MARK_OF(message->detail);
    if (index >= plugin->places.used)
        return;
    struct place *place = place_at(plugin, index);
    if (place->clears == 0 || !actor_is_same(place->topic, message->from))
        return;
    place->clears--;
    place->epoch = message->word[0];
    place->seq = message->word[1];
    place_answer(turn, plugin, index);
    kept_release(plugin);
}

bool emit_clear(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    /* Behind all that was emitted to it before. */
    if (!outbox_flush(turn, plugin))
        return false;
    enum weir_error error = place_clear(turn, plugin, kept->place, kept->publisher, kept->number, CAUSE_CLEARED);
    if (error == WEIR_STALE)
        kept->error = WEIR_CLOSED;
    kept->is_cleared = error == WEIR_OK || error == WEIR_STALE;
    if (!kept->is_cleared) {
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    }
    return kept->is_cleared;
}

/* -------------------------------------------------------------------------------------- acknowledgements */

static void sent_advance(struct plugin *plugin)
{
    while (plugin->sent_first < plugin->sent_next && plugin->sent[plugin->sent_first & (PLUGIN_SENT_MAX - 1)].is_over)
        plugin->sent_first++;
}

/* One emission is folded, or will never be. */
static void sent_over(struct turn *turn, struct plugin *plugin, uint64_t number, enum weir_error error, uint64_t epoch,
                      uint64_t seq)
{
    if (number < plugin->sent_first || number >= plugin->sent_next)
        return;
    struct sent *sent = &plugin->sent[number & (PLUGIN_SENT_MAX - 1)];
    if (sent->is_over)
        return;
    if (plugin->run_count > 0 && kept_at(plugin, sent->position)->state == KEPT_RUN)
        run_part(plugin, sent->position);
    sent->is_over = true;
    struct kept *kept = kept_at(plugin, sent->position);
    struct place *place = place_at(plugin, sent->place);
    if (error != WEIR_OK) {
        kept->error = (uint8_t)error;
    } else {
        kept->ack_epoch = place->epoch = epoch;
        kept->ack_seq = place->seq = seq;
    }
    place->refs--;
    if (--kept->pending == 0)
        kept_answer(turn, plugin, kept);
    /* Records to that topic that brought about nothing may have waited for this one: also behind the order to clear
     * it, which is none of those that are answered in their turn. */
    if (sent->place != kept->place || kept->kind != WEIR_MESSAGE_RECORD)
        place_answer(turn, plugin, sent->place);
    sent_advance(plugin);
}

void outbox_give_up(struct turn *turn, struct plugin *plugin)
{
    const struct outbox *outbox = plugin->outbox;
    for (uint64_t i = 0; i < outbox->bundle.count; i++)
        sent_over(turn, plugin, outbox->number + i, WEIR_NO_MEMORY, 0, 0);
    outbox_forget(plugin);
}

void emit_on_ack(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    enum weir_error error = message->tag == TOPIC_ACK ? WEIR_OK : (enum weir_error)message->word[1];
    if (!is_fold(plugin)) {
        outgoing_on_ack(turn, plugin, message);
        return;
    }
    for (uint32_t i = 0, together = 0; i<message->detail; i += together> 0 ? together : 1) {
        together = plugin->run_count > 0 ? run_ack(turn, plugin, message->word[0] + i, message) : 0;
        if (together == 0)
            sent_over(turn, plugin, message->word[0] + i, error, message->word[1], message->word[2] + i);
    }
    sent_advance(plugin);
    kept_release(plugin);
}

void emit_place_gone(struct turn *turn, struct plugin *plugin, uint32_t place)
{
    for (uint64_t number = plugin->sent_first; number < plugin->sent_next; number++) {
        const struct sent *sent = &plugin->sent[number & (PLUGIN_SENT_MAX - 1)];
        if (!sent->is_over && sent->place == place)
            sent_over(turn, plugin, number, WEIR_CLOSED, 0, 0);
    }
    place_at(plugin, place)->clears = 0;
    place_answer(turn, plugin, place);
    kept_release(plugin);
}
