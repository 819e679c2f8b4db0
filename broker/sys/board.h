/* Boards: what the topics below $sys/ show. A board is looked at by the very commands of the admin socket, and compared
 * with how it was the last time, so that only what differs is published. On a thread of the blocking pool, one at a
 * time for each board. */
#ifndef BROKER_SYS_BOARD_H
#define BROKER_SYS_BOARD_H

#include "actors/topic/topic.h"
#include "broker/admin/admin.h"

/* Bytes of one board as rendered: some ten thousand rows; those beyond are not shown. It bounds what a topic below
 * $sys/ holds, and what is kept to compare with: as much again. */
#define BOARD_BYTES_MAX ((size_t)4 << 20)
#define BOARD_BYTES_FIRST ((size_t)64 << 10)
/* Of the path of an actor in the tree. */
#define BOARD_KEY_SIZE_MAX 512

enum board { BOARD_STATUS, BOARD_TOPICS, BOARD_CONNECTIONS, BOARD_TREE, BOARD_DEAD, BOARD_COUNT };

/* One record: kind last has no keys, and one row. */
struct board_kind {
    const char *topic;
    enum topic_kind kind;
};
extern const struct board_kind board_kinds[BOARD_COUNT];

/* How a board was when it was looked at: encoded keys and values, one behind the other, and where each is. */
struct board_view {
    weir_msg pairs, slices; /* slices: of struct record_slice */
    uint32_t count;
};
void board_view_drop(struct arena *arena, struct board_view *view);

/* Looks at a board. *now: the caller's to drop. *changes: what makes `before` the same as now, keys that are gone with
 * nil; may be of no records, the caller's to drop. WEIR_NO_MEMORY: neither. */
WEIR_MUST_USE enum weir_error board_look(struct admin *admin, struct arena *arena, struct budget *budget,
                                         enum board board, const struct board_view *before, struct board_view *now,
                                         struct board_view *changes);

#endif
