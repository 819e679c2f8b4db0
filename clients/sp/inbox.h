/* A receive buffer that cuts the byte stream of one pipe into SP messages, for owners that do not bring arena blocks
 * (the client library, tests). One thread at a time.
 *
 * The round: sp_inbox_reserve -> receive into that space -> sp_inbox_commit -> sp_inbox_next until WEIR_AGAIN. */
#ifndef CLIENTS_SP_INBOX_H
#define CLIENTS_SP_INBOX_H

#include "clients/sp/framing.h"

struct sp_inbox {
    uint8_t *data; /* heap; NULL before the first reserve */
    size_t capacity;
    size_t begin;         /* bytes before this are used up */
    size_t end;           /* bytes from begin to this were received */
    size_t needed;        /* size of the message at begin with its prefix, as far as known */
    size_t space_size;    /* what a receive is offered at least */
    size_t body_size_max; /* longer messages are refused */
    unsigned idle;        /* reserves in a row without a message for which the usual space was too small */
    bool is_ipc;
};

/* space_size: how many bytes a receive is offered (64 KiB serves well); the buffer grows with a message that is longer,
 * up to body_size_max. Allocates nothing yet. */
void sp_inbox_init(struct sp_inbox *inbox, bool is_ipc, size_t space_size, size_t body_size_max);
/* A zeroed inbox is fine. */
void sp_inbox_fini(struct sp_inbox *inbox);

/* Forgets all bytes, for another connection; keeps the memory. */
void sp_inbox_clear(struct sp_inbox *inbox, bool is_ipc);

/* Where to receive, and how much fits: at least the rest of the message that has begun. Moves what is left of the last
 * receive, so views that sp_inbox_next gave are over. WEIR_NO_MEMORY. */
WEIR_MUST_USE enum weir_error sp_inbox_reserve(struct sp_inbox *inbox, void **space, size_t *size);

/* size bytes of the reserved space were filled. */
void sp_inbox_commit(struct sp_inbox *inbox, size_t size);

/* The next whole message: *body is a view that lives until the next reserve. WEIR_AGAIN when more must be received;
 * WEIR_TOO_BIG and WEIR_PROTOCOL end the stream: the same answer comes again. */
WEIR_MUST_USE enum weir_error sp_inbox_next(struct sp_inbox *inbox, const uint8_t **body, size_t *size);

#endif
