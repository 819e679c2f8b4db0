/* Which fold serves which kind, and making one. In the topic's turn; the names of kinds from any thread. */
#include "actors/topic/fold.h"

#include "actors/base/assert.h"

#include <pthread.h>
#include <stdio.h>

static const struct fold_ops *const fold_kinds[] = {
    [TOPIC_LAST] = &fold_last,
    [TOPIC_MAP] = &fold_map,
    [TOPIC_LOG] = &fold_log,
    [TOPIC_MERGE] = &fold_merge,
};

static const struct fold_ops *fold_replaced[COUNT_OF(fold_kinds)];

void fold_replace(enum topic_kind kind, const struct fold_ops *ops)
{
    REQUIRE((size_t)kind < COUNT_OF(fold_kinds));
    fold_replaced[kind] = ops;
}

void fold_init(struct fold *fold, const struct topic_rule *rule, struct arena *arena, struct budget *budget,
               uint64_t seed)
{
    enum topic_kind kind = topic_kind_of_state(rule->kind);
    REQUIRE((size_t)kind < COUNT_OF(fold_kinds));
    *fold = (struct fold){.arena = arena, .budget = budget, .seed = seed, .rule = rule};
    fold->ops = fold_replaced[kind] ? fold_replaced[kind] : fold_kinds[kind];
}

void fold_fini(struct fold *fold)
{
    if (fold->ops != NULL) {
        fold->ops->clear(fold);
        while (fold_sweep(fold, UINT32_MAX))
            ;
    }
    *fold = (struct fold){.ops = NULL};
}

#define KIND_PREFIX "plugin:"

/* Names of plugins, in the order in which they were first found. Written under the lock, before their count; a name
 * that is there stays. */
static pthread_mutex_t plugin_lock = PTHREAD_MUTEX_INITIALIZER;
static char plugin_names[TOPIC_PLUGIN_LAST - TOPIC_PLUGIN + 1][sizeof KIND_PREFIX + PLUGIN_NAME_MAX];
static size_t plugin_count;

bool plugin_name_is_valid(struct view name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return name.size > 0 && name.size <= PLUGIN_NAME_MAX;
}

static enum weir_error plugin_kind_find(struct view name, enum topic_kind *out)
{
    enum weir_error error = WEIR_OK;
    size_t i = 0;
    pthread_mutex_lock(&plugin_lock);
    while (i < plugin_count && !view_is_same(view_text(plugin_names[i] + sizeof KIND_PREFIX - 1), name))
        i++;
    if (i == COUNT_OF(plugin_names))
        error = WEIR_FULL;
    else if (i == plugin_count)
        (void)snprintf(plugin_names[plugin_count++], sizeof plugin_names[0], KIND_PREFIX "%.*s", (int)name.size,
                       (const char *)name.data);
    pthread_mutex_unlock(&plugin_lock);
    *out = (enum topic_kind)(TOPIC_PLUGIN + i);
    return error;
}

const char *topic_kind_plugin(enum topic_kind kind)
{
    REQUIRE(topic_kind_is_plugin(kind));
    return topic_kind_name(kind) + sizeof KIND_PREFIX - 1;
}

const char *topic_kind_name(enum topic_kind kind)
{
    /* Whoever has the kind has it from plugin_kind_find, by way of a lock or a mailbox: the name is there for them. */
    if (topic_kind_is_plugin(kind) && kind <= TOPIC_PLUGIN_LAST)
        return plugin_names[kind - TOPIC_PLUGIN];
    REQUIRE((size_t)kind < COUNT_OF(fold_kinds));
    return fold_kinds[kind]->name;
}

enum weir_error topic_kind_find(struct view name, enum topic_kind *out)
{
    for (size_t i = 0; i < COUNT_OF(fold_kinds); i++) {
        if (view_is_same(name, view_text(fold_kinds[i]->name))) {
            *out = (enum topic_kind)i;
            return WEIR_OK;
        }
    }
    struct view prefix = view_text(KIND_PREFIX);
    if (!view_begins_with(name, prefix))
        return WEIR_NOT_FOUND;
    struct view plugin = view_of(name.data + prefix.size, name.size - prefix.size);
    return plugin_name_is_valid(plugin) ? plugin_kind_find(plugin, out) : WEIR_NOT_FOUND;
}
