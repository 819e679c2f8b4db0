/* Logs: one logfmt line an event on stderr, written with one write(2). Any thread; does not
 * allocate, may block only as write(2) does.
 *
 *   log_info("connection.open", "peer=%s protocol=%s", log_quote(buffer, sizeof buffer, peer), name);
 *   -> time=2026-11-23T06:00:00.123Z level=info event=connection.open peer=... protocol=... */
#ifndef ACTORS_BASE_LOG_H
#define ACTORS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir_error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_OFF };

void log_level_set(enum log_level level);
enum log_level log_level_get(void);
const char *log_level_name(enum log_level level);
/* WEIR_NOT_FOUND for an unknown name. */
WEIR_MUST_USE enum weir_error log_level_find(const char *name, enum log_level *out);

/* Where lines go instead of stderr (tests); NULL restores stderr. Not thread-safe. */
void log_sink_set(void (*sink)(const char *line, size_t size, void *context), void *context);

__attribute__((format(printf, 3, 4))) void log_write(enum log_level level, const char *event, const char *format, ...);

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

/* text as a logfmt value, quoted and escaped where needed, cut with "…" where it does not fit; returns out. */
const char *log_quote(char *out, size_t capacity, const char *text, size_t size);

/* Lets one line through per interval and counts the ones held back. */
struct log_limit {
    uint64_t interval_ns;
    uint64_t next_ns;
    uint64_t suppressed;
};
/* True when the caller may log now; *suppressed is then how many were held back since the last one. */
bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed);

#endif
