/* One request over SP REQ and its reply, with a deadline over everything: what `weir admin` and `weir bench` ask the
 * admin socket with. Main thread. */
#ifndef CLIENTS_CLI_ASK_H
#define CLIENTS_CLI_ASK_H

#include <stddef.h>
#include <stdint.h>

#include "clients/wire/view.h"
#include "weir_error.h"

/* Dials url, sends request and waits for the reply, all within timeout_ms. *reply is heap memory for the caller to
 * free. WEIR_CONNECT, WEIR_TIMEOUT, WEIR_CLOSED, WEIR_PROTOCOL, WEIR_NO_MEMORY; *reason: a sentence in static storage.
 */
WEIR_MUST_USE enum weir_error ask(const char *url, uint64_t timeout_ms, struct view request, uint8_t **reply,
                                  size_t *reply_size, const char **reason);

#endif
