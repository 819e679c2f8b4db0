/* What a handled input brought about goes out to topics, gathered into batches, and is acknowledged by them. A fold's
 * records go to its own topics on the control lane, a bounded number ahead; a processor publishes as everybody does,
 * and waits where a topic is full. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

#include <stdio.h>

#define OUTBOX_FIRST ((size_t)4096)
#define KEY_HEAD_MAX 3

static bool is_fold(const struct plugin *plugin) { return plugin->config->role == WEIR_ACTOR_FOLD; }

/* ----------------------------------------------------------------------------------------------- outbox */

static void outbox_forget(struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    if (outbox->count > 0)
        place_drop(plugin, outbox->place);
    /* A block that was sent is the topic's to read. */
    if (!msg_is_none(outbox->block) && !arena_is_unshared(plugin->arena, outbox->block)) {
        arena_drop(plugin->arena, outbox->block);
        outbox->block = WEIR_MSG_NONE;
        outbox->capacity = 0;
    }
    outbox->wanted = outbox->size;
    outbox->count = 0;
    outbox->size = 0;
}

/* Asks for the topic of a place that is emitted to. */
static void topic_ask(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    struct message ask = {.tag = DIRECTORY_ENSURE, .word = {index}};
    plugin->is_stalled = true;
    if (place->is_asked)
        return;
    enum weir_error error = arena_hold(plugin->arena, place->name);
    ask.hold[0] = place->name;
    if (!error) {
        error = turn_send(turn, plugin->instance->directory, &ask);
        if (error)
            arena_drop(plugin->arena, place->name);
    }
    if (error) {
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return;
    }
    place->is_asked = true;
    place_hold(plugin, index); /* until it is answered */
}

void emit_on_topic(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    uint32_t index = (uint32_t)message->word[0];
    struct place *place = place_at(plugin, index);
    enum weir_error error = (enum weir_error)message->word[2];
    struct view name = place_name(plugin, index);
    place->is_asked = false;
    place->topic = error ? WEIR_ACTOR_NONE : (weir_actor){message->word[1]};
    place->is_gone = error && error != WEIR_BUSY;
    if (place->is_gone)
        log_warning("plugin.no_topic", "plugin=%s topic=%.*s cause=%s", plugin->config->name, (int)name.size,
                    (const char *)name.data, weir_error_code(error));
    if (error == WEIR_BUSY)
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    else
        plugin->is_stalled = false;
    place_drop(plugin, index);
}

/* The block that was gathered in goes as it is, unless most of it is empty. */
static enum weir_error outbox_block(struct plugin *plugin, weir_msg *out)
{
    const struct outbox *outbox = plugin->outbox;
    *out = outbox->block;
    if (outbox->capacity <= 2 * outbox->size + OUTBOX_FIRST / 4)
        return arena_hold(plugin->arena, outbox->block);
    enum weir_error error = arena_alloc(plugin->arena, outbox->size, plugin->budget, out);
    if (!error)
        memcpy(arena_data(plugin->arena, *out), outbox->data, outbox->size);
    return error;
}

static enum weir_error outbox_message(struct plugin *plugin, struct message *message)
{
    const struct outbox *outbox = plugin->outbox;
    enum weir_error error = outbox_block(plugin, &message->hold[0]);
    if (error)
        return error;
    message->detail = outbox->count;
    if (outbox->count == 1) {
        message->word[0] = TOPIC_WORD(outbox->slices[0].key_offset, outbox->slices[0].key_size);
        message->word[1] = TOPIC_WORD(outbox->slices[0].value_offset, outbox->slices[0].value_size);
        return WEIR_OK;
    }
    size_t size = outbox->count * sizeof outbox->slices[0];
    error = arena_alloc(plugin->arena, size, plugin->budget, &message->hold[1]);
    if (error) {
        arena_drop(plugin->arena, message->hold[0]);
        return error;
    }
    memcpy(arena_data(plugin->arena, message->hold[1]), outbox->slices, size);
    return WEIR_OK;
}

static enum weir_error outbox_send(struct turn *turn, struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    struct message message = {.tag = is_fold(plugin) ? TOPIC_EMITTED : TOPIC_PUBLISH};
    weir_actor topic = place_at(plugin, outbox->place)->topic;
    if (actor_is_none(topic))
        return WEIR_STALE;
    message.word[2] = TOPIC_NUMBER_WORD(outbox->number, is_fold(plugin) ? ACK_FOLDED : ACK_NONE);
    enum weir_error error = outbox_message(plugin, &message);
    if (error)
        return error;
    error = is_fold(plugin) ? turn_control(turn, topic, &message) : turn_send(turn, topic, &message);
    if (error) {
        arena_drop(plugin->arena, message.hold[0]);
        arena_drop(plugin->arena, message.hold[1]);
    }
    return error;
}

bool outbox_flush(struct turn *turn, struct plugin *plugin)
{
    struct outbox *outbox = plugin->outbox;
    if (outbox->count == 0)
        return true;
    uint32_t index = outbox->place;
    enum weir_error error = outbox_send(turn, plugin);
    if (error == WEIR_OK) {
        plugin->emitted += outbox->count;
        outbox_forget(plugin);
        return true;
    }
    if (error == WEIR_STALE && is_fold(plugin)) {
        outbox_forget(plugin);
        emit_place_gone(turn, plugin, index);
        return true;
    }
    plugin->is_stalled = true;
    struct place *place = place_at(plugin, index);
    if (error == WEIR_STALE) {
        place->topic = WEIR_ACTOR_NONE;
        if (place->is_gone) { /* the directory made none: said so already */
            outbox_forget(plugin);
            place->is_gone = false;
            plugin->is_stalled = false;
            return true;
        }
        topic_ask(turn, plugin, index);
    } else if (error != WEIR_FULL || is_fold(plugin) || turn_await_room(turn, place->topic) != WEIR_OK) {
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
    }
    return false;
}

/* The shortest head of a str, of at most KEY_SIZE_MAX bytes. */
static size_t key_head(struct view key, uint8_t out[KEY_HEAD_MAX])
{
    if (key.size < 32) {
        out[0] = (uint8_t)(0xa0 | key.size);
        return 1;
    }
    out[0] = key.size < 256 ? 0xd9 : 0xda;
    out[1] = key.size < 256 ? (uint8_t)key.size : (uint8_t)(key.size >> 8);
    out[2] = (uint8_t)key.size;
    return key.size < 256 ? 2 : 3;
}

/* Room for so many bytes more. The first block is as large as the last message was. */
static enum weir_error outbox_reserve(struct plugin *plugin, size_t more)
{
    struct outbox *outbox = plugin->outbox;
    size_t wanted = outbox->size + more, size = outbox->capacity ? 2 * outbox->capacity : outbox->wanted;
    weir_msg block;
    if (wanted <= outbox->capacity)
        return WEIR_OK;
    if (size > PLUGIN_GATHER_BYTES)
        size = PLUGIN_GATHER_BYTES;
    if (size < wanted)
        size = wanted;
    enum weir_error error =
        arena_alloc(plugin->arena, size > OUTBOX_FIRST ? size : OUTBOX_FIRST, plugin->budget, &block);
    if (error)
        return error;
    uint8_t *data = arena_data(plugin->arena, block);
    if (outbox->size > 0)
        memcpy(data, outbox->data, outbox->size);
    arena_drop(plugin->arena, outbox->block);
    outbox->block = block;
    outbox->data = data;
    outbox->capacity = size > OUTBOX_FIRST ? size : OUTBOX_FIRST;
    return WEIR_OK;
}

static enum weir_error outbox_add(struct plugin *plugin, const struct brought_item *item)
{
    struct outbox *outbox = plugin->outbox;
    struct view key = item->key, value = item->value;
    uint8_t head[KEY_HEAD_MAX];
    size_t head_size = item->has_key ? key_head(key, head) : 0, key_size = head_size + key.size;
    enum weir_error error = outbox_reserve(plugin, key_size + value.size);
    if (error)
        return error;
    uint8_t *data = outbox->data + outbox->size;
    outbox->slices[outbox->count] = (struct record_slice){.key_offset = (uint32_t)outbox->size,
                                                          .key_size = (uint32_t)key_size,
                                                          .value_offset = (uint32_t)(outbox->size + key_size),
                                                          .value_size = (uint32_t)value.size};
    memcpy(data, head, head_size);
    if (key.size > 0)
        memcpy(data + head_size, key.data, key.size);
    memcpy(data + key_size, value.data, value.size);
    if (outbox->count++ == 0) {
        outbox->place = item->place;
        outbox->number = plugin->sent_next;
        place_hold(plugin, item->place);
    }
    outbox->size += key_size + value.size;
    return WEIR_OK;
}

/* False: so much was emitted lately that it must wait. */
static bool rate_allows(struct turn *turn, struct plugin *plugin, size_t bytes)
{
    uint64_t rate = plugin->config->emit_bytes_per_s, now_ns = turn_now_ns(turn);
    if (rate == 0)
        return true;
    if (plugin->rate_due_ns > now_ns) {
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, plugin->rate_due_ns - now_ns);
        return false;
    }
    plugin->rate_due_ns = now_ns + (uint64_t)((double)bytes * (double)NS_PER_S / (double)rate);
    return true;
}

/* WEIR_BUSY: it must wait. */
static enum weir_error emit_one(struct turn *turn, struct plugin *plugin, struct kept *kept, uint64_t position,
                                const struct brought_item *item)
{
    struct outbox *outbox = plugin->outbox;
    size_t size = item->key.size + item->value.size;
    bool is_other = outbox->place != item->place || outbox->count == TOPIC_BATCH_MAX ||
                    outbox->size + size + KEY_HEAD_MAX > PLUGIN_GATHER_BYTES;
    if (outbox->count > 0 && is_other && !outbox_flush(turn, plugin))
        return WEIR_BUSY;
    if (is_fold(plugin) && place_at(plugin, item->place)->is_gone) {
        kept->error = WEIR_CLOSED;
        return WEIR_OK;
    }
    if (is_fold(plugin) && plugin->sent_next - plugin->sent_first == PLUGIN_SENT_MAX) {
        (void)outbox_flush(turn, plugin);
        plugin->is_stalled = true; /* until topics acknowledge */
        return WEIR_BUSY;
    }
    if (!rate_allows(turn, plugin, size))
        return WEIR_BUSY;
    if (outbox_add(plugin, item) != WEIR_OK) {
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return WEIR_BUSY;
    }
    if (is_fold(plugin)) {
        plugin->sent[plugin->sent_next & (PLUGIN_SENT_MAX - 1)] = (struct sent){position, item->place, false};
        place_hold(plugin, item->place);
        place_at(plugin, item->place)->sent_last = plugin->sent_next;
        kept->pending++;
    }
    plugin->sent_next++;
    return WEIR_OK;
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

/* One emission is folded, or will never be. */
static void sent_over(struct turn *turn, struct plugin *plugin, uint64_t number, enum weir_error error, uint64_t epoch,
                      uint64_t seq)
{
    if (number < plugin->sent_first || number >= plugin->sent_next)
        return;
    struct sent *sent = &plugin->sent[number & (PLUGIN_SENT_MAX - 1)];
    if (sent->is_over)
        return;
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
    /* Records to that topic that brought about nothing may have waited for this one. */
    if (sent->place != kept->place)
        place_answer(turn, plugin, sent->place);
    while (plugin->sent_first < plugin->sent_next && plugin->sent[plugin->sent_first & (PLUGIN_SENT_MAX - 1)].is_over)
        plugin->sent_first++;
}

void outbox_give_up(struct turn *turn, struct plugin *plugin)
{
    const struct outbox *outbox = plugin->outbox;
    for (uint64_t i = 0; i < outbox->count; i++)
        sent_over(turn, plugin, outbox->number + i, WEIR_NO_MEMORY, 0, 0);
    outbox_forget(plugin);
}

void emit_on_ack(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    enum weir_error error = message->tag == TOPIC_ACK ? WEIR_OK : (enum weir_error)message->word[1];
    if (!is_fold(plugin)) {
        if (error)
            log_warning("plugin.emission_refused", "plugin=%s records=%u cause=%s", plugin->config->name,
                        message->detail, weir_error_code(error));
        return;
    }
    for (uint32_t i = 0; i < message->detail; i++)
        sent_over(turn, plugin, message->word[0] + i, error, message->word[1], message->word[2] + i);
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
