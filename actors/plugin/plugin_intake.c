/* What comes to a plugin waits as the messages it came with, and becomes inputs one by one as the ring of kept inputs
 * has room: their bytes are copied there, so that what others lent is given back at once and a restart finds it. In the
 * plugin's turns. */
#include "actors/plugin/plugin_state.h"
#include "clients/wire/frame.h"

#define PENDING_FIRST 64u

/* ---------------------------------------------------------------------------------------------- pending */

static enum weir_error pending_grow(struct plugin *plugin)
{
    uint32_t capacity = plugin->pending_capacity ? plugin->pending_capacity * 2 : PENDING_FIRST;
    weir_msg block;
    enum weir_error error = arena_alloc(plugin->arena, capacity * sizeof(struct message), plugin->budget, &block);
    if (error)
        return error;
    struct message *items = arena_data(plugin->arena, block);
    for (uint32_t i = 0; i < plugin->pending_count; i++)
        items[i] = plugin->pending[(plugin->pending_first + i) & (plugin->pending_capacity - 1)];
    arena_drop(plugin->arena, plugin->pending_block);
    plugin->pending = items;
    plugin->pending_block = block;
    plugin->pending_capacity = capacity;
    plugin->pending_first = 0;
    return WEIR_OK;
}

enum weir_error pending_push(struct plugin *plugin, struct message *message)
{
    if (plugin->pending_count == plugin->pending_capacity) {
        enum weir_error error = pending_grow(plugin);
        if (error)
            return error;
    }
    uint32_t index = (plugin->pending_first + plugin->pending_count++) & (plugin->pending_capacity - 1);
    plugin->pending[index] = *message;
    message->hold[0] = message->hold[1] = WEIR_MSG_NONE;
    plugin->taken++;
    return WEIR_OK;
}

void pending_pop(struct plugin *plugin)
{
    struct message *message = pending_front(plugin);
    for (int hold = 0; hold < MESSAGE_HOLDS; hold++)
        arena_drop(plugin->arena, message->hold[hold]);
    plugin->pending_first = (plugin->pending_first + 1) & (plugin->pending_capacity - 1);
    plugin->pending_count--;
    plugin->pending_at = 0;
}

/* ------------------------------------------------------------------------------------------------- kept */

static enum weir_error kept_grow(struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    uint32_t capacity = ring->capacity ? ring->capacity * 2 : PLUGIN_KEPT_FIRST;
    weir_msg block;
    enum weir_error error = arena_alloc(plugin->arena, capacity * sizeof(struct kept), plugin->budget, &block);
    if (error)
        return error;
    struct kept *items = arena_data(plugin->arena, block);
    for (uint64_t position = ring->first; position < ring->end; position++)
        items[position & (capacity - 1)] = ring->items[position & (ring->capacity - 1)];
    arena_drop(plugin->arena, ring->block);
    ring->items = items;
    ring->block = block;
    ring->capacity = capacity;
    return WEIR_OK;
}

static bool kept_has_room(struct plugin *plugin, size_t size)
{
    struct kept_ring *ring = &plugin->kept;
    uint64_t count = ring->end - ring->first;
    /* One that is larger than the bound is let in alone. */
    if (count >= PLUGIN_KEPT_MAX || (ring->bytes + size > PLUGIN_KEPT_BYTES_MAX && count > 0))
        return false;
    return count < ring->capacity || kept_grow(plugin) == WEIR_OK;
}

uint32_t kept_room(struct plugin *plugin, uint32_t wanted)
{
    const struct kept_ring *ring = &plugin->kept;
    uint64_t count = ring->end - ring->first;
    if (count >= PLUGIN_KEPT_MAX || (ring->bytes >= PLUGIN_KEPT_BYTES_MAX && count > 0))
        return 0;
    if (wanted > PLUGIN_KEPT_MAX - count)
        wanted = (uint32_t)(PLUGIN_KEPT_MAX - count);
    while (ring->capacity - count < wanted && kept_grow(plugin) == WEIR_OK)
        ;
    return ring->capacity - count < wanted ? (uint32_t)(ring->capacity - count) : wanted;
}

/* Gives up a page that is not filled any more if no item lies in it: the neighbour of those that did is `beside`, NULL:
 * there is none. */
static void page_release(struct plugin *plugin, weir_msg page, const struct kept *beside)
{
    if (beside == NULL || beside->state == KEPT_RUN || beside->page.bits != page.bits)
        arena_drop(plugin->arena, page);
}

void kept_page_end(struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    if (msg_is_none(ring->page))
        return;
    ring->page_wanted = 2 * ring->page_used;
    page_release(plugin, ring->page, ring->first < ring->end ? kept_at(plugin, ring->end - 1) : NULL);
    ring->page = WEIR_MSG_NONE;
    ring->page_used = ring->page_size = 0;
}

/* Room for so many bytes in the page being filled, or a new one. NULL: no memory. */
static uint8_t *page_reserve(struct plugin *plugin, size_t size)
{
    struct kept_ring *ring = &plugin->kept;
    if (msg_is_none(ring->page) || ring->page_size - ring->page_used < size) {
        /* One that was filled is followed by a larger one. */
        size_t wanted = msg_is_none(ring->page) ? ring->page_wanted : 2 * ring->page_size;
        wanted = wanted > PLUGIN_PAGE_FIRST ? wanted : PLUGIN_PAGE_FIRST;
        wanted = wanted < PLUGIN_PAGE_SIZE ? wanted : PLUGIN_PAGE_SIZE;
        wanted = wanted > size ? wanted : size;
        weir_msg block;
        if (arena_alloc(plugin->arena, wanted, plugin->budget, &block) != WEIR_OK)
            return NULL;
        page_release(plugin, ring->page, ring->first < ring->end ? kept_at(plugin, ring->end - 1) : NULL);
        ring->page = block;
        ring->page_data = arena_data(plugin->arena, block);
        ring->page_used = 0;
        ring->page_size = wanted;
    }
    ring->page_used += size;
    return ring->page_data + ring->page_used - size;
}

/* Nothing is kept: the page being filled is empty again, and one that was made for a large item goes. */
static void page_restart(struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    ring->page_used = 0;
    if (ring->page_size <= PLUGIN_PAGE_SIZE)
        return;
    arena_drop(plugin->arena, ring->page);
    ring->page = WEIR_MSG_NONE;
    ring->page_size = 0;
}

/* The next item of the ring, with the bytes copied; NULL: no room now. */
static struct kept *kept_add(struct plugin *plugin, uint8_t kind, uint32_t place, struct view key, struct view value)
{
    struct kept_ring *ring = &plugin->kept;
    struct view text = key_text(key);
    size_t size = text.size + value.size;
    if (!kept_has_room(plugin, size + 1))
        return NULL;
    uint8_t *data = page_reserve(plugin, size + 1);
    if (data == NULL)
        return NULL;
    if (text.size > 0)
        memcpy(data, text.data, text.size);
    if (value.size > 0)
        memcpy(data + text.size, value.data, value.size);
    place_hold(plugin, place);
    ring->bytes += size;
    struct kept *kept = kept_at(plugin, ring->end++);
    kept->page = ring->page;
    kept->data = data;
    kept->key_size = (uint16_t)text.size;
    kept->value_size = (uint32_t)value.size;
    kept->place = place;
    kept->pending = kept->credit = kept->owed_step = 0;
    kept->kind = kind;
    kept->state = KEPT_WAITING;
    kept->attempts = kept->replays = kept->level = kept->error = 0;
    kept->has_key = key.size > 0;
    kept->is_replayed = kept->is_cleared = kept->is_record = kept->is_owed = false;
    kept->epoch = kept->seq = kept->as.timer = kept->number = 0;
    kept->ack_epoch = kept->ack_seq = kept->sent_before = 0;
    kept->why = WEIR_MSG_NONE;
    kept->time_ms = plugin->now_ms;
    kept->publisher = WEIR_ACTOR_NONE;
    return kept;
}

bool kept_add_timer(struct plugin *plugin, uint64_t id)
{
    struct kept *kept = kept_add(plugin, WEIR_MESSAGE_TIMER, PLACE_NONE, view_of(NULL, 0), view_of(NULL, 0));
    if (kept != NULL)
        kept->as.timer = id;
    return kept != NULL;
}

bool kept_add_reset(struct plugin *plugin, uint32_t place, struct view nil)
{
    return kept_add(plugin, WEIR_MESSAGE_RESET, place, view_of(NULL, 0), nil) != NULL;
}

static bool is_needed(const struct plugin *plugin, const struct kept *kept, uint64_t position)
{
    if (kept->state == KEPT_WAITING || kept->pending > 0 || kept->is_owed)
        return true;
    return plugin->has_snapshot && position >= plugin->kept.cover;
}

void kept_release(struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    while (ring->first < ring->next) {
        struct kept *kept = kept_at(plugin, ring->first);
        if (is_needed(plugin, kept, ring->first))
            return;
        weir_msg page = kept->page;
        ring->bytes -= kept->key_size + kept->value_size;
        place_drop(plugin, kept->place);
        if (kept->state == KEPT_RUN) {
            ring->first += kept->as.run.count;
            plugin->run_count--;
            arena_drop(plugin->arena, page);
            arena_drop(plugin->arena, kept->why);
            continue;
        }
        ring->first++;
        if (page.bits != ring->page.bits)
            page_release(plugin, page, ring->first < ring->end ? kept_at(plugin, ring->first) : NULL);
        else if (ring->first == ring->end)
            page_restart(plugin);
    }
}

void kept_settle(struct turn *turn, struct plugin *plugin, struct kept *kept)
{
    if (kept->credit > 0 && kept->number == place_at(plugin, kept->place)->feed)
        follow_credit(turn, plugin, kept->place, kept->credit);
    kept->credit = 0;
}

/* ----------------------------------------------------------------------------------------------- intake */

/* A batch that may stay where it is, record by record. False: no room for all. */
static bool intake_batch(struct plugin *plugin, struct message *message)
{
    while (TOPIC_MARKED_COUNT(message->detail) > 0) {
        if (kept_room(plugin, 1) == 0)
            return false;
        record_add(plugin, message);
        batch_step(plugin, message, 1);
    }
    return true;
}

/* A batch of a fold's topic, record by record; what is left stays in the message. False: no room for all. */
static bool intake_forwarded(struct plugin *plugin, struct message *message)
{
    if (batch_stays(plugin, message))
        return intake_batch(plugin, message);
    uint32_t mark = TOPIC_MARK_OF(message->detail), count = TOPIC_MARKED_COUNT(message->detail);
    const uint8_t *data = arena_data(plugin->arena, message->hold[0]);
    uint64_t number = TOPIC_NUMBER(message->word[2]);
    enum ack_level level = TOPIC_ACK_LEVEL(message->word[2]);
    const struct record_slice only = {TOPIC_HIGH(message->word[0]), TOPIC_LOW(message->word[0]),
                                      TOPIC_HIGH(message->word[1]), TOPIC_LOW(message->word[1]), 0};
    const struct record_slice *slices =
        msg_is_none(message->hold[1]) ? NULL : arena_data(plugin->arena, message->hold[1]);
    while (count > 0) {
        struct record_slice slice = slices != NULL ? slices[message->word[0]] : only;
        struct kept *kept =
            kept_add(plugin, WEIR_MESSAGE_RECORD, mark, view_of(data + slice.key_offset, slice.key_size),
                     view_of(data + slice.value_offset, slice.value_size));
        if (kept == NULL)
            break;
        kept->publisher = message->from;
        kept->number = number;
        kept->level = (uint8_t)level;
        if (!actor_is_none(kept->publisher))
            answer_owe(plugin, kept, plugin->kept.end - 1);
        count--;
        if (slices != NULL)
            message->word[0]++;
        number += slices != NULL && count > 0 ? record_step(&slices[message->word[0]]) : 1;
    }
    message->detail = TOPIC_MARKED(mark, count);
    message->word[2] = TOPIC_NUMBER_WORD(number, level);
    return count == 0;
}

/* The order to clear a fold's topic. */
static bool intake_clear(struct plugin *plugin, const struct message *message)
{
    static const uint8_t nil = 0xc0;
    struct kept *kept =
        kept_add(plugin, WEIR_MESSAGE_RESET, TOPIC_MARK_OF(message->detail), view_of(NULL, 0), view_of(&nil, 1));
    if (kept == NULL)
        return false;
    kept->publisher = message->from;
    kept->number = message->word[0];
    return true;
}

/* A request: of one of a fold's topics, or of the plugin itself. */
static bool intake_ask(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    const uint8_t *data = arena_data(plugin->arena, message->hold[0]);
    uint32_t place = TOPIC_MARKED_COUNT(message->detail) > 0 ? TOPIC_MARK_OF(message->detail) : PLACE_NONE;
    if (turn_now_ns(turn) >= message->word[2])
        return true; /* whoever asked has been told */
    struct kept *kept = kept_add(plugin, WEIR_MESSAGE_ASK, place, view_of(NULL, 0),
                                 view_of(data + TOPIC_HIGH(message->word[0]), TOPIC_LOW(message->word[0])));
    if (kept == NULL)
        return false;
    kept->publisher = message->from;
    kept->number = message->word[1];
    kept->as.deadline_ns = message->word[2];
    kept->is_owed = true;
    return true;
}

/* A run of a followed topic's pairs. */
static bool intake_run(struct turn *turn, struct plugin *plugin, struct message *message)
{
    uint32_t index = place_find_feed(plugin, message->detail);
    struct topic_run run = topic_run_read(message);
    const uint8_t *data = arena_data(plugin->arena, run.pairs.block);
    bool is_entries = message->tag == TOPIC_ENTRIES;
    if (index == PLACE_NONE || data == NULL) {
        if (!actor_is_none(message->from))
            (void)!turn_control(turn, message->from,
                                &(struct message){.tag = TOPIC_UNSUBSCRIBE, .detail = message->detail});
        return true;
    }
    struct view rest = view_of(data + run.pairs.offset + plugin->pending_at, run.pairs.size - plugin->pending_at);
    while (rest.size > 0) {
        struct view before = rest, key, value;
        if (run.value.size > 0) {
            value = view_of((uint8_t *)arena_data(plugin->arena, run.value.block) + run.value.offset, run.value.size);
            key = rest.data[0] == 0xc0 ? view_of(NULL, 0) : rest;
            rest = view_of(NULL, 0);
        } else if (items_next(&rest, UINT8_MAX, &key, &value) != WEIR_OK) {
            return true; /* the topic's own bytes: they are well-formed */
        }
        uint32_t credit = (uint32_t)(before.size - rest.size + run.value.size);
        if (is_entries && follow_is_buried(plugin, index, key_text(key), value)) {
            follow_credit(turn, plugin, index, credit);
            plugin->pending_at += before.size - rest.size;
            continue;
        }
        struct kept *kept = kept_add(plugin, is_entries ? WEIR_MESSAGE_ENTRY : WEIR_MESSAGE_RECORD, index, key, value);
        if (kept == NULL)
            return false;
        const struct place *place = place_at(plugin, index);
        kept->epoch = place->epoch;
        kept->seq = is_entries ? place->seq : message->word[2]++;
        kept->credit = credit;
        kept->number = message->detail;
        plugin->pending_at += before.size - rest.size;
    }
    return true;
}

static bool intake_message(struct turn *turn, struct plugin *plugin, struct message *message)
{
    switch (message->tag) {
    case TOPIC_FORWARDED: return intake_forwarded(plugin, message);
    case TOPIC_PLUGIN_CLEAR: return intake_clear(plugin, message);
    case TOPIC_ASK: return intake_ask(turn, plugin, message);
    case TOPIC_ENTRIES:
    case TOPIC_UPDATES: return intake_run(turn, plugin, message);
    default: return follow_message(turn, plugin, message);
    }
}

void plugin_intake(struct turn *turn, struct plugin *plugin)
{
    plugin_timers_take(turn, plugin);
    while (plugin->pending_count > 0) {
        if (straight_takes(plugin, pending_front(plugin)) || !intake_message(turn, plugin, pending_front(plugin)))
            break;
        pending_pop(plugin);
    }
    bool is_muted = plugin->pending_count > 0;
    if (is_muted != plugin->is_muted)
        turn_mute(turn, is_muted);
    plugin->is_muted = is_muted;
}

void forwarded_refuse(struct turn *turn, const struct message *message)
{
    const struct record_slice *slices =
        msg_is_none(message->hold[1]) ? NULL : arena_data(turn_arena(turn), message->hold[1]);
    uint64_t number = TOPIC_NUMBER(message->word[2]);
    /* Whoever does not read what is sent here has its session end. */
    if (message->tag == TOPIC_ASK) {
        ask_refuse(turn, message, WEIR_CLOSED);
    } else if (!actor_is_none(message->from) && message->tag == TOPIC_PLUGIN_CLEAR) {
        struct message done = {.tag = TOPIC_DONE, .word = {WEIR_CLOSED, message->word[0]}};
        (void)!turn_control(turn, message->from, &done);
    } else if (!actor_is_none(message->from)) {
        /* Record by record: their numbers need not be neighbours. */
        for (uint32_t i = 0; i < TOPIC_MARKED_COUNT(message->detail); i++) {
            if (i > 0)
                number += slices != NULL ? record_step(&slices[message->word[0] + i]) : 1;
            struct message nack = {.tag = TOPIC_NACK, .detail = 1, .word = {number, WEIR_CLOSED, 1}};
            (void)!turn_control(turn, message->from, &nack);
        }
    }
}

/* The plugin ends: publishers hear of what was not handled. */
void plugin_intake_fini(struct turn *turn, struct plugin *plugin)
{
    struct kept_ring *ring = &plugin->kept;
    answers_end(turn, plugin);
    for (uint64_t position = ring->first; position < ring->end; position++) {
        const struct kept *kept = kept_at(plugin, position);
        if (kept->page.bits != ring->page.bits)
            page_release(plugin, kept->page, position + 1 < ring->end ? kept_at(plugin, position + 1) : NULL);
    }
    while (plugin->pending_count > 0) {
        const struct message *message = pending_front(plugin);
        if (is_answered(message->tag))
            forwarded_refuse(turn, message);
        pending_pop(plugin);
    }
    arena_drop(plugin->arena, ring->page);
    arena_drop(plugin->arena, ring->block);
    arena_drop(plugin->arena, plugin->pending_block);
    *ring = (struct kept_ring){.capacity = 0};
}
