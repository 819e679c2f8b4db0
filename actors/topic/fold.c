/* Which fold serves which kind, and making one. In the topic's turn; the names of kinds from any thread. */
#include "actors/topic/fold.h"

#include "actors/base/assert.h"

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
    REQUIRE((size_t)rule->kind < COUNT_OF(fold_kinds));
    *fold = (struct fold){.arena = arena, .budget = budget, .seed = seed, .rule = *rule};
    fold->ops = fold_replaced[rule->kind] ? fold_replaced[rule->kind] : fold_kinds[rule->kind];
}

void fold_fini(struct fold *fold)
{
    if (fold->ops != NULL)
        fold->ops->clear(fold);
    *fold = (struct fold){.ops = NULL};
}

const char *topic_kind_name(enum topic_kind kind)
{
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
    return WEIR_NOT_FOUND;
}
