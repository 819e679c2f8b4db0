/* The client's receive buffer. Called by the client library's reader, one thread at a time. */
#include "clients/sp/inbox.h"

#include "actors/base/assert.h"

#include <stdlib.h>
#include <string.h>

void sp_inbox_init(struct sp_inbox *inbox, bool is_ipc, size_t space_size, size_t body_size_max)
{
    REQUIRE(space_size >= SP_PREFIX_SIZE_MAX);
    REQUIRE(body_size_max < SIZE_MAX / 4 && space_size < SIZE_MAX / 4);
    *inbox = (struct sp_inbox){.space_size = space_size, .body_size_max = body_size_max, .is_ipc = is_ipc};
}

void sp_inbox_fini(struct sp_inbox *inbox)
{
    free(inbox->data);
    *inbox = (struct sp_inbox){0};
}

void sp_inbox_clear(struct sp_inbox *inbox, bool is_ipc)
{
    inbox->begin = 0;
    inbox->end = 0;
    inbox->needed = 0;
    inbox->is_ipc = is_ipc;
}

/* Room for the message at begin and never less than space_size behind it, so that a stream of small messages is read in
 * large pieces and a large message in as few reads as the kernel allows. */
static size_t capacity_wanted(const struct sp_inbox *inbox, size_t held)
{
    size_t wanted = held + inbox->space_size;
    return inbox->needed > wanted ? inbox->needed : wanted;
}

/* Where large messages follow one another, to free the buffer between them would have each fault its pages in again,
 * which costs more than to receive it: it goes back to its usual size when some receives were without one. What is
 * larger than any broker sends by default goes at once: a connection does not keep its worst case. */
enum { IDLE_MAX = 8, KEPT_SIZE_MAX = 2 << 20 };

static size_t size_usual(const struct sp_inbox *inbox) { return 2 * inbox->space_size; }

static bool is_to_shrink(struct sp_inbox *inbox, size_t held)
{
    if (held > 0 || inbox->capacity <= size_usual(inbox))
        return false;
    return inbox->capacity > KEPT_SIZE_MAX || ++inbox->idle > IDLE_MAX;
}

enum weir_error sp_inbox_reserve(struct sp_inbox *inbox, void **space, size_t *size)
{
    size_t held = inbox->end - inbox->begin;
    if (is_to_shrink(inbox, held)) {
        free(inbox->data);
        inbox->data = NULL;
        inbox->capacity = 0;
    }
    if (inbox->begin > 0 && held > 0)
        memmove(inbox->data, inbox->data + inbox->begin, held);
    inbox->begin = 0;
    inbox->end = held;
    size_t wanted = capacity_wanted(inbox, held);
    /* A buffer with half the usual space left is good enough; growing for each remainder would copy for nothing. */
    bool is_roomy = inbox->capacity >= inbox->needed && inbox->capacity - held >= (inbox->space_size + 1) / 2;
    if (!inbox->data || (inbox->capacity < wanted && !is_roomy)) {
        uint8_t *data = realloc(inbox->data, wanted);
        if (!data)
            return WEIR_NO_MEMORY;
        inbox->data = data;
        inbox->capacity = wanted;
    }
    *space = inbox->data + held;
    *size = inbox->capacity - held;
    ENSURE(*size > 0);
    return WEIR_OK;
}

void sp_inbox_commit(struct sp_inbox *inbox, size_t size)
{
    REQUIRE(size <= inbox->capacity - inbox->end);
    inbox->end += size;
    if (inbox->end > size_usual(inbox))
        inbox->idle = 0;
}

enum weir_error sp_inbox_next(struct sp_inbox *inbox, const uint8_t **body, size_t *size)
{
    size_t held = inbox->end - inbox->begin;
    size_t offset = 0;
    inbox->needed = 0;
    if (held == 0)
        return WEIR_AGAIN;
    const uint8_t *data = inbox->data + inbox->begin;
    enum weir_error error =
        sp_message_find(data, held, inbox->is_ipc, inbox->body_size_max, &offset, size, &inbox->needed);
    if (error)
        return error;
    *body = data + offset;
    inbox->begin += offset + *size;
    inbox->needed = 0;
    return WEIR_OK;
}
