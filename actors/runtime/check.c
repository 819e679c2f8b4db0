/* Checks that fail an actor instead of the process. In its turn. */
#include "actors/base/log.h"
#include "actors/runtime/runtime.h"

enum weir_error turn_check_failed(struct turn *turn, const char *condition, const char *file, int line)
{
    struct actor_status status;
    const char *name = "an actor";
    if (actor_status(turn_runtime(turn), turn_self(turn), &status) == WEIR_OK)
        name = status.label[0] != '\0' ? status.label : status.behaviour;
    log_error("actor.check", "actor=\"%s\" condition=\"%s\" at=%s:%d", name, condition, file, line);
    return WEIR_FAILED;
}
