/* See prefault.h. Called by the spawner and its children, each in its one thread. Sources: madvise(2), proc(5). */
#include "actors/plugin/prefault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "actors/base/assert.h"

/* Since Linux 5.14. An older kernel refuses them, and each page comes when it is used. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define RANGES_MAX 64
/* What is larger is no part of a start, such as a sanitizer's shadow. */
#define RANGE_BYTES_MAX ((uintptr_t)2 << 20)
/* Of the stack, downwards from where it is used. */
#define STACK_BYTES ((uintptr_t)16 << 10)
#define PAGE_BYTES ((uintptr_t)4096)
#define PATH_SIZE 256

struct range {
    uintptr_t start, end;
    int advice;
};
static struct range ranges[RANGES_MAX];
static size_t range_count;

/* One mapping of this process. */
struct mapping {
    unsigned long start, end, offset;
    char rights[5];
    char path[PATH_SIZE]; /* "": memory of its own */
};

/* A line is "start-end rights offset device inode  path", numbers in base 16 but for the inode. */
static bool mapping_read(FILE *maps, struct mapping *out)
{
    char line[PATH_SIZE + 128], *rest = line;
    if (fgets(line, sizeof line, maps) == NULL)
        return false;
    *out = (struct mapping){.rights = ""};
    out->start = strtoul(rest, &rest, 16);
    out->end = *rest == '-' ? strtoul(rest + 1, &rest, 16) : 0;
    if (out->end <= out->start || *rest != ' ' || strlen(rest) < sizeof out->rights)
        return false;
    memcpy(out->rights, rest + 1, sizeof out->rights - 1);
    out->offset = strtoul(rest + sizeof out->rights, &rest, 16);
    size_t size = 0, start = strcspn(rest, "/[\n");
    while (size < PATH_SIZE - 1 && rest[start + size] != '\n' && rest[start + size] != '\0') {
        out->path[size] = rest[start + size];
        size++;
    }
    return true;
}

/* Files of which a child runs nearly all that it runs: this program, libc and the loader. */
struct busy {
    uintptr_t inside[3];
    char paths[3][PATH_SIZE];
};

static bool is_busy(const struct busy *busy, const char *path)
{
    for (size_t i = 0; i < COUNT_OF(busy->paths); i++) {
        if (strcmp(busy->paths[i], path) == 0)
            return true;
    }
    return false;
}

static void busy_find(struct busy *busy, const struct mapping *mapping)
{
    for (size_t i = 0; i < COUNT_OF(busy->inside); i++) {
        if (busy->inside[i] >= mapping->start && busy->inside[i] < mapping->end)
            memcpy(busy->paths[i], mapping->path, PATH_SIZE);
    }
}

/* Of other libraries only the beginning is read, where the loader looks names up. */
static void range_add(const struct busy *busy, const struct mapping *mapping, bool is_behind_busy)
{
    uintptr_t start = mapping->start, here = (uintptr_t)&start;
    bool is_file = mapping->path[0] == '/', is_written = mapping->rights[1] == 'w';
    bool is_wanted = is_file ? is_busy(busy, mapping->path) || mapping->offset == 0
                             : is_written && (is_behind_busy || mapping->path[0] == '[');
    if (here >= start && here < mapping->end)
        start = (here - STACK_BYTES) & ~(PAGE_BYTES - 1);
    if (!is_wanted || mapping->rights[0] != 'r' || mapping->rights[3] != 'p' || range_count == RANGES_MAX ||
        mapping->end - start > RANGE_BYTES_MAX)
        return;
    ranges[range_count++] = (struct range){start, mapping->end, is_written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ};
}

void prefault_prepare(void)
{
    struct busy busy = {.inside = {(uintptr_t)&prefault_prepare, (uintptr_t)&malloc, getauxval(AT_BASE)}};
    struct mapping mapping;
    bool is_behind_busy = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    range_count = 0;
    if (maps == NULL)
        return;
    while (mapping_read(maps, &mapping))
        busy_find(&busy, &mapping);
    rewind(maps);
    while (mapping_read(maps, &mapping)) {
        range_add(&busy, &mapping, is_behind_busy);
        is_behind_busy = mapping.path[0] == '/' && is_busy(&busy, mapping.path);
    }
    fclose(maps);
}

void prefault_do(void)
{
    for (size_t i = 0; i < range_count; i++)
        (void)madvise((void *)ranges[i].start, ranges[i].end - ranges[i].start, ranges[i].advice);
}
