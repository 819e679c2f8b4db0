/* Runs: neighbouring records of a batch that were handled in one go (plugin_straight.c), each of which brought about
 * one emission to its own topic. They are kept as one input, and answered as one, as long as nothing but the usual
 * becomes of them. As soon as they are to be looked at one by one (the instance has ended, or a topic refuses some of
 * them, or acknowledges them in parts) each becomes an input as any other, at its position, which was left free for it.
 *
 * A run has references of its own to the batch's block and to the slices, whatever lies beside it in the ring. Its last
 * position says KEPT_RUN, too, so that whoever looks at what comes before the next input finds that it is no
 * neighbour in a page. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

static const struct record_slice *batch_slices(const struct plugin *plugin, const struct message *batch)
{
    const struct record_slice *slices = arena_data(plugin->arena, batch->hold[1]);
    return slices + batch->word[0];
}

static weir_msg held(const struct plugin *plugin, weir_msg block)
{
    enum weir_error error = arena_hold(plugin->arena, block);
    ENSURE(error == WEIR_OK);
    return block;
}

/* What all records of a batch have alike, and the first one's number. */
static struct kept kept_of_batch(const struct plugin *plugin, const struct message *batch)
{
    return (struct kept){.page = batch->hold[0],
                         .place = TOPIC_MARK_OF(batch->detail),
                         .kind = WEIR_MESSAGE_RECORD,
                         .is_record = true,
                         .level = (uint8_t)TOPIC_ACK_LEVEL(batch->word[2]),
                         .time_ms = plugin->now_ms,
                         .publisher = batch->from,
                         .number = TOPIC_NUMBER(batch->word[2])};
}

static void bytes_set(struct kept *kept, const uint8_t *data, const struct record_slice *slice)
{
    struct view key = key_text(view_of(data + slice->key_offset, slice->key_size));
    kept->data = slice->key_size > 0 ? key.data : data + slice->value_offset;
    kept->key_size = (uint16_t)key.size;
    kept->value_size = slice->value_size;
    kept->has_key = slice->key_size > 0;
}

/* One reference of two that neighbours have to the same block goes. */
static void page_join(struct plugin *plugin, const struct kept *kept, const struct kept *beside)
{
    if (beside->state != KEPT_RUN && beside->page.bits == kept->page.bits)
        arena_drop(plugin->arena, kept->page);
}

void run_add(struct plugin *plugin, const struct message *batch, uint32_t count, uint32_t bytes)
{
    struct kept_ring *ring = &plugin->kept;
    struct outbox *outbox = plugin->outbox;
    uint64_t position = ring->end, first = plugin->sent_next;
    kept_page_end(plugin);
    kept_at(plugin, position + count - 1)->state = KEPT_RUN;
    struct kept *kept = kept_at(plugin, position);
    *kept = kept_of_batch(plugin, batch);
    kept->state = KEPT_RUN;
    kept->page = held(plugin, batch->hold[0]);
    kept->why = held(plugin, batch->hold[1]);
    kept->as.run.count = count;
    kept->as.run.slice = (uint32_t)batch->word[0];
    kept->pending = count;
    kept->sent_before = first + count - 1;
    kept->value_size = bytes;
    for (uint32_t i = 0; i < count; i++)
        plugin->sent[(first + i) & (PLUGIN_SENT_MAX - 1)] = (struct sent){position, kept->place, false};
    ring->bytes += bytes;
    ring->next = ring->end = position + count;
    plugin->run_count++;
    plugin->sent_next += count;
    plugin->handled += count;
    plugin->has_state = true;
    struct place *place = place_at(plugin, kept->place);
    place->refs += count + 1;
    place->sent_last = kept->sent_before;
    if (outbox->bundle.count == count) { /* it is the first that lies there */
        outbox->place = kept->place;
        outbox->number = first;
        place->refs++;
    }
    if (!actor_is_none(kept->publisher))
        answer_owe(plugin, kept, position);
}

struct kept *record_add(struct plugin *plugin, const struct message *batch)
{
    struct kept_ring *ring = &plugin->kept;
    kept_page_end(plugin);
    const struct kept *before = ring->first < ring->end ? kept_at(plugin, ring->end - 1) : NULL;
    struct kept *kept = kept_at(plugin, ring->end++);
    *kept = kept_of_batch(plugin, batch);
    kept->state = KEPT_WAITING;
    kept->page = held(plugin, batch->hold[0]);
    bytes_set(kept, arena_data(plugin->arena, kept->page), batch_slices(plugin, batch));
    if (before != NULL)
        page_join(plugin, kept, before);
    ring->bytes += kept->key_size + kept->value_size;
    place_hold(plugin, kept->place);
    if (!actor_is_none(kept->publisher))
        answer_owe(plugin, kept, ring->end - 1);
    return kept;
}

void run_part(struct plugin *plugin, uint64_t position)
{
    struct kept_ring *ring = &plugin->kept;
    const struct kept run = *kept_at(plugin, position);
    uint32_t count = run.as.run.count;
    uint64_t first = run.sent_before - (count - 1), last = position + count - 1;
    const struct record_slice *slices = arena_data(plugin->arena, run.why);
    const uint8_t *data = arena_data(plugin->arena, run.page);
    REQUIRE(run.state == KEPT_RUN);
    for (uint32_t i = 0; i < count; i++) {
        struct kept *kept = kept_at(plugin, position + i);
        *kept = run;
        bytes_set(kept, data, &slices[run.as.run.slice + i]);
        kept->state = KEPT_DONE;
        kept->pending = run.pending > 0;
        kept->number += i;
        kept->ack_seq += run.ack_seq > 0 ? i : 0;
        kept->sent_before = first + i;
        kept->owed_step = 1;
        kept->as.timer = 0;
        kept->why = WEIR_MSG_NONE;
        if (run.pending > 0)
            plugin->sent[(first + i) & (PLUGIN_SENT_MAX - 1)].position = position + i;
    }
    struct place *place = place_at(plugin, run.place);
    place->refs += count - 1;
    kept_at(plugin, last)->owed_step = run.owed_step > 0 ? run.owed_step - (count - 1) : 0;
    if (run.is_owed && place->owed_last == position + 1)
        place->owed_last = last + 1;
    arena_drop(plugin->arena, run.why);
    if (position > ring->first)
        page_join(plugin, &run, kept_at(plugin, position - 1));
    if (last + 1 < ring->end)
        page_join(plugin, &run, kept_at(plugin, last + 1));
    plugin->run_count--;
}

void runs_part(struct plugin *plugin)
{
    for (uint64_t position = plugin->kept.first; plugin->run_count > 0; position++) {
        REQUIRE(position < plugin->kept.end);
        if (kept_at(plugin, position)->state == KEPT_RUN)
            run_part(plugin, position);
    }
}

uint32_t run_ack(struct turn *turn, struct plugin *plugin, uint64_t number, const struct message *ack)
{
    uint64_t done = number - ack->word[0];
    if (ack->tag != TOPIC_ACK || number < plugin->sent_first || number >= plugin->sent_next)
        return 0;
    const struct sent *sent = &plugin->sent[number & (PLUGIN_SENT_MAX - 1)];
    struct kept *kept = sent->is_over ? NULL : kept_at(plugin, sent->position);
    if (kept == NULL || kept->state != KEPT_RUN)
        return 0;
    uint32_t count = kept->as.run.count;
    if (kept->sent_before + 1 - count != number || ack->detail - done < count)
        return 0;
    if (number == plugin->sent_first)
        plugin->sent_first += count;
    for (uint32_t i = 0; number >= plugin->sent_first && i < count; i++)
        plugin->sent[(number + i) & (PLUGIN_SENT_MAX - 1)].is_over = true;
    struct place *place = place_at(plugin, kept->place);
    kept->ack_epoch = place->epoch = ack->word[1];
    kept->ack_seq = ack->word[2] + done;
    place->seq = kept->ack_seq + count - 1;
    place->refs -= count;
    kept->pending = 0;
    kept_answer(turn, plugin, kept);
    return count;
}
