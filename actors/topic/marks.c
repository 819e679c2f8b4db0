/* The keys of a topic that end on their own, see marks.h. In the topic's turn. */
#include "actors/topic/marks.h"

#include "actors/base/assert.h"
#include "actors/topic/map_tree.h"

#define HEAP_MIN 8u
#define HEAP_NONE UINT32_MAX

void marks_init(struct marks *marks, struct arena *arena, struct budget *budget, uint64_t seed)
{
    *marks = (struct marks){.arena = arena, .budget = budget, .seed = seed};
    table_init(&marks->table, arena, budget);
    table_init(&marks->owners, arena, budget);
}

/* ------------------------------------------------------------------------------------------------- heap */

static void heap_put(struct marks *marks, uint32_t at, struct mark *mark)
{
    marks->heap[at] = mark;
    mark->heap_at = at;
}

/* Moves the mark from the hole at `at` to where its deadline belongs. */
static void heap_settle(struct marks *marks, uint32_t at, struct mark *mark)
{
    while (at > 0 && marks->heap[(at - 1) / 2]->deadline_ns > mark->deadline_ns) {
        heap_put(marks, at, marks->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= marks->heap_count)
            break;
        if (child + 1 < marks->heap_count && marks->heap[child + 1]->deadline_ns < marks->heap[child]->deadline_ns)
            child++;
        if (marks->heap[child]->deadline_ns >= mark->deadline_ns)
            break;
        heap_put(marks, at, marks->heap[child]);
        at = child;
    }
    heap_put(marks, at, mark);
}

static void heap_remove(struct marks *marks, struct mark *mark)
{
    uint32_t at = mark->heap_at;
    struct mark *last = marks->heap[--marks->heap_count];
    mark->heap_at = HEAP_NONE;
    if (last != mark)
        heap_settle(marks, at, last);
}

static enum weir_error heap_reserve(struct marks *marks)
{
    if (marks->heap_count < marks->heap_capacity)
        return WEIR_OK;
    uint32_t capacity = marks->heap_capacity ? marks->heap_capacity * 2 : HEAP_MIN;
    if (arena_grow(marks->arena, &marks->heap_block, marks->heap_count * sizeof marks->heap[0],
                   capacity * sizeof marks->heap[0], marks->budget))
        return WEIR_NO_MEMORY;
    marks->heap = arena_data(marks->arena, marks->heap_block);
    marks->heap_capacity = capacity;
    return WEIR_OK;
}

static void mark_deadline_set(struct marks *marks, struct mark *mark, uint64_t deadline_ns)
{
    mark->deadline_ns = deadline_ns;
    if (deadline_ns == MARK_NEVER && mark->heap_at != HEAP_NONE)
        heap_remove(marks, mark);
    else if (deadline_ns != MARK_NEVER)
        heap_settle(marks, mark->heap_at != HEAP_NONE ? mark->heap_at : marks->heap_count++, mark);
}

/* ------------------------------------------------------------------------------------------------ owners */

static uint64_t owner_hash(const struct marks *marks, weir_actor actor)
{
    return map_hash(view_of(&actor.bits, sizeof actor.bits), marks->seed);
}

struct mark_owner *marks_owner_find(const struct marks *marks, weir_actor actor)
{
    struct table_node *node = table_first(&marks->owners, owner_hash(marks, actor));
    while (node != NULL && !actor_is_same(((struct mark_owner *)node)->actor, actor))
        node = node->next;
    return (struct mark_owner *)node;
}

enum weir_error marks_owner_add(struct marks *marks, weir_actor actor)
{
    weir_msg block;
    enum weir_error error = table_reserve(&marks->owners);
    if (!error)
        error = arena_alloc(marks->arena, sizeof(struct mark_owner), marks->budget, &block);
    if (error)
        return WEIR_NO_MEMORY;
    struct mark_owner *owner = arena_data(marks->arena, block);
    *owner = (struct mark_owner){.self = block, .actor = actor, .due_ns = MARK_NEVER};
    table_add(&marks->owners, &owner->node, owner_hash(marks, actor));
    return WEIR_OK;
}

void marks_owner_end(struct marks *marks, weir_actor actor, uint64_t due_ns)
{
    struct mark_owner *owner = marks_owner_find(marks, actor);
    if (owner == NULL || owner->due_ns != MARK_NEVER)
        return;
    owner->due_ns = due_ns;
    *(marks->over_last ? &marks->over_last->next_over : &marks->over_first) = owner;
    marks->over_last = owner;
}

/* Of the owners that have ended the first, when it has no keys left. */
static void over_forget(struct marks *marks)
{
    struct mark_owner *owner = marks->over_first;
    marks->over_first = owner->next_over;
    if (marks->over_first == NULL)
        marks->over_last = NULL;
    table_remove(&marks->owners, &owner->node);
    arena_drop(marks->arena, owner->self);
}

static void mark_unbind(struct mark *mark)
{
    if (mark->owner == NULL)
        return;
    *(mark->newer ? &mark->newer->older : &mark->owner->first) = mark->older;
    if (mark->older != NULL)
        mark->older->newer = mark->newer;
    mark->owner->count--;
    mark->owner = NULL;
}

void marks_rebind(struct mark *mark, struct mark_owner *owner)
{
    mark_unbind(mark);
    mark->newer = NULL;
    mark->older = owner->first;
    if (owner->first != NULL)
        owner->first->newer = mark;
    owner->first = mark;
    owner->count++;
    mark->owner = owner;
}

/* ------------------------------------------------------------------------------------------------- marks */

struct mark *marks_find(const struct marks *marks, struct view key)
{
    if (marks->table.count == 0)
        return NULL;
    uint64_t hash = map_hash(key, marks->seed);
    for (struct table_node *node = table_first(&marks->table, hash); node != NULL; node = node->next) {
        struct mark *mark = (struct mark *)node;
        if (node->hash == hash && view_is_same(view_of(mark->key, mark->key_size), key))
            return mark;
    }
    return NULL;
}

static bool want_is_none(const struct mark_want *want)
{
    return want->deadline_ns == MARK_NEVER && actor_is_none(want->owner);
}

enum weir_error marks_reserve(struct marks *marks, struct view key, const struct mark_want *want)
{
    if (want_is_none(want))
        return WEIR_OK;
    enum weir_error error = want->deadline_ns != MARK_NEVER ? heap_reserve(marks) : WEIR_OK;
    if (error || marks_find(marks, key) != NULL)
        return error;
    error = table_reserve(&marks->table);
    /* What was reserved for a record that then failed serves the next one, if it is long enough. */
    size_t size = sizeof(struct mark) + key.size;
    if (error || (!msg_is_none(marks->spare) && arena_size(marks->arena, marks->spare) >= size))
        return error;
    arena_drop(marks->arena, marks->spare);
    marks->spare = WEIR_MSG_NONE;
    return arena_alloc(marks->arena, size, marks->budget, &marks->spare) ? WEIR_NO_MEMORY : WEIR_OK;
}

static struct mark *mark_add(struct marks *marks, struct view key)
{
    struct mark *mark = arena_data(marks->arena, marks->spare);
    REQUIRE(mark != NULL);
    *mark = (struct mark){
        .self = marks->spare, .deadline_ns = MARK_NEVER, .heap_at = HEAP_NONE, .key_size = (uint32_t)key.size};
    marks->spare = WEIR_MSG_NONE;
    if (key.size > 0)
        memcpy(mark->key, key.data, key.size);
    table_add(&marks->table, &mark->node, map_hash(key, marks->seed));
    return mark;
}

void marks_set(struct marks *marks, struct view key, uint64_t seq, const struct mark_want *want)
{
    struct mark *mark = marks_find(marks, key);
    if (want_is_none(want)) {
        if (mark != NULL)
            marks_remove(marks, mark);
        return;
    }
    if (mark == NULL)
        mark = mark_add(marks, key);
    mark->seq = seq;
    mark_deadline_set(marks, mark, want->deadline_ns);
    mark_unbind(mark);
    if (!actor_is_none(want->owner))
        marks_rebind(mark, marks_owner_find(marks, want->owner));
}

void marks_remove(struct marks *marks, struct mark *mark)
{
    mark_deadline_set(marks, mark, MARK_NEVER);
    mark_unbind(mark);
    table_remove(&marks->table, &mark->node);
    arena_drop(marks->arena, mark->self);
}

uint64_t marks_due_ns(const struct marks *marks)
{
    uint64_t due_ns = marks->heap_count > 0 ? marks->heap[0]->deadline_ns : MARK_NEVER;
    if (marks->over_first != NULL && marks->over_first->due_ns < due_ns)
        due_ns = marks->over_first->due_ns;
    return due_ns;
}

struct mark *marks_due(struct marks *marks, uint64_t now_ns)
{
    while (marks->over_first != NULL && marks->over_first->first == NULL)
        over_forget(marks);
    if (marks->over_first != NULL && marks->over_first->due_ns <= now_ns)
        return marks->over_first->first;
    return marks->heap_count > 0 && marks->heap[0]->deadline_ns <= now_ns ? marks->heap[0] : NULL;
}

void marks_clear(struct marks *marks)
{
    for (uint32_t i = 0; i < marks->table.bucket_count; i++)
        while (marks->table.buckets[i] != NULL)
            marks_remove(marks, (struct mark *)marks->table.buckets[i]);
}

void marks_fini(struct marks *marks)
{
    if (marks->arena == NULL)
        return;
    marks_clear(marks);
    for (uint32_t i = 0; i < marks->owners.bucket_count; i++) {
        while (marks->owners.buckets[i] != NULL) {
            struct mark_owner *owner = (struct mark_owner *)marks->owners.buckets[i];
            table_remove(&marks->owners, &owner->node);
            arena_drop(marks->arena, owner->self);
        }
    }
    table_fini(&marks->table);
    table_fini(&marks->owners);
    arena_drop(marks->arena, marks->heap_block);
    arena_drop(marks->arena, marks->spare);
    *marks = (struct marks){.heap_count = 0};
}
