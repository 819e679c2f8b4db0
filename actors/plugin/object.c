/* Opens shared objects. Called by the runner; the thread host does that in the plugin actor's turn, and opening has
 * the loader's own lock. */
#include "actors/plugin/object.h"

#include "actors/plugin/plugin_limits.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* "/proc/self/fd/" and a number. */
#define COPY_NAME_SIZE 40

__attribute__((format(printf, 4, 5))) static enum weir_error refuse(enum weir_error error, char *why, size_t why_size,
                                                                    const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return error;
}

/* Whoever can write the file can run code as this user: only root and this user may be able to. */
static enum weir_error file_check(int file, struct stat *found, const char *name, char *why, size_t why_size)
{
    if (fstat(file, found) != 0)
        return refuse(WEIR_IO, why, why_size, "%s: %s", name, strerror(errno));
    if (!S_ISREG(found->st_mode))
        return refuse(WEIR_FORBIDDEN, why, why_size, "%s is no regular file", name);
    if (found->st_uid != 0 && found->st_uid != geteuid())
        return refuse(WEIR_FORBIDDEN, why, why_size,
                      "%s belongs to user %u: only root's files and this user's (%u) run", name,
                      (unsigned)found->st_uid, (unsigned)geteuid());
    if ((found->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return refuse(WEIR_FORBIDDEN, why, why_size, "%s can be written by others (mode %04o): chmod go-w", name,
                      (unsigned)(found->st_mode & 07777));
    if (found->st_size == 0 || (uint64_t)found->st_size > PLUGIN_FILE_BYTES_MAX)
        return refuse(WEIR_TOO_BIG, why, why_size, "%s has %lld bytes; 1 to %zu are allowed", name,
                      (long long)found->st_size, PLUGIN_FILE_BYTES_MAX);
    return WEIR_OK;
}

static enum weir_error file_copy(int file, size_t size, const char *name, int *out, char *why, size_t why_size)
{
    int copy = memfd_create("weir-plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t left = size;
    if (copy < 0)
        return refuse(WEIR_IO, why, why_size, "%s: no memory file for it: %s", name, strerror(errno));
    while (left > 0) {
        ssize_t sent = sendfile(copy, file, NULL, left);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0) {
            int cause = sent < 0 ? errno : EIO;
            (void)close(copy);
            return refuse(WEIR_IO, why, why_size, "%s cannot be read: %s", name, strerror(cause));
        }
        left -= (size_t)sent;
    }
    if (fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int cause = errno;
        (void)close(copy);
        return refuse(WEIR_IO, why, why_size, "%s: its copy cannot be sealed: %s", name, strerror(cause));
    }
    *out = copy;
    return WEIR_OK;
}

enum weir_error object_copy(const char *name, int *out, char *why, size_t why_size)
{
    struct stat found;
    int file = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        enum weir_error error = errno == ENOENT || errno == ENOTDIR ? WEIR_NOT_FOUND
                                : errno == EACCES                   ? WEIR_FORBIDDEN
                                                                    : WEIR_IO;
        return refuse(error, why, why_size, "%s: %s", name, strerror(errno));
    }
    enum weir_error error = file_check(file, &found, name, why, why_size);
    if (error == WEIR_OK)
        error = file_copy(file, (size_t)found.st_size, name, out, why, why_size);
    (void)close(file);
    return error;
}

static enum weir_error plugin_check(const struct weir_actor_plugin *plugin, enum weir_actor_role role, const char *name,
                                    char *why, size_t why_size)
{
    if (plugin->abi_major != WEIR_ACTOR_ABI_MAJOR || plugin->abi_minor > WEIR_ACTOR_ABI_MINOR)
        return refuse(WEIR_BAD_REQUEST, why, why_size,
                      "%s was built for version %u.%u of weir_actor.h, this is %d.%d: build it anew", name,
                      (unsigned)plugin->abi_major, (unsigned)plugin->abi_minor, WEIR_ACTOR_ABI_MAJOR,
                      WEIR_ACTOR_ABI_MINOR);
    if (plugin->size < sizeof *plugin)
        return refuse(WEIR_BAD_REQUEST, why, why_size,
                      "%s: its weir_actor_plugin has %u bytes instead of %zu: begin it with WEIR_ACTOR_HEAD", name,
                      (unsigned)plugin->size, sizeof *plugin);
    if ((plugin->roles & (uint32_t)role) == 0)
        return refuse(WEIR_BAD_REQUEST, why, why_size, "%s is no %s", name,
                      role == WEIR_ACTOR_FOLD ? "fold" : "processor");
    if (plugin->name == NULL || plugin->version == NULL || plugin->init == NULL || plugin->handle == NULL)
        return refuse(WEIR_BAD_REQUEST, why, why_size, "%s lacks a name, a version, init or handle", name);
    if ((plugin->snapshot == NULL) != (plugin->restore == NULL))
        return refuse(WEIR_BAD_REQUEST, why, why_size, "%s has snapshot or restore, but not both", name);
    return WEIR_OK;
}

/* The loader begins with the name it was given, which is the copy's. */
static const char *loader_text(const char *copy_name)
{
    const char *text = dlerror();
    size_t size = strlen(copy_name);
    if (text == NULL)
        return "the loader gives no reason";
    return strncmp(text, copy_name, size) == 0 && text[size] == ':' ? text + size + 2 : text;
}

static void copy_name_write(int copy, char out[static COPY_NAME_SIZE])
{
    (void)snprintf(out, COPY_NAME_SIZE, "/proc/self/fd/%d", copy);
}

enum weir_error object_open(int copy, const char *file, enum weir_actor_role role, struct object *out, char *why,
                            size_t why_size)
{
    struct object object = {.copy = copy};
    char copy_name[COPY_NAME_SIZE];
    enum weir_error error = WEIR_OK;
    copy_name_write(object.copy, copy_name);
    object.library = dlopen(copy_name, RTLD_NOW | RTLD_LOCAL);
    if (object.library == NULL) {
        error = refuse(WEIR_BAD_REQUEST, why, why_size, "%s cannot be loaded: %s", file, loader_text(copy_name));
        (void)close(object.copy);
        return error;
    }
    object.plugin = dlsym(object.library, "weir_actor_plugin");
    if (object.plugin == NULL)
        error = refuse(WEIR_BAD_REQUEST, why, why_size,
                       "%s exports no weir_actor_plugin: it is no plugin, or hides the symbol", file);
    else
        error = plugin_check(object.plugin, role, file, why, why_size);
    if (error != WEIR_OK) {
        object_close(&object);
        return error;
    }
    *out = object;
    return WEIR_OK;
}

void object_close(struct object *object)
{
    char copy_name[COPY_NAME_SIZE];
    copy_name_write(object->copy, copy_name);
    (void)dlclose(object->library);
    /* Some objects cannot be unloaded. The name of such a one must not come again, or the loader would give it out
     * for another file. */
    void *still_there = dlopen(copy_name, RTLD_LAZY | RTLD_NOLOAD);
    if (still_there != NULL)
        (void)dlclose(still_there);
    else
        (void)close(object->copy);
    *object = (struct object){.copy = -1};
}
