/* What a failed assertion does. Called from any thread, possibly with every lock held and the heap
 * damaged: it formats on the stack, writes once and aborts. */
#include "actors/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void assert_fail(const char *kind, const char *condition, const char *file, int line, const char *function)
{
    char text[512];
    int size =
        snprintf(text, sizeof text, "weir: %s failed: %s at %s:%d in %s\n", kind, condition, file, line, function);
    if (size >= (int)sizeof text) {
        size = (int)sizeof text - 1;
        text[size - 1] = '\n';
    }
    /* The process ends whatever write says, so there is nobody to tell of its failure. */
    if (size > 0 && write(STDERR_FILENO, text, (size_t)size) < 0)
        abort();
    abort();
}
