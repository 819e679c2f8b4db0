/* Borrowed bytes. Dies with the buffer it points into. */
#ifndef CLIENTS_WIRE_VIEW_H
#define CLIENTS_WIRE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct view {
    const uint8_t *data;
    size_t size;
};

static inline struct view view_of(const void *data, size_t size) { return (struct view){data, size}; }
static inline struct view view_text(const char *text) { return (struct view){(const uint8_t *)text, strlen(text)}; }
static inline bool view_is_same(struct view a, struct view b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool view_begins_with(struct view view, struct view prefix)
{
    return view.size >= prefix.size && (prefix.size == 0 || memcmp(view.data, prefix.data, prefix.size) == 0);
}

#endif
