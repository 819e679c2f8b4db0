/* The actors of the simulation: each handles, forwards, refuses, waits for room, fails and ends at random, and
 * reports all of it to the ledger. In turns. */
#include "tests/simulate/model.h"

#include <string.h>

struct node_state {
    struct model *model;
    uint64_t handled;
    weir_msg kept; /* a block held beyond the turn it came in */
};

enum { BLOCK_SIZE_MAX = 4096 };

static struct node *node_of(struct model *model, struct turn *turn)
{
    uint32_t node = ledger_node(model, turn_self(turn));
    REQUIRE(node != NODE_NONE);
    return &model->nodes[node];
}

void node_message(struct model *model, weir_actor from, weir_actor to, enum lane lane, unsigned ttl,
                  struct message *message)
{
    unsigned role = ROLE_PLAIN;
    if (lane == LANE_DATA && !model->is_draining && model_chance(model, model->temper.fail_per_mille / 4))
        role = ROLE_POISON;
    else if (!model->is_draining && model_chance(model, model->temper.exit_per_mille))
        role = ROLE_EXIT;
    *message = (struct message){
        .tag = lane == LANE_DATA ? TAG_DATA : TAG_CONTROL,
        .word = {role | (uint64_t)ttl << 8, ledger_next(model, from, to, lane), 0},
    };
    if (!model_chance(model, 300))
        return;
    size_t size = sizeof(uint64_t) + model_below(model, BLOCK_SIZE_MAX);
    if (arena_alloc(model->arena, size, model->budget, &message->hold[0]))
        return;
    memcpy(arena_data(model->arena, message->hold[0]), &message->hold[0].bits, sizeof(uint64_t));
}

void node_message_drop(struct model *model, struct message *message)
{
    for (int i = 0; i < MESSAGE_HOLDS; i++)
        arena_drop(model->arena, message_take(message, i));
}

static void check_block(struct model *model, weir_msg block)
{
    const void *data = arena_data(model->arena, block);
    if (!data)
        model_violate(model, "a message came with a stale block");
    else if (memcmp(data, &block.bits, sizeof block.bits) != 0)
        model_violate(model, "a message came with somebody else's block");
}

/* Sends one on, and asks for room where there is none. */
static void send_on(struct turn *turn, struct model *model, weir_actor to, unsigned ttl, weir_msg block)
{
    struct message message;
    enum lane lane = model_chance(model, 100) ? LANE_CONTROL : LANE_DATA;
    weir_actor self = turn_self(turn);
    node_message(model, self, to, lane, ttl, &message);
    if (!msg_is_none(block) && msg_is_none(message.hold[1]) && arena_hold(model->arena, block) == WEIR_OK)
        message.hold[1] = block;
    enum weir_error error = lane == LANE_DATA ? turn_send(turn, to, &message) : turn_control(turn, to, &message);
    if (!error) {
        ledger_sent(model, self, to, lane);
        return;
    }
    node_message_drop(model, &message);
    ledger_refused(model, to, error);
    struct node *node = node_of(model, turn);
    if (error == WEIR_FULL && actor_is_none(node->awaiting) && turn_await_room(turn, to) == WEIR_OK)
        node->awaiting = to;
}

static void forward(struct turn *turn, struct model *model, const struct message *message)
{
    unsigned ttl = (unsigned)(message->word[0] >> 8);
    if (ttl == 0 || model->is_draining)
        return;
    for (unsigned i = 0; i < 3; i++) {
        if (model_below(model, 100) < model->temper.forward_per_cent)
            send_on(turn, model, model->nodes[model_below(model, model->node_count)].actor, ttl - 1, message->hold[0]);
    }
}

static enum weir_error on_start(struct turn *turn, void *state, const void *args)
{
    const struct node_args *given = args;
    struct model *model = given->model;
    struct node_state *self = state;
    self->model = model;
    uint32_t index = ledger_node_ensure(model, turn_self(turn), given->mailbox_max);
    struct node *node = &model->nodes[index];
    if (node->is_started)
        model_violate(model, "node %u started twice", index);
    if (!model->is_draining && model_chance(model, model->temper.start_fail_per_mille)) {
        node->is_ended = true;
        node->cause = WEIR_IO;
        return WEIR_IO;
    }
    node->is_started = true;
    return WEIR_OK;
}

/* Fails at random, leaving its state as it was. */
static enum weir_error maybe_fail(struct model *model, struct message *message)
{
    if (message->word[2] >= 3)
        model_violate(model, "a message was tried a fourth time");
    message->word[2]++;
    bool is_poison = (message->word[0] & 0xff) == ROLE_POISON;
    if (!is_poison && (model->is_draining || !model_chance(model, model->temper.fail_per_mille)))
        return WEIR_OK;
    model->failures++;
    return is_poison ? WEIR_POISONED : WEIR_FAILED;
}

static enum weir_error handle_own(struct turn *turn, struct node_state *self, struct message *message)
{
    struct model *model = self->model;
    enum lane lane = message->tag == TAG_DATA ? LANE_DATA : LANE_CONTROL;
    for (int i = 0; i < MESSAGE_HOLDS; i++) {
        if (!msg_is_none(message->hold[i]))
            check_block(model, message->hold[i]);
    }
    enum weir_error error = maybe_fail(model, message);
    if (error)
        return error;
    ledger_settled(model, message->from, turn_self(turn), lane, message->word[1]);
    forward(turn, model, message);
    if (model_chance(model, 50)) {
        arena_drop(model->arena, self->kept);
        self->kept = message_take(message, 0);
    }
    self->handled++;
    node_of(model, turn)->handled++;
    if ((message->word[0] & 0xff) == ROLE_EXIT && !model->is_draining)
        turn_exit(turn, model_chance(model, 500) ? WEIR_OK : WEIR_IO);
    if (model_chance(model, 20))
        turn_yield(turn);
    return WEIR_OK;
}

static void handle_room(struct turn *turn, struct model *model, const struct message *message)
{
    struct node *node = node_of(model, turn);
    if (!actor_is_same(node->awaiting, message->from))
        model_violate(model, "room was told to an actor that does not wait for it");
    node->awaiting = WEIR_ACTOR_NONE;
    if (!model->is_draining)
        send_on(turn, model, message->from, 1, WEIR_MSG_NONE);
}

static void handle_event(struct turn *turn, struct model *model, const struct message *message)
{
    struct node *node = node_of(model, turn);
    if (!actor_is_same(node->monitoring, message->from) || message->word[0] != ACTOR_EVENT_EXITED)
        model_violate(model, "an end was told to an actor that does not watch it");
    node->monitoring = WEIR_ACTOR_NONE;
    uint32_t gone = ledger_node(model, message->from);
    if (gone != NODE_NONE && model->nodes[gone].is_started && !model->nodes[gone].is_ended)
        model_violate(model, "node %u lives and was said to have ended", gone);
}

static enum weir_error on_message(struct turn *turn, void *state, struct message *message)
{
    struct node_state *self = state;
    struct model *model = self->model;
    const struct node *node = node_of(model, turn);
    if (node->is_ended || !node->is_started)
        model_violate(model, "a message reached an actor that does not run");
    if (self->handled != node->handled)
        model_violate(model, "state says %lu messages, %lu were handled", (unsigned long)self->handled,
                      (unsigned long)node->handled);
    switch (message->tag) {
    case TAG_DATA:
    case TAG_CONTROL: return handle_own(turn, self, message);
    case MESSAGE_ROOM: handle_room(turn, model, message); break;
    case MESSAGE_TIMER:
        ledger_timer_fired(model, ledger_node(model, turn_self(turn)), (weir_timer){message->word[1]});
        break;
    case MESSAGE_EVENT: handle_event(turn, model, message); break;
    case MESSAGE_SHUTDOWN:
        /* Some need a kill. */
        if (!model->is_draining && model_chance(model, 100))
            turn_shutdown_defer(turn);
        break;
    default: break;
    }
    return WEIR_OK;
}

static enum weir_error on_restart(struct turn *turn, void *state, enum weir_error cause)
{
    (void)turn;
    (void)cause;
    struct model *model = ((struct node_state *)state)->model;
    model->restarts++;
    return !model->is_draining && model_chance(model, model->temper.restart_fail_per_mille) ? WEIR_IO : WEIR_OK;
}

static void on_stop(struct turn *turn, void *state, enum weir_error cause)
{
    struct node_state *self = state;
    struct node *node = node_of(self->model, turn);
    if (node->is_ended)
        model_violate(self->model, "an actor ended twice");
    node->is_ended = true;
    node->cause = cause;
    arena_drop(self->model->arena, self->kept);
}

bool node_dead_letter(struct turn *turn, struct message *message, enum weir_error cause, uint32_t attempts,
                      void *context)
{
    struct model *model = context;
    (void)cause;
    model->dead++;
    if (message->tag != TAG_DATA && message->tag != TAG_CONTROL)
        return true;
    if (attempts != 3 || message->word[2] != 3)
        model_violate(model, "a dead letter after %u attempts, %lu seen", attempts, (unsigned long)message->word[2]);
    ledger_settled(model, message->from, turn_self(turn), message->tag == TAG_DATA ? LANE_DATA : LANE_CONTROL,
                   message->word[1]);
    return true;
}

const struct behaviour node_behaviour = {
    .name = "node",
    .state_size = sizeof(struct node_state),
    .on_start = on_start,
    .on_message = on_message,
    .on_restart = on_restart,
    .on_stop = on_stop,
};
