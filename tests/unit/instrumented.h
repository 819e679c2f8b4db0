/* Whether a test was built with a sanitizer. The release build runs every seed and step, as there the test's own
 * assertions find what is wrong; an instrumented one, ten to a hundred times as slow, runs as many as its sanitizer
 * needs to see each path taken, and still draws other ones from run to run where the seed is the time's. */
#ifndef TESTS_UNIT_INSTRUMENTED_H
#define TESTS_UNIT_INSTRUMENTED_H

#include "actors/base/clock.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_THREAD_SANITIZER
#endif
#if __has_feature(address_sanitizer)
#define HAS_ADDRESS_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define HAS_THREAD_SANITIZER
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(WEIR_ARENA_CHECKED)
#define HAS_ADDRESS_SANITIZER
#endif

enum {
#ifdef HAS_THREAD_SANITIZER
    IS_THREAD_SANITIZED = 1, /* looks for races: what runs in one thread has none */
#else
    IS_THREAD_SANITIZED = 0,
#endif
#ifdef HAS_ADDRESS_SANITIZER
    IS_ADDRESS_SANITIZED = 1, /* or has one malloc for each block of an arena */
#else
    IS_ADDRESS_SANITIZED = 0,
#endif
    IS_INSTRUMENTED = IS_THREAD_SANITIZED || IS_ADDRESS_SANITIZED,
};

/* How many of so many seeds of runs that are in one thread, of a test that has others too (those that have none are not
 * built where races are looked for): there each costs a hundred times as much and can show none. */
#define SIMULATED(seeds) (IS_THREAD_SANITIZED ? ((seeds) + 9) / 10 : (seeds))

#endif
