/* Boards: rendered, taken apart by their rows, compared. On a thread of the blocking pool. */
#include "broker/sys/board.h"

#include <stdio.h>
#include <string.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/topic/directory.h"

const struct board_kind board_kinds[BOARD_COUNT] = {
    [BOARD_STATUS] = {"$sys/status", TOPIC_LAST},
    [BOARD_TOPICS] = {"$sys/topics", TOPIC_MAP},
    [BOARD_CONNECTIONS] = {"$sys/connections", TOPIC_MAP},
    [BOARD_TREE] = {"$sys/tree", TOPIC_MAP},
    [BOARD_DEAD] = {"$sys/dead", TOPIC_MAP},
};

/* What the admin socket is asked for, and which member of a row is its key. */
static const struct {
    const char *command, *pattern;
} board_sources[BOARD_COUNT] = {
    [BOARD_STATUS] = {"status", NULL},           [BOARD_TOPICS] = {"topics", NULL},
    [BOARD_CONNECTIONS] = {"connections", NULL}, [BOARD_TREE] = {"tree", NULL},
    [BOARD_DEAD] = {"topics", "$dead/#"},
};

void board_view_drop(struct arena *arena, struct board_view *view)
{
    arena_drop(arena, view->pairs);
    arena_drop(arena, view->slices);
    *view = (struct board_view){.count = 0};
}

/* ------------------------------------------------------------------------------------------- building */

struct builder {
    struct arena *arena;
    struct budget *budget;
    struct board_view view;
    size_t size;
    enum weir_error error;
};

/* At least `needed` bytes in *block, of which `used` are kept. */
static bool block_reserve(struct builder *builder, weir_msg *block, size_t used, size_t needed)
{
    size_t capacity = msg_is_none(*block) ? 0 : arena_size(builder->arena, *block);
    if (builder->error != WEIR_OK || needed <= capacity)
        return builder->error == WEIR_OK;
    capacity = capacity == 0 ? 4096 : 2 * capacity;
    builder->error = arena_grow(builder->arena, block, used, needed > capacity ? needed : capacity, builder->budget);
    return builder->error == WEIR_OK;
}

static void builder_add(struct builder *builder, struct view key, struct view value)
{
    struct board_view *view = &builder->view;
    size_t slices_size = view->count * sizeof(struct record_slice);
    if (!block_reserve(builder, &view->pairs, builder->size, builder->size + key.size + value.size) ||
        !block_reserve(builder, &view->slices, slices_size, slices_size + sizeof(struct record_slice)))
        return;
    uint8_t *data = (uint8_t *)arena_data(builder->arena, view->pairs) + builder->size;
    if (key.size > 0)
        memcpy(data, key.data, key.size);
    memcpy(data + key.size, value.data, value.size);
    struct record_slice *slices = arena_data(builder->arena, view->slices);
    slices[view->count++] = (struct record_slice){(uint32_t)builder->size, (uint32_t)key.size,
                                                  (uint32_t)(builder->size + key.size), (uint32_t)value.size, 0};
    builder->size += key.size + value.size;
}

static struct view slice_key(struct arena *arena, const struct board_view *view, uint32_t index)
{
    const struct record_slice *slice = (struct record_slice *)arena_data(arena, view->slices) + index;
    return view_of((uint8_t *)arena_data(arena, view->pairs) + slice->key_offset, slice->key_size);
}

static struct view slice_value(struct arena *arena, const struct board_view *view, uint32_t index)
{
    const struct record_slice *slice = (struct record_slice *)arena_data(arena, view->slices) + index;
    return view_of((uint8_t *)arena_data(arena, view->pairs) + slice->value_offset, slice->value_size);
}

/* ------------------------------------------------------------------------------------------------ rows */

/* The way to an actor from the root: names of the rows above it, which the admin socket shows by indenting. */
struct path {
    char text[BOARD_KEY_SIZE_MAX];
    size_t ends[20]; /* of the name at each depth */
};

static struct view path_enter(struct path *path, struct view name)
{
    size_t depth = 0;
    while (2 * depth + 1 < name.size && name.data[2 * depth] == ' ' && name.data[2 * depth + 1] == ' ' &&
           depth + 1 < COUNT_OF(path->ends))
        depth++;
    name = view_of(name.data + 2 * depth, name.size - 2 * depth);
    size_t start = depth == 0 ? 0 : path->ends[depth - 1];
    int size = snprintf(path->text + start, sizeof path->text - start, "%s%.*s", start > 0 ? "/" : "", (int)name.size,
                        (const char *)name.data);
    size_t end = start + (size_t)size;
    path->ends[depth] = end < sizeof path->text ? end : sizeof path->text - 1;
    return view_of(path->text, path->ends[depth]);
}

/* A row's key: the first of its members. */
static enum weir_error row_key(enum board board, struct view row, struct path *path, struct value_writer *out)
{
    struct value_reader reader;
    char number[24];
    value_reader_init(&reader, row, VALUE_DEPTH_LIMIT);
    (void)value_read_map(&reader);
    (void)value_read_str(&reader);
    if (board == BOARD_CONNECTIONS) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)value_read_uint(&reader));
        value_write_str(out, view_text(number));
        return reader.error;
    }
    struct view name = value_read_str(&reader);
    if (reader.error == WEIR_OK)
        value_write_str(out, board == BOARD_TREE ? path_enter(path, name) : name);
    return reader.error;
}

/* The answer is {name: [row, ...]}; the last row may have been cut, and then the array says that it has none. */
static void rows_take(struct builder *builder, enum board board, struct view answer)
{
    enum { MAP_HEAD = 5, ARRAY_HEAD = 5 };
    struct path path = {.text = ""};
    struct value_reader reader;
    uint8_t key[BOARD_KEY_SIZE_MAX + 8];
    value_reader_init(&reader, view_of(answer.data + MAP_HEAD, answer.size - MAP_HEAD), VALUE_DEPTH_LIMIT);
    (void)value_read_str(&reader);
    reader.rest = view_of(reader.rest.data + ARRAY_HEAD, reader.rest.size - ARRAY_HEAD);
    while (reader.error == WEIR_OK && reader.rest.size > 0) {
        struct view row = value_read_any(&reader);
        struct value_writer writer;
        value_writer_init(&writer, key, sizeof key);
        if (reader.error == WEIR_OK && row_key(board, row, &path, &writer) == WEIR_OK && !writer.is_full)
            builder_add(builder, view_of(key, writer.size), row);
    }
}

static enum weir_error board_render(struct admin *admin, struct builder *builder, enum board board)
{
    for (size_t capacity = BOARD_BYTES_FIRST;; capacity *= 4) {
        weir_msg block;
        size_t size = 0;
        enum weir_error error = arena_alloc(builder->arena, capacity, builder->budget, &block);
        if (error != WEIR_OK)
            return error;
        uint8_t *data = arena_data(builder->arena, block);
        error =
            admin_describe(admin, board_sources[board].command, board_sources[board].pattern, data, capacity, &size);
        bool is_enough = error == WEIR_OK || (error == WEIR_TOO_BIG && capacity >= BOARD_BYTES_MAX);
        if (is_enough && board_kinds[board].kind == TOPIC_MAP)
            rows_take(builder, board, view_of(data, size));
        else if (error == WEIR_OK)
            builder_add(builder, view_of(NULL, 0), view_of(data, size));
        arena_drop(builder->arena, block);
        if (is_enough)
            return builder->error;
        if (error != WEIR_TOO_BIG)
            return error;
    }
}

/* ------------------------------------------------------------------------------------------- comparing */

static uint32_t key_hash(struct view key)
{
    uint32_t hash = UINT32_C(2166136261);
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ key.data[i]) * UINT32_C(16777619);
    return hash ^ hash >> 15;
}

/* The records of a view by their keys. */
struct index {
    uint32_t *places; /* a record's number and one, 0: none */
    uint32_t mask;
};

static uint32_t *index_find(const struct index *index, struct arena *arena, const struct board_view *view,
                            struct view key)
{
    uint32_t at = key_hash(key) & index->mask;
    while (index->places[at] != 0 && !view_is_same(slice_key(arena, view, index->places[at] - 1), key))
        at = (at + 1) & index->mask;
    return &index->places[at];
}

/* Keys of the view that are there already are left out of it: siblings in the tree may have one name. */
static enum weir_error index_make(struct builder *builder, const struct board_view *view, weir_msg *block,
                                  struct index *index)
{
    uint32_t capacity = 16;
    while (capacity < 2 * view->count)
        capacity *= 2;
    enum weir_error error = arena_alloc(builder->arena, capacity * sizeof(uint32_t), builder->budget, block);
    if (error != WEIR_OK)
        return error;
    *index = (struct index){arena_data(builder->arena, *block), capacity - 1};
    memset(index->places, 0, capacity * sizeof(uint32_t));
    for (uint32_t i = 0; i < view->count; i++) {
        uint32_t *place = index_find(index, builder->arena, view, slice_key(builder->arena, view, i));
        *place = *place == 0 ? i + 1 : *place;
    }
    return WEIR_OK;
}

static void changes_find(struct builder *builder, const struct board_view *before, const struct index *old,
                         const struct board_view *now, const struct index *present)
{
    static const uint8_t nil = 0xc0;
    struct arena *arena = builder->arena;
    for (uint32_t i = 0; i < now->count; i++) {
        struct view key = slice_key(arena, now, i), value = slice_value(arena, now, i);
        if (*index_find(present, arena, now, key) != i + 1)
            continue;
        uint32_t was = *index_find(old, arena, before, key);
        if (was == 0 || !view_is_same(slice_value(arena, before, was - 1), value))
            builder_add(builder, key, value);
    }
    for (uint32_t i = 0; i < before->count; i++) {
        struct view key = slice_key(arena, before, i);
        if (*index_find(old, arena, before, key) == i + 1 && *index_find(present, arena, now, key) == 0)
            builder_add(builder, key, view_of(&nil, 1));
    }
}

enum weir_error board_look(struct admin *admin, struct arena *arena, struct budget *budget, enum board board,
                           const struct board_view *before, struct board_view *now, struct board_view *changes)
{
    struct builder present = {.arena = arena, .budget = budget}, different = {.arena = arena, .budget = budget};
    struct index old_index, present_index;
    weir_msg blocks[2] = {WEIR_MSG_NONE, WEIR_MSG_NONE};
    enum weir_error error = board_render(admin, &present, board);
    if (error == WEIR_OK)
        error = index_make(&present, before, &blocks[0], &old_index);
    if (error == WEIR_OK)
        error = index_make(&present, &present.view, &blocks[1], &present_index);
    if (error == WEIR_OK) {
        changes_find(&different, before, &old_index, &present.view, &present_index);
        error = different.error;
    }
    arena_drop(arena, blocks[0]);
    arena_drop(arena, blocks[1]);
    if (error != WEIR_OK) {
        board_view_drop(arena, &present.view);
        board_view_drop(arena, &different.view);
        return error;
    }
    *now = present.view;
    *changes = different.view;
    return WEIR_OK;
}
