/* Pages: arena blocks that records are appended to, pairs `key|nil value` in wire encoding one behind the other from
 * the front, a mark for each from the end. Bytes once written never change, so a page is sent, and kept in state, by
 * reference while later records are still appended behind. Written by the topic's turn only; readers elsewhere were
 * told of a range of pairs and look at nothing else. */
#ifndef ACTORS_TOPIC_PAGE_H
#define ACTORS_TOPIC_PAGE_H

#include "actors/memory/arena.h"
#include "clients/wire/view.h"

#define MSGPACK_NIL 0xc0
/* An encoded value that is nil: in a map it deletes its key. */
static inline bool value_is_nil(struct view value) { return value.size == 1 && value.data[0] == MSGPACK_NIL; }

struct page_mark {
    uint32_t offset;  /* of the pair */
    uint32_t time_ms; /* when it came, modulo 2^32 */
};

/* data: the page's bytes, aligned; capacity: a multiple of 8. */
static inline struct page_mark *page_mark_at(uint8_t *data, uint32_t capacity, uint32_t index)
{
    return (struct page_mark *)(void *)(data + capacity - ((size_t)index + 1) * sizeof(struct page_mark));
}

/* How many of the pairs from `index` on, of `count` in all which end at `end`, fit into size_max bytes; at least one.
 */
uint32_t page_pairs_within(uint8_t *data, uint32_t capacity, uint32_t index, uint32_t count, uint32_t end,
                           size_t size_max);

/* A record as it stands in a page. */
struct cell {
    weir_msg block;      /* the page; borrowed */
    const uint8_t *data; /* the pair */
    uint32_t offset, size;
    uint32_t key_size; /* of the encoded key; 0: none, the pair starts with nil */
    uint32_t index;    /* of its mark */
    uint32_t capacity; /* of the page */
    uint32_t time_ms;
    uint64_t seq;  /* that the record will have */
    bool is_alone; /* the page is for this record only */
};

static inline const uint8_t *cell_value(const struct cell *cell)
{
    return cell->data + (cell->key_size ? cell->key_size : 1);
}

#endif
