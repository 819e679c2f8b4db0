/* What a plugin's child may do: compute, sleep, wake the broker, and read what its configuration grants. Called in the
 * child, before and after the shared object is opened: opening needs files and executable mappings, running it does
 * not. Only the first step is over when the object's constructors run, so those may still read the libraries' folders.
 *
 * A machine that lacks one of the means gets the others; what is missing is put into words for the log. Without
 * a seccomp filter nothing is run at all. */
#ifndef ACTORS_PLUGIN_SANDBOX_H
#define ACTORS_PLUGIN_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir_error.h"

struct sandbox {
    const char *const *grants; /* files and folders it may read; NULL-terminated, or NULL */
    uint64_t memory_bytes_max;
    int fd_max; /* highest descriptor in use */

    int landlock_abi;  /* found out: 0: the kernel has none */
    int statm;         /* /proc/self/statm, open between the two steps */
    char missing[256]; /* what this machine does not give; "": nothing */
};

/* Whether this build leaves memory limits, or the filter as well, away: sanitizers need terabytes of addresses, and
 * TSan calls what no filter of ours allows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_HAS_MEMORY_LIMIT 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOX_HAS_MEMORY_LIMIT 0
#endif
#endif
#ifndef SANDBOX_HAS_MEMORY_LIMIT
#define SANDBOX_HAS_MEMORY_LIMIT 1
#endif
#if defined(__SANITIZE_THREAD__)
#define SANDBOX_HAS_FILTER 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANDBOX_HAS_FILTER 0
#endif
#endif
#ifndef SANDBOX_HAS_FILTER
#define SANDBOX_HAS_FILTER 1
#endif

/* Before opening the object: namespaces, no new privileges, limits, Landlock for libraries and grants, and the filter
 * that allows to open and to map. WEIR_FORBIDDEN, WEIR_NOT_FOUND (a grant), with why (256 bytes). */
WEIR_MUST_USE enum weir_error sandbox_enter(struct sandbox *sandbox, char *why, size_t why_size);
/* After it: nothing executable any more, no file but the grants, memory_bytes_max from here on. */
WEIR_MUST_USE enum weir_error sandbox_close(struct sandbox *sandbox, char *why, size_t why_size);

/* sandbox_filter.c. Building a filter takes longer than all else that a child does before init, so the spawner does it
 * once for all; where it could not, a child is refused its filter: WEIR_FORBIDDEN, errno. */
void sandbox_filters_make(void);
WEIR_MUST_USE enum weir_error sandbox_filter_enter(void);
WEIR_MUST_USE enum weir_error sandbox_filter_close(bool may_open);

#endif
