/* Why a call was refused, in words: one sentence a thread, written on refusal only. Any thread, no lock. */
#include "clients/lib/reason.h"

#include <stdarg.h>
#include <stdio.h>

enum { REASON_SIZE_MAX = 256 };

static _Thread_local char written[REASON_SIZE_MAX];
static _Thread_local const char *said; /* NULL: nothing yet */

void reason_note(enum weir_error error)
{
    if (error != WEIR_OK)
        said = weir_error_text(error);
}

enum weir_error reason_callback(void)
{
    said = "a callback cannot wait: it runs on the thread that it would wait for";
    return WEIR_FORBIDDEN;
}

enum weir_error reason_give(enum weir_error error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(written, sizeof written, format, arguments);
    va_end(arguments);
    said = written;
    return error;
}

const char *weir_reason(void) { return said != NULL ? said : ""; }
