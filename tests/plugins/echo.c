/* Emits each record as it is, to its own topic (fold): what a message costs when its plugin costs nothing. */
#include "weir_actor.h"

static enum weir_actor_result echo_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    (void)self, (void)config;
    *state = 0;
    return WEIR_ACTOR_OK;
}

static enum weir_actor_result echo_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    (void)state;
    return weir_emit(self, message->topic, message->key, message->value);
}

const struct weir_actor_plugin weir_actor_plugin = {
#ifdef OF_ABI_MINOR /* as one that was built with an older header */
    .abi_major = WEIR_ACTOR_ABI_MAJOR,
    .abi_minor = OF_ABI_MINOR,
    .size = sizeof(struct weir_actor_plugin),
    .roles = WEIR_ACTOR_FOLD,
#else
    WEIR_ACTOR_HEAD(WEIR_ACTOR_FOLD),
#endif
    .name = "echo",
    .version = "1.0",
    .about = "emits what it gets",
    .init = echo_init,
    .handle = echo_handle,
};
