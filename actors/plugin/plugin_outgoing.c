/* What a processor emits. It publishes as everybody does, and each topic's records in their order. They are gathered
 * for each topic by itself, in `bundle`, and sent at the end of a turn.
 *
 * Of one topic one batch is under way at a time, in `sent`, until the topic has decided each of its records: of two,
 * the second could be folded where the first was refused. A topic that has no memory refuses the rest of the batch as
 * well (TOPIC_IN_ORDER); that rest is sent again after a while, and what is gathered meanwhile comes behind it.
 * Whatever else a topic refuses a record for stands: it is logged, and the next ones go on.
 *
 * Where a topic's bundle is full, or all of them together are, the plugin is stalled: it is given nothing new, and
 * those whom it follows are held back. In the plugin's turns. */
#include "actors/plugin/plugin_outgoing.h"

#include "actors/plugin/plugin_state.h"

#include "actors/base/clock.h"
#include "actors/base/log.h"

/* Numbers say whose they are: the place, then the topic's own counting, which begins anew where it would not fit. */
#define NUMBER_BITS 40
#define NUMBER_MAX (UINT64_C(1) << NUMBER_BITS)
_Static_assert(((uint64_t)PLUGIN_PLACES_MAX - 1) >> (60 - NUMBER_BITS) == 0,
               "place and number fit the 60 bits that a publisher has");

static bool is_under_way(const struct outgoing *outgoing) { return outgoing->sent.detail > 0; }

static size_t outgoing_bytes(const struct outgoing *outgoing) { return outgoing->bundle.size + outgoing->sent_size; }

/* All that is kept of emissions, with what keeping them costs, may not be more. */
static bool is_full(const struct plugin *plugin)
{
    return plugin->outgoing_bytes + plugin->outgoing_count * PLUGIN_OUTGOING_COST > PLUGIN_OUTGOING_BYTES_MAX;
}

/* ------------------------------------------------------------------------------------------------- lists */

static void list_add(struct plugin *plugin, uint32_t index, enum outgoing_wait wait)
{
    struct outgoing *outgoing = place_at(plugin, index)->outgoing;
    if (outgoing->wait != OUTGOING_IDLE)
        return;
    outgoing->wait = (uint8_t)wait;
    outgoing->next = plugin->outgoing_first[wait];
    plugin->outgoing_first[wait] = index;
}

/* Takes all out of a list: the first of them; list_next gives each out, which may then be in any list again. */
static uint32_t list_take(struct plugin *plugin, enum outgoing_wait from)
{
    uint32_t first = plugin->outgoing_first[from];
    plugin->outgoing_first[from] = PLACE_NONE;
    return first;
}

static uint32_t list_next(struct plugin *plugin, uint32_t *rest)
{
    uint32_t index = *rest;
    struct outgoing *outgoing = place_at(plugin, index)->outgoing;
    *rest = outgoing->next;
    outgoing->wait = OUTGOING_IDLE;
    return index;
}

/* Those that waited for something may be sent. */
static void list_ready(struct plugin *plugin, enum outgoing_wait from)
{
    for (uint32_t rest = list_take(plugin, from); rest != PLACE_NONE;)
        list_add(plugin, list_next(plugin, &rest), OUTGOING_READY);
}

/* After a while, and each time after a longer one. */
static void outgoing_back_off(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    weir_timer timer;
    list_add(plugin, index, OUTGOING_BACKOFF);
    if (plugin->has_outgoing_timer)
        return;
    if (plugin->outgoing_backoff_ns < PLUGIN_RETRY_NS)
        plugin->outgoing_backoff_ns = PLUGIN_RETRY_NS;
    plugin->has_outgoing_timer = timer_start(turn_runtime(turn), turn_self(turn), plugin->outgoing_backoff_ns, 0,
                                             PLUGIN_TIMER_OUTGOING, &timer) == WEIR_OK;
    if (plugin->outgoing_backoff_ns < PLUGIN_OUTGOING_BACKOFF_MAX_NS)
        plugin->outgoing_backoff_ns *= 2;
}

/* -------------------------------------------------------------------------------------------------- sending */

static void sent_forget(struct plugin *plugin, struct outgoing *outgoing)
{
    arena_drop(plugin->arena, outgoing->sent.hold[0]);
    arena_drop(plugin->arena, outgoing->sent.hold[1]);
    plugin->outgoing_bytes -= outgoing->sent_size;
    outgoing->sent = (struct message){.tag = TOPIC_PUBLISH};
    outgoing->sent_size = 0;
}

/* Asks for the topic of a place. */
static void topic_ask(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    struct message ask = {.tag = DIRECTORY_ENSURE, .word = {index}};
    if (place->is_asked)
        return;
    enum weir_error error = arena_hold(plugin->arena, place->name);
    ask.hold[0] = place->name;
    if (!error) {
        error = turn_send(turn, plugin->instance->directory, &ask);
        if (error)
            arena_drop(plugin->arena, place->name);
    }
    if (error)
        outgoing_back_off(turn, plugin, index);
    else
        place->is_asked = true;
    if (!error)
        place_hold(plugin, index); /* until it is answered */
}

/* Offers what is under way to the topic; it stays here until that has decided it. */
static enum weir_error sent_offer(struct turn *turn, struct plugin *plugin, const struct place *place)
{
    struct message message = place->outgoing->sent;
    if (actor_is_none(place->topic))
        return WEIR_STALE;
    enum weir_error error = arena_hold(plugin->arena, message.hold[0]);
    if (error)
        return error;
    if (!msg_is_none(message.hold[1]))
        error = arena_hold(plugin->arena, message.hold[1]);
    if (error) {
        arena_drop(plugin->arena, message.hold[0]);
        return error;
    }
    error = turn_send(turn, place->topic, &message);
    if (error) {
        arena_drop(plugin->arena, message.hold[0]);
        arena_drop(plugin->arena, message.hold[1]);
    }
    return error;
}

/* What was gathered is to go next. */
static enum weir_error sent_take(struct plugin *plugin, uint32_t index, struct outgoing *outgoing)
{
    enum weir_error error = bundle_message(plugin, &outgoing->bundle, &outgoing->sent);
    if (error)
        return error;
    if (outgoing->number + outgoing->bundle.count > NUMBER_MAX)
        outgoing->number = 0;
    outgoing->sent.word[2] = TOPIC_NUMBER_WORD((uint64_t)index << NUMBER_BITS | outgoing->number, ACK_FOLDED);
    if (!msg_is_none(outgoing->sent.hold[1]))
        outgoing->sent.word[1] = TOPIC_IN_ORDER;
    outgoing->sent_size = outgoing->bundle.size;
    outgoing->number += outgoing->bundle.count;
    plugin->emitted += outgoing->bundle.count;
    bundle_forget(plugin, &outgoing->bundle);
    return WEIR_OK;
}

/* False: it waits, for what it says itself. */
static bool outgoing_send(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    struct outgoing *outgoing = place->outgoing;
    enum weir_error error = is_under_way(outgoing) ? WEIR_OK : sent_take(plugin, index, outgoing);
    if (!error)
        error = sent_offer(turn, plugin, place);
    outgoing->undecided = error ? 0 : outgoing->sent.detail;
    outgoing->held = 0;
    if (!error)
        return true;
    if (error == WEIR_STALE) {
        place->topic = WEIR_ACTOR_NONE;
        topic_ask(turn, plugin, index);
    } else if (error != WEIR_FULL || turn_await_room(turn, place->topic) != WEIR_OK) {
        outgoing_back_off(turn, plugin, index);
    } else {
        list_add(plugin, index, OUTGOING_ROOM);
    }
    return false;
}

void outgoing_flush(struct turn *turn, struct plugin *plugin)
{
    for (uint32_t rest = list_take(plugin, OUTGOING_READY); rest != PLACE_NONE;)
        (void)outgoing_send(turn, plugin, list_next(plugin, &rest));
}

/* ------------------------------------------------------------------------------------------------- gathering */

static enum weir_error outgoing_ensure(struct plugin *plugin, uint32_t index)
{
    struct place *place = place_at(plugin, index);
    weir_msg block;
    if (place->outgoing != NULL)
        return WEIR_OK;
    enum weir_error error = arena_alloc(plugin->arena, sizeof *place->outgoing, plugin->budget, &block);
    if (error)
        return error;
    place->outgoing = arena_data(plugin->arena, block);
    *place->outgoing = (struct outgoing){.block = block, .sent = {.tag = TOPIC_PUBLISH}, .wait = OUTGOING_IDLE};
    return WEIR_OK;
}

void outgoing_fini(struct plugin *plugin, struct place *place)
{
    struct outgoing *outgoing = place->outgoing;
    if (outgoing == NULL)
        return;
    sent_forget(plugin, outgoing);
    bundle_fini(plugin, &outgoing->bundle);
    place->outgoing = NULL;
    arena_drop(plugin->arena, outgoing->block);
}

enum weir_error outgoing_add(struct turn *turn, struct plugin *plugin, const struct brought_item *item)
{
    enum weir_error error = outgoing_ensure(plugin, item->place);
    struct outgoing *outgoing = place_at(plugin, item->place)->outgoing;
    if (!error && (!bundle_has_room(&outgoing->bundle, item) || is_full(plugin))) {
        outgoing_flush(turn, plugin);
        plugin->is_stalled = !bundle_has_room(&outgoing->bundle, item) || is_full(plugin);
        if (plugin->is_stalled)
            return WEIR_BUSY; /* until a topic has decided what it has */
    }
    size_t before = error ? 0 : outgoing->bundle.size;
    bool is_first = !error && outgoing_bytes(outgoing) == 0;
    if (!error)
        error = bundle_add(plugin, &outgoing->bundle, item);
    if (error) {
        plugin->is_stalled = true;
        plugin_retry_arm(turn, plugin, PLUGIN_RETRY_NS);
        return WEIR_BUSY;
    }
    plugin->outgoing_bytes += outgoing->bundle.size - before;
    if (is_first) {
        place_hold(plugin, item->place); /* as long as something of it is here */
        plugin->outgoing_count++;
    }
    if (!is_under_way(outgoing))
        list_add(plugin, item->place, OUTGOING_READY);
    return WEIR_OK;
}

/* ------------------------------------------------------------------------------------------ what becomes of it */

static void outgoing_next(struct plugin *plugin, uint32_t index)
{
    struct outgoing *outgoing = place_at(plugin, index)->outgoing;
    if (is_under_way(outgoing) || outgoing->bundle.count > 0) {
        list_add(plugin, index, OUTGOING_READY);
        return;
    }
    place_drop(plugin, index);
    plugin->outgoing_count--;
    if (plugin->places.count > PLUGIN_OUTGOING_KEPT)
        outgoing_fini(plugin, place_at(plugin, index));
}

/* All of the batch is decided: what was held comes again. */
static void sent_decided(struct turn *turn, struct plugin *plugin, uint32_t index)
{
    struct outgoing *outgoing = place_at(plugin, index)->outgoing;
    struct message *sent = &outgoing->sent;
    uint32_t done = sent->detail - outgoing->held;
    if (done > 0)
        plugin->outgoing_backoff_ns = 0;
    if (outgoing->held == 0) {
        sent_forget(plugin, outgoing);
        outgoing_next(plugin, index);
        return;
    }
    sent->detail = outgoing->held;
    sent->word[2] = TOPIC_NUMBER_WORD(TOPIC_NUMBER(sent->word[2]) + done, ACK_FOLDED);
    if (!msg_is_none(sent->hold[1]))
        sent->word[0] += done;
    outgoing_back_off(turn, plugin, index);
}

static void refused_tell(struct turn *turn, struct plugin *plugin, uint32_t index, uint32_t count,
                         enum weir_error error, bool is_held)
{
    struct view topic = place_name(plugin, index);
    uint64_t suppressed = 0;
    if (log_limit_pass(is_held ? &plugin->held : &plugin->forbidden, turn_now_ns(turn), &suppressed))
        log_warning(is_held ? "plugin.emission_held" : "plugin.emission_refused",
                    "plugin=%s topic=%.*s records=%u cause=%s suppressed=%llu", plugin->config->name, (int)topic.size,
                    (const char *)topic.data, (unsigned)count, weir_error_code(error), (unsigned long long)suppressed);
}

void outgoing_on_ack(struct turn *turn, struct plugin *plugin, const struct message *message)
{
    uint64_t number = message->word[0];
    uint32_t index = (uint32_t)(number >> NUMBER_BITS), count = message->detail;
    struct outgoing *outgoing = index < plugin->places.used ? plugin->places.items[index].outgoing : NULL;
    if (outgoing == NULL || count > outgoing->undecided)
        return;
    uint64_t last = TOPIC_NUMBER(outgoing->sent.word[2]) + outgoing->sent.detail;
    enum weir_error error = message->tag == TOPIC_ACK ? WEIR_OK : (enum weir_error)message->word[1];
    outgoing->undecided -= count;
    /* Only the topic itself: a plugin behind it has handled what it could not have folded. And only what is the end of
     * the batch: what follows it would have overtaken it. */
    bool is_held = (error == WEIR_NO_MEMORY || error == WEIR_BUSY) && number + count == last &&
                   actor_is_same(message->from, place_at(plugin, index)->topic);
    if (is_held)
        outgoing->held = count;
    else if (error)
        plugin->refused += count;
    if (error)
        refused_tell(turn, plugin, index, count, error, is_held);
    if (outgoing->undecided == 0)
        sent_decided(turn, plugin, index);
}

void outgoing_on_topic(struct turn *turn, struct plugin *plugin, uint32_t index, enum weir_error error)
{
    struct outgoing *outgoing = place_at(plugin, index)->outgoing;
    if (outgoing == NULL || outgoing_bytes(outgoing) == 0)
        return;
    if (error == WEIR_BUSY) {
        outgoing_back_off(turn, plugin, index);
        return;
    }
    if (error) {
        plugin->refused += outgoing->sent.detail + outgoing->bundle.count;
        plugin->outgoing_bytes -= outgoing->bundle.size;
        sent_forget(plugin, outgoing);
        bundle_forget(plugin, &outgoing->bundle);
    }
    outgoing_next(plugin, index);
}

uint64_t outgoing_undecided(const struct plugin *plugin)
{
    uint64_t count = 0;
    for (uint32_t index = 0; index < plugin->places.used && plugin->outgoing_count > 0; index++) {
        const struct outgoing *outgoing = plugin->places.items[index].outgoing;
        if (outgoing == NULL)
            continue;
        /* Of a batch that its topic has, those that it answered for are decided, but for what it could not take. */
        bool is_offered = outgoing->undecided > 0;
        count += outgoing->bundle.count + (is_offered ? outgoing->undecided + outgoing->held : outgoing->sent.detail);
    }
    return count;
}

void outgoing_on_room(struct plugin *plugin) { list_ready(plugin, OUTGOING_ROOM); }

void outgoing_on_timer(struct plugin *plugin)
{
    plugin->has_outgoing_timer = false;
    list_ready(plugin, OUTGOING_BACKOFF);
}
