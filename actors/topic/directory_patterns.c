/* Subscriptions by pattern, so that a new topic finds those that match it and looks at no others. Patterns without
 * wildcards are in a hash by the whole name, while they wait for their topic; the others stand in a tree of their
 * segments, '+' and '#' among them, whose nodes are in a hash by parent and segment. In the directory's turns. */
#include <stdlib.h>

#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"
#include "clients/wire/name.h"

/* With 100,000 patterns some three nodes share one; 768 KiB in all. */
#define PATTERN_BUCKETS UINT32_C(65536)

struct pattern_node {
    weir_msg block;
    struct pattern_node *parent; /* NULL: the root, which is in no bucket */
    struct pattern_node *chain;  /* in its bucket */
    uint32_t subs;               /* the first subscription to exactly this pattern */
    uint32_t children;
    uint16_t size;
    uint8_t segment[];
};

struct patterns {
    struct pattern_node *buckets[PATTERN_BUCKETS];
    uint32_t whole[PATTERN_BUCKETS]; /* the first subscription without wildcards in each bucket */
    struct pattern_node root;
};

enum weir_error patterns_create(struct patterns **out)
{
    struct patterns *patterns = calloc(1, sizeof *patterns);
    if (patterns == NULL)
        return WEIR_NO_MEMORY;
    patterns->root.subs = INDEX_NONE;
    memset(patterns->whole, 0xff, sizeof patterns->whole);
    *out = patterns;
    return WEIR_OK;
}

void patterns_destroy(struct patterns **pointer)
{
    free(*pointer);
    *pointer = NULL;
}

static struct pattern_node **node_bucket(const struct directory *directory, const struct pattern_node *parent,
                                         struct view segment)
{
    uint64_t place = (uint64_t)(uintptr_t)parent * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t hash = directory_hash(directory, segment) ^ (uint32_t)(place >> 32);
    return &directory->patterns->buckets[hash & (PATTERN_BUCKETS - 1)];
}

static struct pattern_node *node_find(const struct directory *directory, const struct pattern_node *parent,
                                      struct view segment)
{
    if (parent->children == 0)
        return NULL;
    struct pattern_node *node = *node_bucket(directory, parent, segment);
    while (node != NULL && (node->parent != parent || !view_is_same(view_of(node->segment, node->size), segment)))
        node = node->chain;
    return node;
}

static enum weir_error node_ensure(struct directory *directory, struct pattern_node *parent, struct view segment,
                                   struct pattern_node **out)
{
    *out = node_find(directory, parent, segment);
    if (*out != NULL)
        return WEIR_OK;
    weir_msg block;
    enum weir_error error =
        arena_alloc(directory->arena, sizeof(struct pattern_node) + segment.size, directory->feeds_budget, &block);
    if (error)
        return error;
    struct pattern_node *node = arena_data(directory->arena, block), **bucket = node_bucket(directory, parent, segment);
    *node = (struct pattern_node){
        .block = block, .parent = parent, .chain = *bucket, .subs = INDEX_NONE, .size = (uint16_t)segment.size};
    memcpy(node->segment, segment.data, segment.size);
    *bucket = node;
    parent->children++;
    *out = node;
    return WEIR_OK;
}

/* Frees the nodes from here upwards that nothing needs any more. */
static void node_shed(struct directory *directory, struct pattern_node *node)
{
    while (node->parent != NULL && node->subs == INDEX_NONE && node->children == 0) {
        struct pattern_node *parent = node->parent;
        struct pattern_node **link = node_bucket(directory, parent, view_of(node->segment, node->size));
        while (*link != node)
            link = &(*link)->chain;
        *link = node->chain;
        parent->children--;
        arena_drop(directory->arena, node->block);
        node = parent;
    }
}

/* Takes the first segment off. */
static struct view segment_take(struct view *rest)
{
    const uint8_t *slash = memchr(rest->data, '/', rest->size);
    size_t size = slash == NULL ? rest->size : (size_t)(slash - rest->data);
    struct view segment = view_of(rest->data, size);
    size_t taken = slash == NULL ? size : size + 1;
    *rest = view_of(rest->data + taken, rest->size - taken);
    return segment;
}

static uint32_t segment_hash(const struct directory *directory, struct view segment)
{
    uint8_t byte = segment.size == 1 ? segment.data[0] : 0;
    return segment.size == 0 || byte == '+' || byte == '#' ? 0 : directory_hash(directory, segment) | 1;
}

struct name_head name_head_of(const struct directory *directory, struct view name)
{
    struct view rest = name;
    uint32_t first = segment_hash(directory, segment_take(&rest));
    /* What follows a '#' is nothing, and 0 as well. */
    return (struct name_head){first, segment_hash(directory, segment_take(&rest))};
}

/* Where the list begins that a subscription is in. */
static uint32_t *sub_list(const struct directory *directory, const struct sub *sub)
{
    const struct sub_details *details = sub_details(directory, sub);
    if (details != NULL && details->pattern_node != NULL)
        return &details->pattern_node->subs;
    uint32_t hash = directory_hash(directory, sub_pattern(directory, sub));
    return &directory->patterns->whole[hash & (PATTERN_BUCKETS - 1)];
}

/* The node of a pattern with wildcards. */
static enum weir_error pattern_node_ensure(struct directory *directory, struct view pattern, struct pattern_node **out)
{
    struct pattern_node *node = &directory->patterns->root, *child;
    while (pattern.size > 0) {
        enum weir_error error = node_ensure(directory, node, segment_take(&pattern), &child);
        if (error) {
            node_shed(directory, node);
            return error;
        }
        node = child;
    }
    *out = node;
    return WEIR_OK;
}

enum weir_error patterns_add(struct directory *directory, uint32_t sub_index)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    struct view pattern = sub_pattern(directory, sub);
    if (!sub->is_name) {
        enum weir_error error = pattern_node_ensure(directory, pattern, &sub_details(directory, sub)->pattern_node);
        if (error)
            return error;
    }
    uint32_t *first = sub_list(directory, sub);
    sub->pattern_next = *first;
    sub->pattern_prev = INDEX_NONE;
    if (*first != INDEX_NONE)
        directory_sub_at(directory, *first)->pattern_prev = sub_index;
    *first = sub_index;
    sub->is_listed = true;
    return WEIR_OK;
}

void patterns_remove(struct directory *directory, uint32_t sub_index)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    if (!sub->is_listed)
        return;
    if (sub->pattern_prev == INDEX_NONE)
        *sub_list(directory, sub) = sub->pattern_next;
    else
        directory_sub_at(directory, sub->pattern_prev)->pattern_next = sub->pattern_next;
    if (sub->pattern_next != INDEX_NONE)
        directory_sub_at(directory, sub->pattern_next)->pattern_prev = sub->pattern_prev;
    sub->is_listed = false;
    struct sub_details *details = sub_details(directory, sub);
    if (details == NULL || details->pattern_node == NULL)
        return;
    node_shed(directory, details->pattern_node);
    details->pattern_node = NULL;
}

/* A subscription that is visiting topics comes by itself to those it has not looked at yet. */
static void sub_attach(struct turn *turn, struct directory *directory, uint32_t sub_index, uint32_t topic_index)
{
    const struct sub *sub = directory_sub_at(directory, sub_index);
    bool is_visiting = sub->job == JOB_VISIT || sub->job == JOB_AWAIT;
    bool is_yet_to_come = is_visiting && sub_details(directory, sub)->visited <= topic_index;
    if (!sub->updates || sub->job == JOB_UNDO || is_yet_to_come)
        return;
    enum weir_error error = directory_link(turn, directory, sub_index, topic_index);
    /* What it cannot follow any more it must not seem to follow. */
    if (error)
        directory_sub_end(turn, directory, sub_index, error == WEIR_NO_MEMORY ? WEIR_BUSY : error);
}

static void node_attach(struct turn *turn, struct directory *directory, const struct pattern_node *node,
                        uint32_t topic_index)
{
    uint32_t index = node ? node->subs : INDEX_NONE;
    for (; index != INDEX_NONE; index = directory_sub_at(directory, index)->pattern_next)
        sub_attach(turn, directory, index, topic_index);
}

static void whole_attach(struct turn *turn, struct directory *directory, struct view name, uint32_t topic_index)
{
    uint32_t index = directory->patterns->whole[directory_hash(directory, name) & (PATTERN_BUCKETS - 1)], next;
    for (; index != INDEX_NONE; index = next) {
        const struct sub *sub = directory_sub_at(directory, index);
        next = sub->pattern_next; /* once it follows the topic it is not listed any more */
        if (view_is_same(sub_pattern(directory, sub), name))
            sub_attach(turn, directory, index, topic_index);
    }
}

/* Below a node that matches what came before `rest`. As deep as a name has segments: 128 at the most. */
static void tree_attach(struct turn *turn, struct directory *directory, const struct pattern_node *node,
                        struct view rest, bool is_reserved, uint32_t topic_index)
{
    if (node == NULL)
        return;
    if (!is_reserved)
        node_attach(turn, directory, node_find(directory, node, view_text("#")), topic_index);
    if (rest.size == 0) {
        node_attach(turn, directory, node, topic_index);
        return;
    }
    struct view segment = segment_take(&rest);
    tree_attach(turn, directory, node_find(directory, node, segment), rest, false, topic_index);
    /* Names of the broker's are not matched by a wildcard in the first segment. */
    if (!is_reserved)
        tree_attach(turn, directory, node_find(directory, node, view_text("+")), rest, false, topic_index);
}

void patterns_attach(struct turn *turn, struct directory *directory, uint32_t topic_index)
{
    struct view name = topic_entry_name(directory_topic_at(directory, topic_index));
    whole_attach(turn, directory, name, topic_index);
    tree_attach(turn, directory, &directory->patterns->root, name, name_is_reserved(name), topic_index);
}
