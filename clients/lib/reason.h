/* What weir_reason tells the user's thread after a call that did not succeed. Any thread. */
#ifndef CLIENTS_LIB_REASON_H
#define CLIENTS_LIB_REASON_H

#include "clients/lib/weir.h"

void reason_note(enum weir_error error); /* of reason_usual, which returns what it is given where analyzers see it */

/* All return error, for `return reason_...`. The usual one is weir_error_text's and costs no formatting: it is for what
 * may come often (WEIR_BUSY), and does nothing for WEIR_OK. A sentence that is given is cut at 255 bytes. */
static inline enum weir_error reason_usual(enum weir_error error)
{
    reason_note(error);
    return error;
}
enum weir_error reason_callback(void); /* WEIR_FORBIDDEN: a callback would wait for its own thread */
__attribute__((format(printf, 2, 3))) enum weir_error reason_give(enum weir_error error, const char *format, ...);

#endif
