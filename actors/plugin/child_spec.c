/* The specification of a child as bytes; child_spec.h says between whom. */
#include "actors/plugin/child_spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Followed by name, file and grants, each with its NUL, then the configuration. */
struct spec_head {
    struct runner_bounds bounds;
    uint64_t config_size;
    uint32_t role, time_ms_max, start_ms_max, ring_bytes;
    uint32_t grant_count, reserved;
};

static bool write_all(int fd, const void *data, size_t size)
{
    const char *rest = data;
    while (size > 0) {
        ssize_t written = write(fd, rest, size);
        if (written <= 0)
            return false;
        rest += written;
        size -= (size_t)written;
    }
    return true;
}

static bool write_text(int fd, const char *text) { return write_all(fd, text, strlen(text) + 1); }

enum weir_error child_spec_write(const struct plugin_spec *spec, int *fd)
{
    struct spec_head head = {.bounds = spec->bounds,
                             .config_size = spec->config.size,
                             .role = spec->role,
                             .time_ms_max = spec->time_ms_max,
                             .start_ms_max = spec->start_ms_max,
                             .ring_bytes = spec->ring_bytes};
    while (spec->grants != NULL && spec->grants[head.grant_count] != NULL) {
        if (++head.grant_count > CHILD_GRANTS_MAX)
            return WEIR_TOO_BIG;
    }
    *fd = memfd_create("weir-plugin-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return errno == ENOMEM ? WEIR_NO_MEMORY : WEIR_IO;
    bool is_whole = write_all(*fd, &head, sizeof head) && write_text(*fd, spec->name) && write_text(*fd, spec->file);
    for (uint32_t i = 0; is_whole && i < head.grant_count; i++)
        is_whole = write_text(*fd, spec->grants[i]);
    is_whole = is_whole && write_all(*fd, spec->config.data, spec->config.size);
    if (is_whole && fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return WEIR_OK;
    close(*fd);
    *fd = -1;
    return WEIR_IO;
}

static const char *next_text(const char **rest, const char *end)
{
    const char *text = *rest;
    const char *nul = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;
    *rest = nul != NULL ? nul + 1 : end;
    return nul != NULL ? text : NULL;
}

bool child_spec_read(int fd, struct plugin_spec *out)
{
    static const char *grants[CHILD_GRANTS_MAX + 1];
    struct stat status;
    struct spec_head head;
    if (fstat(fd, &status) != 0 || (size_t)status.st_size < sizeof head)
        return false;
    const char *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return false;
    const char *rest = bytes + sizeof head, *end = bytes + status.st_size;
    memcpy(&head, bytes, sizeof head);
    *out = (struct plugin_spec){.role = head.role,
                                .bounds = head.bounds,
                                .time_ms_max = head.time_ms_max,
                                .start_ms_max = head.start_ms_max,
                                .ring_bytes = head.ring_bytes,
                                .grants = grants};
    out->name = next_text(&rest, end);
    out->file = next_text(&rest, end);
    for (uint32_t i = 0; i < head.grant_count && i < CHILD_GRANTS_MAX; i++)
        grants[i] = next_text(&rest, end);
    out->config = view_of(rest, (size_t)(end - rest));
    return out->name != NULL && out->file != NULL && out->config.size == head.config_size;
}
