/* The topics below $sys/: the broker's own state as snapshot topics, for anybody to get or follow. An actor brings a
 * topic up to date when somebody asks for it, before that is answered, and as long as it is followed publishes once in
 * a while what has changed: keys that differ, and nil for those that are gone. While nobody follows there is no timer
 * and no work. */
#ifndef BROKER_SYS_SYS_H
#define BROKER_SYS_SYS_H

#include <semaphore.h>

#include "broker/admin/admin.h"

/* How many there are: beyond those that the operator allows others to make. */
#define SYS_TOPICS 5

struct sys_options {
    struct runtime *runtime; /* all borrowed; outlive the runtime */
    weir_actor supervisor;
    struct directory *directory;
    struct admin *admin; /* whose commands say what the broker's state is */
    struct budget *budget;
    sem_t *made;          /* posted each time that all topics which were to be made are there, the first time soon */
    uint64_t interval_ms; /* between two looks at what is followed */
};

/* Spawns the actor, which has its topics made. */
WEIR_MUST_USE enum weir_error sys_start(const struct sys_options *options);

#endif
