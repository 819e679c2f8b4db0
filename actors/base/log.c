/* Log lines: format on the stack, write once. Called by the broker's parts and the runtime's; any
 * thread. The level may change at any time; the sink only while nobody logs. */
#include "actors/base/log.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "actors/base/limits.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARNING] = "warning", [LOG_ERROR] = "error", [LOG_OFF] = "off",
};

/* Written by log_level_set, read by every writer. Relaxed: a line more or less around a change is fine. */
static _Atomic int level_now = LOG_INFO;

static void (*sink_now)(const char *line, size_t size, void *context);
static void *sink_context;

void log_level_set(enum log_level level)
{
    REQUIRE((unsigned)level <= LOG_OFF);
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_level_get(void) { return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed); }

const char *log_level_name(enum log_level level)
{
    REQUIRE((unsigned)level <= LOG_OFF);
    return level_names[level];
}

enum weir_error log_level_find(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return WEIR_OK;
        }
    }
    return WEIR_NOT_FOUND;
}

void log_sink_set(void (*sink)(const char *line, size_t size, void *context), void *context)
{
    sink_now = sink;
    sink_context = context;
}

static void line_emit(const char *line, size_t size)
{
    if (sink_now) {
        sink_now(line, size, sink_context);
        return;
    }
    /* A log that cannot be written has nowhere to say so; the line is lost and the program goes on. */
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written;
}

/* size grown by what snprintf said it wanted, cut at the last byte of the line, which is kept for '\n'. */
static size_t line_grow(size_t size, int wanted)
{
    size_t grown = size + (wanted > 0 ? (size_t)wanted : 0);
    return grown < LOG_LINE_SIZE_MAX - 1 ? grown : LOG_LINE_SIZE_MAX - 1;
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&level_now, memory_order_relaxed) || level >= LOG_OFF)
        return;
    char line[LOG_LINE_SIZE_MAX];
    char wall[32];
    clock_wall_text(wall, sizeof wall);
    size_t size = 0;
    size = line_grow(size, snprintf(line, sizeof line, "time=%s level=%s event=%s ", wall, level_names[level], event));
    va_list arguments;
    va_start(arguments, format);
    size = line_grow(size, vsnprintf(line + size, sizeof line - size, format, arguments));
    va_end(arguments);
    while (size > 0 && line[size - 1] == ' ')
        size--;
    line[size++] = '\n';
    line_emit(line, size);
}

/* How many bytes from text form one printable UTF-8 character; 0 when they must be escaped: control
 * characters (which can steer a terminal), broken, overlong and surrogate sequences. */
static size_t printable_size(const unsigned char *text, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (text[0] < 0x80)
        return text[0] >= 0x20 && text[0] != 0x7f ? 1 : 0;
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || length > size)
        return 0;
    uint32_t code = text[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3fU);
    }
    bool is_valid = code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return is_valid && code >= 0xa0 ? length : 0;
}

static bool needs_quotes(const unsigned char *text, size_t size)
{
    if (size == 0)
        return true;
    for (size_t i = 0, step; i < size; i += step) {
        step = printable_size(text + i, size - i);
        if (step == 0 || text[i] == ' ' || text[i] == '"' || text[i] == '=' || text[i] == '\\')
            return true;
    }
    return false;
}

/* Writes the next character of text as it stands in a quoted value; returns its size there (at most 4)
 * and in *step how many bytes of text it stood for. */
static size_t quote_next(char out[8], const unsigned char *text, size_t size, size_t *step)
{
    size_t plain = printable_size(text, size);
    *step = plain ? plain : 1;
    if (text[0] == '"' || text[0] == '\\')
        return (size_t)snprintf(out, 8, "\\%c", text[0]);
    if (text[0] == '\n')
        return (size_t)snprintf(out, 8, "\\n");
    if (plain == 0)
        return (size_t)snprintf(out, 8, "\\x%02x", text[0]);
    memcpy(out, text, plain);
    return plain;
}

static size_t quoted_size(const unsigned char *text, size_t size)
{
    size_t quoted = 0;
    for (size_t i = 0, step; i < size; i += step) {
        char next[8];
        quoted += quote_next(next, text + i, size - i, &step);
    }
    return quoted;
}

const char *log_quote(char *out, size_t capacity, const char *text, size_t size)
{
    static const char ellipsis[] = "\xe2\x80\xa6"; /* … */
    REQUIRE(capacity >= sizeof ellipsis + 3);
    const unsigned char *bytes = (const unsigned char *)text;
    bool is_quoted = needs_quotes(bytes, size);
    size_t room = capacity - 1 - (is_quoted ? 2 : 0);
    bool is_cut = quoted_size(bytes, size) > room;
    size_t used = 0;
    if (is_cut)
        room -= sizeof ellipsis - 1;
    if (is_quoted) {
        out[used++] = '"';
        room++;
    }
    for (size_t i = 0, step; i < size; i += step) {
        char next[8];
        size_t next_size = quote_next(next, bytes + i, size - i, &step);
        if (used + next_size > room)
            break;
        memcpy(out + used, next, next_size);
        used += next_size;
    }
    if (is_cut) {
        memcpy(out + used, ellipsis, sizeof ellipsis - 1);
        used += sizeof ellipsis - 1;
    }
    if (is_quoted)
        out[used++] = '"';
    out[used] = '\0';
    return out;
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed)
{
    if (now_ns < limit->next_ns) {
        limit->suppressed++;
        return false;
    }
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    limit->next_ns = now_ns + limit->interval_ns;
    return true;
}
