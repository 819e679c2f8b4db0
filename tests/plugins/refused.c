/* A plugin with one thing wrong with it (FAULT_...), that a host must find before it calls anything. */
#include "weir_actor.h"

static enum weir_actor_result nothing_init(struct weir_self *self, struct weir_bytes config, void **state)
{
    (void)self, (void)config, (void)state;
    return WEIR_ACTOR_OK;
}

#ifndef FAULT_NO_HANDLE
static enum weir_actor_result nothing_handle(struct weir_self *self, void *state, const struct weir_message *message)
{
    (void)self, (void)state, (void)message;
#ifdef FAULT_UNDEFINED
    extern void nobody_has_this(void);
    nobody_has_this();
#endif
    return WEIR_ACTOR_OK;
}
#endif

#ifdef FAULT_HALF_STATE
static enum weir_actor_result nothing_snapshot(struct weir_self *self, void *state, struct weir_writer *out)
{
    (void)self, (void)state, (void)out;
    return WEIR_ACTOR_OK;
}
#endif

#ifdef FAULT_NO_EXPORT
#define NAME another_name
extern WEIR_ACTOR_EXPORT const struct weir_actor_plugin another_name;
#else
#define NAME weir_actor_plugin
#endif

const struct weir_actor_plugin NAME = {
#ifdef FAULT_ABI_MAJOR
    .abi_major = WEIR_ACTOR_ABI_MAJOR + 1,
#else
    .abi_major = WEIR_ACTOR_ABI_MAJOR,
#endif
#ifdef FAULT_ABI_MINOR
    .abi_minor = WEIR_ACTOR_ABI_MINOR + 1,
#else
    .abi_minor = WEIR_ACTOR_ABI_MINOR,
#endif
#ifdef FAULT_SIZE
    .size = 8,
#else
    .size = sizeof(struct weir_actor_plugin),
#endif
#ifdef FAULT_ROLE
    .roles = WEIR_ACTOR_PROCESSOR,
#else
    .roles = WEIR_ACTOR_FOLD,
#endif
    .name = "refused",
    .version = "1.0",
    .about = "must not be run",
    .init = nothing_init,
#ifndef FAULT_NO_HANDLE
    .handle = nothing_handle,
#endif
#ifdef FAULT_HALF_STATE
    .snapshot = nothing_snapshot,
#endif
};
