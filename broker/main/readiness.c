/* See readiness.h. */
#include "broker/main/readiness.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/log.h"

#define LIBRARY "libsystemd.so.0" /* its version of this function has been the same since 2013 */

typedef int notify_fn(int unset_environment, const char *state);

/* NULL: there is no such library here. It stays loaded. */
static notify_fn *notify_find(void)
{
    static notify_fn *notify;
    void *library = notify == NULL ? dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library != NULL)
        *(void **)&notify = dlsym(library, "sd_notify"); /* as dlsym(3) says */
    return notify;
}

void readiness_tell(const char *state)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (name == NULL || name[0] == '\0')
        return;
    notify_fn *notify = notify_find();
    int result = notify == NULL ? 0 : notify(0, state);
    if (notify == NULL)
        log_warning("readiness", "NOTIFY_SOCKET=\"%.120s\" state=%s what=\"%s is not installed\"", name, state,
                    LIBRARY);
    else if (result <= 0)
        log_warning("readiness", "NOTIFY_SOCKET=\"%.120s\" state=%s what=\"%s\"", name, state, strerror(-result));
}
