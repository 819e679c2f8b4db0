/* The beginning of a plugin's actor as others see it: whoever waits for it in the table of instances, and whoever gave
 * the order to load it, who hears once how that went. In the plugin's turns. */
#include "actors/plugin/plugin_state.h"

void order_answer(struct turn *turn, struct plugin *plugin, weir_actor to, struct message *reply, const char *why)
{
    size_t size = strlen(why);
    if (actor_is_none(to))
        return;
    /* Without memory the error must do. */
    if (size > 0 && arena_alloc(plugin->arena, size, plugin->budget, &reply->hold[0]) == WEIR_OK)
        memcpy(arena_data(plugin->arena, reply->hold[0]), why, size);
    if (turn_control(turn, to, reply) != WEIR_OK)
        arena_drop(plugin->arena, reply->hold[0]);
}

void instance_begin(struct plugin_instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    instance->has_begun = true;
    pthread_cond_broadcast(&instance->begun);
    pthread_mutex_unlock(&instance->lock);
}

void instance_started(struct turn *turn, struct plugin *plugin, enum weir_error error, const char *why)
{
    struct plugin_instance *instance = plugin->instance;
    pthread_mutex_lock(&instance->lock);
    weir_actor to = instance->load_from;
    uint64_t word = instance->load_word;
    instance->load_from = WEIR_ACTOR_NONE;
    pthread_mutex_unlock(&instance->lock);
    order_answer(turn, plugin, to, &(struct message){.tag = PLUGIN_LOADED, .word = {error, word}}, why);
}

void instance_forget(struct turn *turn, struct plugin *plugin, enum weir_error error)
{
    struct plugin_instance *instance = plugin->instance;
    atomic_store(&instance->bell_actor, 0);
    pthread_mutex_lock(&instance->lock);
    if (actor_is_same(instance->actor, turn_self(turn)))
        instance->actor = WEIR_ACTOR_NONE;
    instance->status.state = "unloaded";
    instance->status.pid = 0;
    pthread_mutex_unlock(&instance->lock);
    instance_started(turn, plugin, error, "");
}
