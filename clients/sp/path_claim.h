/* The right to listen on an ipc path. Private to clients/sp: the listener claims before it listens. */
#ifndef CLIENTS_SP_PATH_CLAIM_H
#define CLIENTS_SP_PATH_CLAIM_H

#include "weir_error.h"

/* Locks PATH.lock and removes a socket file that nobody listens on any more. The lock makes this race-free among
 * brokers: of two that start at once, one is told WEIR_EXISTS before it has touched the socket. WEIR_EXISTS also for a
 * live listener without the lock, and for a file that is no socket. *claim is a descriptor. Does not block. */
WEIR_MUST_USE enum weir_error sp_path_claim(const char *path, int *claim, const char **reason);

/* The lock file stays: removing it would let a third process lock a file that the second no longer sees. */
void sp_path_release(int claim);

#endif
