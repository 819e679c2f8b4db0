/* Records of a fold whose plugin runs in this thread are handled straight out of the batch that they came in: called
 * one after the other, with nothing copied before, and what a record brings about put into the block that goes to its
 * topic at once. As a rule that is one emission to the record's own topic, and then all of them together become a run
 * (plugin_runs.c). Whatever else a record brings about, a failure above all, goes the way of all inputs: the record is
 * kept as one, and the outputs wait in the host.
 *
 * Only where nothing else is to be handled before, and nothing is under way in the host. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

/* Of fewer bytes the blocks cost more than is saved. */
#define STRAIGHT_BYTES_MIN 512u
/* What `pending_at` says of a batch. */
enum { BATCH_NEW, BATCH_READY, BATCH_UNFIT };

/* The record in hand, and where its one emission goes. */
struct straight {
    struct plugin *plugin;
    struct view topic;
    weir_msg block; /* the batch's */
    const struct record_slice *slice;
    struct view key, value; /* in it */
};

static bool is_there(struct view view, struct view place) { return view.data == place.data && view.size == place.size; }

/* A record that is emitted as it is lies in a block already. */
static bool emission_is_record(const struct straight *straight, const struct plugin_output *output)
{
    bool is_key = output->has_key ? straight->slice->key_size > 0 && is_there(output->key, straight->key)
                                  : straight->slice->key_size == 0;
    return is_key && output->update_size == 0 && is_there(output->value, straight->value);
}

static bool emission_take(void *context, const struct plugin_output *output)
{
    const struct straight *straight = context;
    struct plugin *plugin = straight->plugin;
    struct bundle *bundle = &plugin->outbox->bundle;
    if (!is_there(output->topic, straight->topic) && !view_is_same(output->topic, straight->topic))
        return false;
    if (emission_is_record(straight, output) && bundle_lend(plugin, bundle, straight->block, straight->slice))
        return true;
    struct brought_item item;
    item.key = output->key;
    item.value = output->value;
    item.update_size = output->update_size;
    item.has_key = output->has_key;
    return bundle_has_room(bundle, &item) && bundle_add(plugin, bundle, &item) == WEIR_OK;
}

static void emission_take_back(void *context, struct plugin_output *out)
{
    const struct straight *straight = context;
    const uint8_t *data;
    struct record_slice slice = bundle_take_back(straight->plugin, &straight->plugin->outbox->bundle, &data);
    out->topic = straight->topic;
    out->has_key = slice.key_size > 0;
    if (out->has_key)
        out->key = key_text(view_of(data + slice.key_offset, slice.key_size));
    out->value = view_of(data + slice.value_offset, slice.value_size + slice.step);
    out->update_size = slice.step > 0 ? slice.value_size : 0;
}

/* ------------------------------------------------------------------------------------------------ batches */

static const struct record_slice *batch_slices(const struct plugin *plugin, const struct message *batch)
{
    const struct record_slice *slices = arena_data(plugin->arena, batch->hold[1]);
    return slices + batch->word[0];
}

/* Copies a batch into blocks of the plugin's own. False: there is no memory. */
static bool batch_copy(struct plugin *plugin, struct message *batch, size_t size)
{
    const struct record_slice *slices = batch_slices(plugin, batch);
    uint32_t count = TOPIC_MARKED_COUNT(batch->detail);
    weir_msg block, index;
    if (arena_alloc(plugin->arena, size, plugin->budget, &block) != WEIR_OK)
        return false;
    if (arena_alloc(plugin->arena, count * sizeof *slices, plugin->budget, &index) != WEIR_OK) {
        arena_drop(plugin->arena, block);
        return false;
    }
    const uint8_t *from = arena_data(plugin->arena, batch->hold[0]);
    uint8_t *data = arena_data(plugin->arena, block);
    struct record_slice *copies = arena_data(plugin->arena, index);
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct record_slice *slice = &slices[i];
        memcpy(data + at, from + slice->key_offset, slice->key_size);
        memcpy(data + at + slice->key_size, from + slice->value_offset, slice->value_size);
        copies[i] = (struct record_slice){at, slice->key_size, at + slice->key_size, slice->value_size, slice->step};
        at += slice->key_size + slice->value_size;
    }
    arena_drop(plugin->arena, batch->hold[0]);
    arena_drop(plugin->arena, batch->hold[1]);
    batch->hold[0] = block;
    batch->hold[1] = index;
    batch->word[0] = 0;
    return true;
}

/* One record comes without slices; it gets some, if it is large. */
static bool batch_index(struct plugin *plugin, struct message *batch)
{
    const struct record_slice only = {TOPIC_HIGH(batch->word[0]), TOPIC_LOW(batch->word[0]), TOPIC_HIGH(batch->word[1]),
                                      TOPIC_LOW(batch->word[1]), 0};
    if (!msg_is_none(batch->hold[1]))
        return true;
    if (only.value_size < STRAIGHT_BYTES_MIN ||
        arena_alloc(plugin->arena, sizeof only, plugin->budget, &batch->hold[1]) != WEIR_OK)
        return false;
    memcpy(arena_data(plugin->arena, batch->hold[1]), &only, sizeof only);
    batch->word[0] = batch->word[1] = 0;
    return true;
}

/* Kept inputs have a key's text and then the value. They may lie in the publisher's block until they are answered, if
 * they are most of it; what is kept for longer must not hold the publisher back. */
static bool batch_ready(struct plugin *plugin, struct message *batch)
{
    size_t size = 0;
    if (!batch_index(plugin, batch))
        return false;
    const struct record_slice *slices = batch_slices(plugin, batch);
    bool is_joined = true;
    for (uint32_t i = 0; i < TOPIC_MARKED_COUNT(batch->detail); i++) {
        size += slices[i].key_size + slices[i].value_size;
        is_joined &= slices[i].key_size == 0 || slices[i].key_offset + slices[i].key_size == slices[i].value_offset;
    }
    if (size < STRAIGHT_BYTES_MIN)
        return false;
    bool is_lent = !plugin->has_snapshot && is_joined && 2 * size >= arena_capacity(plugin->arena, batch->hold[0]);
    return is_lent || batch_copy(plugin, batch, size);
}

/* Sticks to what was found when it came to the front. */
static bool batch_is_ready(struct plugin *plugin, struct message *batch)
{
    if (plugin->pending_at == BATCH_NEW)
        plugin->pending_at = batch_ready(plugin, batch) ? BATCH_READY : BATCH_UNFIT;
    return plugin->pending_at == BATCH_READY;
}

bool batch_stays(struct plugin *plugin, struct message *batch)
{
    bool has_slices = !msg_is_none(batch->hold[1]);
    size_t size = has_slices ? batch_slices(plugin, batch)->value_size : TOPIC_LOW(batch->word[1]);
    if (size < PLUGIN_LEND_MIN)
        return false;
    /* Until its instance is there nobody knows whether it has a snapshot; and what a restart waits with is not to keep
     * publishers from their memory. */
    return (plugin->phase == PHASE_RUNNING || plugin->pending_at != BATCH_NEW) && batch_is_ready(plugin, batch);
}

void batch_step(struct plugin *plugin, struct message *batch, uint32_t count)
{
    const struct record_slice *slices = batch_slices(plugin, batch);
    uint32_t left = TOPIC_MARKED_COUNT(batch->detail) - count;
    uint64_t number = TOPIC_NUMBER(batch->word[2]) + count - 1 + (left > 0 ? record_step(&slices[count]) : 1);
    batch->word[0] += count;
    batch->word[2] = TOPIC_NUMBER_WORD(number, TOPIC_ACK_LEVEL(batch->word[2]));
    batch->detail = TOPIC_MARKED(TOPIC_MARK_OF(batch->detail), left);
}

bool straight_takes(struct plugin *plugin, const struct message *batch)
{
    if (plugin->ops->call == NULL || batch->tag != TOPIC_FORWARDED || plugin->pending_at == BATCH_UNFIT)
        return false;
    return plugin->phase == PHASE_RUNNING && plugin->replay_left == 0 && plugin->kept.next == plugin->kept.end &&
           plugin->inflight_count == 0 && !reload_holds(plugin) && plugin->config->emit_bytes_per_s == 0 &&
           !place_at(plugin, TOPIC_MARK_OF(batch->detail))->is_gone;
}

/* ------------------------------------------------------------------------------------------------ records */

/* Whether its records may join those that are gathered: of one block that is lent, or copied. */
static bool is_addable(const struct plugin *plugin, const struct message *batch)
{
    const struct bundle *bundle = &plugin->outbox->bundle;
    return msg_is_none(bundle->lent) || bundle->lent.bits == batch->hold[0].bits;
}

/* As many as there is room for: kept, and emitted without an acknowledgement. 0: not now. */
static uint32_t room_find(struct turn *turn, struct plugin *plugin, const struct message *batch, uint32_t wanted)
{
    uint32_t place = TOPIC_MARK_OF(batch->detail);
    const struct outbox *outbox = plugin->outbox;
    uint64_t unanswered = plugin->sent_next - plugin->sent_first;
    bool is_other = outbox->bundle.count > 0 && (outbox->place != place || !is_addable(plugin, batch));
    if ((is_other || unanswered == PLUGIN_SENT_MAX) && !outbox_flush(turn, plugin))
        return 0;
    if (unanswered == PLUGIN_SENT_MAX) {
        plugin->is_stalled = true; /* until topics acknowledge */
        return 0;
    }
    if (wanted > PLUGIN_SENT_MAX - unanswered)
        wanted = (uint32_t)(PLUGIN_SENT_MAX - unanswered);
    return kept_room(plugin, wanted);
}

/* What an input of that batch says, but for key and value. */
static struct plugin_input input_begin(struct plugin *plugin, uint32_t place)
{
    struct view topic = place_name(plugin, place);
    struct plugin_input input = {.kind = INPUT_MESSAGE};
    input.message.kind = WEIR_MESSAGE_RECORD;
    input.message.attempt = 1;
    input.message.topic = weir_bytes_of(topic.data, topic.size);
    input.message.time_ms = plugin->now_ms;
    return input;
}

/* Handles records until one brings about something else than one emission (is_over is false then), or so many are
 * handled. Returns how many that brought about just that. */
static uint32_t records_handle(struct plugin *plugin, const struct message *batch, uint32_t count, size_t *bytes,
                               bool *is_over, enum weir_error *error)
{
    uint32_t place = TOPIC_MARK_OF(batch->detail), done = 0;
    const struct record_slice *slices = batch_slices(plugin, batch);
    const uint8_t *data = arena_data(plugin->arena, batch->hold[0]);
    struct straight straight = {.plugin = plugin, .topic = place_name(plugin, place), .block = batch->hold[0]};
    const struct plugin_shortcut shortcut = {emission_take, emission_take_back, &straight};
    struct plugin_input input = input_begin(plugin, place);
    while (done < count) {
        const struct record_slice *slice = straight.slice = &slices[done];
        straight.key = key_text(view_of(data + slice->key_offset, slice->key_size));
        straight.value = view_of(data + slice->value_offset, slice->value_size);
        size_t size = straight.key.size + slice->value_size;
        bool is_next =
            done == 0 || (record_step(slice) == 1 && plugin->kept.bytes + *bytes + size <= PLUGIN_KEPT_BYTES_MAX);
        if (!is_next)
            break;
        input.number = plugin->host_number + 1;
        input.message.key = weir_bytes_of(slice->key_size > 0 ? straight.key.data : NULL, straight.key.size);
        input.message.value = weir_bytes_of(straight.value.data, straight.value.size);
        *error = plugin->ops->call(plugin->host, &input, &shortcut, is_over);
        if (*error)
            break;
        plugin->host_number++;
        if (!*is_over)
            break;
        *bytes += size;
        done++;
    }
    return done;
}

enum weir_error straight_handle(struct turn *turn, struct plugin *plugin, uint32_t *budget)
{
    struct message *batch = plugin->pending_count > 0 ? pending_front(plugin) : NULL;
    if (batch == NULL || plugin->is_stalled || !straight_takes(plugin, batch) || snapshot_is_due(plugin))
        return WEIR_AGAIN;
    if (!batch_is_ready(plugin, batch))
        return WEIR_AGAIN;
    uint32_t count = TOPIC_MARKED_COUNT(batch->detail);
    uint32_t room = room_find(turn, plugin, batch, count < *budget ? count : *budget);
    if (room == 0)
        return WEIR_AGAIN;
    enum weir_error error = WEIR_OK;
    bool is_over = true;
    size_t bytes = 0;
    uint32_t done = records_handle(plugin, batch, room, &bytes, &is_over, &error);
    if (done > 0) {
        run_add(plugin, batch, done, (uint32_t)bytes);
        batch_step(plugin, batch, done);
    }
    if (error) { /* it has no memory for what they may bring about */
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return WEIR_AGAIN;
    }
    if (!is_over) {
        record_add(plugin, batch);
        inflight_add(plugin, INPUT_MESSAGE, plugin->kept.next++);
        batch_step(plugin, batch, 1);
        done++;
    }
    *budget -= done;
    if (TOPIC_MARKED_COUNT(batch->detail) == 0)
        pending_pop(plugin);
    return WEIR_OK;
}
