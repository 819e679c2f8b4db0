/* Verbs of a plugin that bring nothing about outside it: its memory, its messages, its reasons, msgpack values. Called
 * by the plugin while the runner calls it; one thread at a time. */
#include "actors/plugin/runner_state.h"

#include "clients/wire/token.h"
#include "clients/wire/utf8.h"
#include "clients/wire/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_MAGIC UINT64_C(0x5765697242424c4b)

const char *runner_phase_name(enum runner_phase phase)
{
    static const char *const names[] = {
        [PHASE_NONE] = "no call",   [PHASE_INIT] = "init",         [PHASE_RESTORE] = "restore",
        [PHASE_MESSAGE] = "handle", [PHASE_SNAPSHOT] = "snapshot", [PHASE_STOP] = "stop",
    };
    return names[phase];
}

struct view text_cut(char *out, size_t capacity, const char *text)
{
    size_t size = strnlen(text, capacity);
    if (size == capacity) {
        size = capacity - 1;
        while (size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80)
            size--;
    }
    memcpy(out, text, size);
    out[size] = '\0';
    if (!utf8_is_valid((const uint8_t *)out, size)) {
        for (size_t index = 0; index < size; index++)
            out[index] = (uint8_t)out[index] < 0x80 ? out[index] : '?';
    }
    return view_of(out, size);
}

void runner_fail_text(struct runner *runner, const char *format, ...)
{
    char text[2 * PLUGIN_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)text_cut(runner->text, sizeof runner->text, text);
}

static void verb_fail(struct weir_self *self, const char *text)
{
    struct runner *runner = runner_of(self);
    (void)text_cut(runner->text, sizeof runner->text, text);
}

/* ------------------------------------------------------------------------------------------- memory */

static void *block_alloc(struct runner *runner, size_t size)
{
    uint64_t bound = runner->bounds.memory_bytes_max;
    if (size > SIZE_MAX - sizeof(struct runner_block) || runner->memory_used > bound ||
        size + sizeof(struct runner_block) > bound - runner->memory_used)
        return NULL;
    struct runner_block *block = malloc(sizeof *block + size);
    if (block == NULL)
        return NULL;
    *block = (struct runner_block){.magic = BLOCK_MAGIC, .size = size, .next = runner->blocks};
    block->place = &runner->blocks;
    if (block->next != NULL)
        block->next->place = &block->next;
    runner->blocks = block;
    runner->memory_used += sizeof *block + size;
    return block + 1;
}

static void block_free(struct runner *runner, struct runner_block *block)
{
    *block->place = block->next;
    if (block->next != NULL)
        block->next->place = block->place;
    runner->memory_used -= sizeof *block + block->size;
    block->magic = 0;
    free(block);
}

static void *verb_alloc(struct weir_self *self, size_t size) { return block_alloc(runner_of(self), size); }

/* Something else than weir_alloc gave is a bug of the plugin's, found where it happens. */
static void verb_free(struct weir_self *self, void *memory)
{
    if (memory == NULL)
        return;
    struct runner_block *block = (struct runner_block *)memory - 1;
    MAGIC_CHECK(block, BLOCK_MAGIC);
    block_free(runner_of(self), block);
}

void runner_memory_free(struct runner *runner)
{
    for (struct runner_block *block = runner->blocks, *next = NULL; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    runner->blocks = NULL;
    runner->memory_used = 0;
}

/* Copies bytes to *place, and *place behind them. */
static struct weir_bytes bytes_keep(uint8_t **place, struct weir_bytes bytes)
{
    if (bytes.data == NULL)
        return bytes;
    struct weir_bytes kept = weir_bytes_of(*place, bytes.size);
    if (bytes.size > 0)
        memcpy(*place, bytes.data, bytes.size);
    *place += bytes.size;
    return kept;
}

static const struct weir_message *verb_hold(struct weir_self *self, const struct weir_message *message)
{
    size_t size = sizeof *message + message->topic.size + message->key.size + message->value.size;
    struct weir_message *held = block_alloc(runner_of(self), size);
    if (held == NULL)
        return NULL;
    uint8_t *place = (uint8_t *)(held + 1);
    *held = *message;
    held->topic = bytes_keep(&place, message->topic);
    held->key = bytes_keep(&place, message->key);
    held->value = bytes_keep(&place, message->value);
    return held;
}

static void verb_release(struct weir_self *self, const struct weir_message *held)
{
    /* The block is the runner's own, const only for the plugin. */
    verb_free(self, (void *)(uintptr_t)held);
}

/* ------------------------------------------------------------------------------------------- values */

static void item_from(const struct token *token, struct weir_item *out)
{
    static const uint32_t types[] = {
        [TOKEN_NIL] = WEIR_VALUE_NIL,      [TOKEN_BOOL] = WEIR_VALUE_BOOL,     [TOKEN_UINT] = WEIR_VALUE_UINT,
        [TOKEN_NEGATIVE] = WEIR_VALUE_INT, [TOKEN_DOUBLE] = WEIR_VALUE_DOUBLE, [TOKEN_STR] = WEIR_VALUE_STR,
        [TOKEN_BIN] = WEIR_VALUE_BIN,      [TOKEN_EXT] = WEIR_VALUE_EXT,       [TOKEN_ARRAY] = WEIR_VALUE_ARRAY,
        [TOKEN_MAP] = WEIR_VALUE_MAP,
    };
    *out = (struct weir_item){.type = types[token->type]};
    switch (token->type) {
    case TOKEN_BOOL: out->as.b = token->as.boolean; break;
    case TOKEN_UINT: out->as.u = token->as.uint; break;
    case TOKEN_NEGATIVE: out->as.i = token->as.negative; break;
    case TOKEN_DOUBLE: out->as.d = token->as.real; break;
    case TOKEN_ARRAY:
    case TOKEN_MAP: out->count = token->as.count; break;
    case TOKEN_EXT: out->as.u = (uint8_t)token->as.ext; break;
    default: break;
    }
    out->bytes = weir_bytes_of(token->bytes.data, token->bytes.size);
}

static bool verb_read(struct weir_reader *reader, struct weir_item *out)
{
    struct view rest = view_of(reader->rest.data, reader->rest.size);
    struct token token = {.type = TOKEN_NIL};
    *out = (struct weir_item){.type = WEIR_VALUE_NIL};
    if (reader->is_bad || rest.size == 0)
        return false;
    enum weir_error error = token_next(&rest, &token);
    /* Each element takes a byte or more: a count beyond what is there is found out before anybody loops on it. */
    if (error != WEIR_OK || (token.type == TOKEN_ARRAY && token.as.count > rest.size) ||
        (token.type == TOKEN_MAP && token.as.count > rest.size / 2)) {
        reader->is_bad = true;
        return false;
    }
    if (token.type != TOKEN_STR && token.type != TOKEN_BIN && token.type != TOKEN_EXT)
        token.bytes = view_of(NULL, 0);
    item_from(&token, out);
    reader->rest = weir_bytes_of(rest.data, rest.size);
    return true;
}

static bool verb_skip(struct weir_reader *reader, struct weir_bytes *out)
{
    struct view rest = view_of(reader->rest.data, reader->rest.size);
    size_t size = 0;
    if (reader->is_bad || rest.size == 0)
        return false;
    if (value_scan(rest, VALUE_DEPTH_LIMIT, &size) != WEIR_OK) {
        reader->is_bad = true;
        return false;
    }
    if (out != NULL)
        *out = weir_bytes_of(rest.data, size);
    reader->rest = weir_bytes_of(rest.data + size, rest.size - size);
    return true;
}

/* The one kind of item that frames never need: its head by hand, as the specification has it. */
static void ext_write(struct value_writer *writer, uint8_t type, struct view bytes)
{
    uint8_t head[6] = {0xc7, (uint8_t)bytes.size};
    size_t size = 2;
    if (bytes.size > UINT8_MAX) {
        uint32_t length = htobe32((uint32_t)bytes.size);
        head[0] = 0xc9;
        memcpy(head + 1, &length, sizeof length);
        size = 5;
    } else if (bytes.size != 0 && bytes.size <= 16 && (bytes.size & (bytes.size - 1)) == 0) {
        head[0] = (uint8_t)(0xd4 + __builtin_ctzll(bytes.size));
        size = 1;
    }
    head[size++] = type;
    value_write_raw(writer, view_of(head, size));
    if (!writer->is_full)
        value_write_raw(writer, bytes);
}

static void verb_write(struct weir_writer *out, const struct weir_item *item)
{
    struct value_writer writer = {.data = out->data, .size = out->size, .capacity = out->capacity};
    struct view bytes = view_of(item->bytes.data, item->bytes.size);
    size_t before = out->size;
    bool is_sized = item->type == WEIR_VALUE_STR || item->type == WEIR_VALUE_BIN || item->type == WEIR_VALUE_EXT;
    writer.is_full = out->is_full || out->size > out->capacity || (is_sized && bytes.size > UINT32_MAX);
    switch (item->type) {
    case WEIR_VALUE_NIL: value_write_nil(&writer); break;
    case WEIR_VALUE_BOOL: value_write_bool(&writer, item->as.b); break;
    case WEIR_VALUE_INT: value_write_int(&writer, item->as.i); break;
    case WEIR_VALUE_UINT: value_write_uint(&writer, item->as.u); break;
    case WEIR_VALUE_DOUBLE: value_write_double(&writer, item->as.d); break;
    case WEIR_VALUE_ARRAY: value_write_array(&writer, item->count); break;
    case WEIR_VALUE_MAP: value_write_map(&writer, item->count); break;
    case WEIR_VALUE_STR:
        if (!writer.is_full)
            value_write_str(&writer, bytes);
        break;
    case WEIR_VALUE_BIN:
        if (!writer.is_full)
            value_write_bin(&writer, bytes);
        break;
    case WEIR_VALUE_EXT:
        if (!writer.is_full)
            ext_write(&writer, (uint8_t)item->as.u, bytes);
        break;
    default: writer.is_full = true; break;
    }
    /* An item is there whole or not at all. */
    out->size = writer.is_full ? before : writer.size;
    out->is_full = writer.is_full;
}

const struct weir_verbs runner_verbs = {
    .size = sizeof(struct weir_verbs),
    .emit = runner_emit,
    .timer = runner_timer,
    .timer_cancel = runner_timer_cancel,
    .log = runner_log,
    .fail = verb_fail,
    .hold = verb_hold,
    .release = verb_release,
    .alloc = verb_alloc,
    .free = verb_free,
    .read = verb_read,
    .skip = verb_skip,
    .write = verb_write,
    .reply = runner_reply,
    .emit_merged = runner_emit_merged,
};
