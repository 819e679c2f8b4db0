/* Marks: the keys of a topic that end on their own, because their record has a time to live or belongs to a session.
 * The newest record of a key decides: a mark is made, changed or taken away with each. Kind last has one mark at the
 * most, with an empty key. Memory: one block a marked key, and what finds it. Used by the topic's turn only. */
#ifndef ACTORS_TOPIC_MARKS_H
#define ACTORS_TOPIC_MARKS_H

#include "actors/runtime/message.h"
#include "actors/topic/table.h"
#include "clients/wire/view.h"

#define MARK_NEVER UINT64_MAX

/* A session that has keys here, or had: it is kept until it has ended, since it is being monitored. */
struct mark_owner {
    struct table_node node; /* first: the table's nodes are these */
    weir_msg self;
    weir_actor actor;
    struct mark *first; /* its keys */
    uint32_t count;
    uint64_t due_ns;              /* when its keys go; MARK_NEVER while it lives */
    struct mark_owner *next_over; /* ended after this one */
};

struct mark {
    struct table_node node; /* first: the table's nodes are these */
    weir_msg self;
    uint64_t seq; /* of the record it came with */
    uint64_t deadline_ns;
    struct mark_owner *owner;   /* NULL: it belongs to nobody */
    struct mark *newer, *older; /* of the same owner */
    uint32_t heap_at;           /* while it has a deadline */
    uint32_t key_size;          /* encoded */
    uint8_t key[];
};

struct marks {
    struct arena *arena;
    struct budget *budget;
    struct table table, owners;
    struct mark **heap; /* in heap_block: those with a deadline, the earliest first */
    weir_msg heap_block;
    uint32_t heap_count, heap_capacity;
    struct mark_owner *over_first, *over_last; /* owners that have ended, in that order */
    uint64_t seed;
    weir_msg spare; /* a mark that was reserved */
};

/* What a record wants for its key. */
struct mark_want {
    uint64_t deadline_ns; /* MARK_NEVER: none */
    weir_actor owner;     /* none: it is not bound */
};

void marks_init(struct marks *marks, struct arena *arena, struct budget *budget, uint64_t seed);
/* Forgets every mark; the owners stay, since they are monitored. */
void marks_clear(struct marks *marks);
void marks_fini(struct marks *marks);

struct mark *marks_find(const struct marks *marks, struct view key);
/* The owner of that actor; NULL: there is none yet. */
struct mark_owner *marks_owner_find(const struct marks *marks, weir_actor actor);
WEIR_MUST_USE enum weir_error marks_owner_add(struct marks *marks, weir_actor actor);

/* After this marks_set of that key cannot fail. The owner is there already. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error marks_reserve(struct marks *marks, struct view key, const struct mark_want *want);
/* The key's newest record is seq: it has this mark now, or none. */
void marks_set(struct marks *marks, struct view key, uint64_t seq, const struct mark_want *want);
/* Gives an existing mark to another owner. */
void marks_rebind(struct mark *mark, struct mark_owner *owner);
void marks_remove(struct marks *marks, struct mark *mark);

/* The owner has ended: its keys go at due_ns, which never falls from one call to the next. */
void marks_owner_end(struct marks *marks, weir_actor actor, uint64_t due_ns);
/* When something is due next; MARK_NEVER. */
uint64_t marks_due_ns(const struct marks *marks);
/* A mark that is due at now_ns; NULL: none. Owners that have ended and have no keys left are forgotten on the way. */
struct mark *marks_due(struct marks *marks, uint64_t now_ns);

#endif
