/* What a subscription needs while its topics are visited, and beyond that only with wildcards or options. Most follow
 * one topic by its name, as they come: these keep nothing but the block that the name is in. In the directory's
 * turns. */
#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"

struct sub_details *sub_details(const struct directory *directory, const struct sub *sub)
{
    return sub->is_plain ? NULL : arena_data(directory->arena, sub->text);
}

struct view sub_pattern(const struct directory *directory, const struct sub *sub)
{
    if (sub->is_plain) {
        const struct topic_shared *shared = arena_data(directory->arena, sub->text);
        return view_of(shared->name, shared->name_size);
    }
    const struct sub_details *details = sub_details(directory, sub);
    return view_of(details->pattern, details->pattern_size);
}

/* The shorter of two bounds, of which 0 is none. */
static uint32_t block_ms_allowed(const struct directory *directory, uint32_t wanted_ms)
{
    uint32_t max_ms = directory->block_max_ms;
    return wanted_ms == 0 || (max_ms != 0 && max_ms < wanted_ms) ? max_ms : wanted_ms;
}

enum weir_error sub_details_create(const struct directory *directory, const struct directory_subscribe *request,
                                   weir_msg *out)
{
    size_t bytes_size = request->pattern_size + topic_part_size(&request->part);
    enum weir_error error =
        arena_alloc(directory->arena, sizeof(struct sub_details) + bytes_size, directory->feeds_budget, out);
    if (error)
        return error;
    struct sub_details *details = arena_data(directory->arena, *out);
    *details = (struct sub_details){.outbox_max = request->outbox_max,
                                    .interval_ms = request->interval_ms,
                                    .block_ms = block_ms_allowed(directory, request->block_ms),
                                    .part = request->part,
                                    .pattern_size = (uint16_t)request->pattern_size};
    memcpy(details->pattern, request->bytes, bytes_size);
    return WEIR_OK;
}

static void visit_end(const struct directory *directory, struct sub_details *details)
{
    arena_drop(directory->arena, details->request);
    arena_drop(directory->arena, details->cursor_index);
    details->request = details->cursor_index = WEIR_MSG_NONE;
    details->cursor_index_count = 0;
}

/* block_ms matters to policy block alone, and has a default that is not 0. */
static bool is_default(const struct sub *sub, const struct sub_details *details)
{
    return details->pattern_node == NULL && details->outbox_max == 0 && details->interval_ms == 0 &&
           sub->policy != POLICY_BLOCK && details->part.match == KEY_ANY && topic_part_size(&details->part) == 0 &&
           details->part.page_entries_max == 0;
}

void sub_details_shrink(struct directory *directory, uint32_t sub_index)
{
    struct sub *sub = directory_sub_at(directory, sub_index);
    uint32_t link = directory_sub_links(directory, sub_index);
    struct sub_details *details = sub_details(directory, sub);
    visit_end(directory, details); /* key and cursors were for the topics of now */
    if (link == INDEX_NONE || !is_default(sub, details))
        return;
    uint32_t topic = directory_link_at(directory, link)->topic;
    weir_msg shared = directory_topic_at(directory, topic)->shared_block;
    if (arena_hold(directory->arena, shared))
        return;
    arena_drop(directory->arena, sub->text);
    sub->text = shared;
    sub->is_plain = true;
}

void sub_details_free(struct directory *directory, struct sub *sub)
{
    if (!sub->is_plain)
        visit_end(directory, sub_details(directory, sub));
    arena_drop(directory->arena, sub->text);
    sub->text = WEIR_MSG_NONE;
}
