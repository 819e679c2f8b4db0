/* The cursors of a subscription, found by topic while its topics are visited: a request may bring tens of thousands. */
#include "actors/topic/directory_state.h"

static const struct directory_subscribe *details_request(const struct directory *directory,
                                                         const struct sub_details *details)
{
    bool has_one = details != NULL && !msg_is_none(details->request);
    return has_one ? arena_data(directory->arena, details->request) : NULL;
}

static struct view request_cursors(const struct directory_subscribe *request)
{
    return view_of(request->bytes + request->pattern_size + topic_part_size(&request->part), request->cursors_size);
}

enum weir_error sub_cursors_index(struct directory *directory, struct sub *sub)
{
    struct sub_details *details = sub_details(directory, sub);
    const struct directory_subscribe *request = details_request(directory, details);
    if (request == NULL || request->cursor_count == 0)
        return WEIR_OK;
    uint32_t count = 4;
    while (count < 2 * request->cursor_count)
        count *= 2;
    enum weir_error error =
        arena_alloc(directory->arena, count * sizeof(uint32_t), directory->feeds_budget, &details->cursor_index);
    if (error)
        return error;
    uint32_t *offsets = arena_data(directory->arena, details->cursor_index);
    memset(offsets, 0xff, count * sizeof *offsets);
    details->cursor_index_count = count;
    struct view all = request_cursors(request), rest = all;
    for (uint32_t i = 0; i < request->cursor_count; i++) {
        struct cursor cursor;
        uint32_t offset = (uint32_t)(rest.data - all.data);
        error = cursors_next(&rest, &cursor);
        if (error)
            return error == WEIR_AGAIN ? WEIR_BAD_REQUEST : error;
        uint32_t at = directory_hash(directory, cursor.topic) & (count - 1);
        while (offsets[at] != INDEX_NONE)
            at = (at + 1) & (count - 1);
        offsets[at] = offset;
    }
    return WEIR_OK;
}

enum weir_error sub_cursor_find(const struct directory *directory, const struct sub *sub, struct view topic,
                                struct cursor *out)
{
    const struct sub_details *details = sub_details(directory, sub);
    const struct directory_subscribe *request = details_request(directory, details);
    if (request == NULL || details->cursor_index_count == 0)
        return WEIR_NOT_FOUND;
    const uint32_t *offsets = arena_data(directory->arena, details->cursor_index);
    struct view all = request_cursors(request);
    uint32_t mask = details->cursor_index_count - 1;
    for (uint32_t at = directory_hash(directory, topic) & mask; offsets[at] != INDEX_NONE; at = (at + 1) & mask) {
        struct view rest = view_of(all.data + offsets[at], all.size - offsets[at]);
        if (cursors_next(&rest, out) == WEIR_OK && view_is_same(out->topic, topic))
            return WEIR_OK;
    }
    return WEIR_NOT_FOUND;
}
