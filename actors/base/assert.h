/* Assertions that stay on in every build, sorted by what a failure means.
 *
 * An assertion is for bugs only: input from outside is refused, never asserted on. A failed one
 * prints its kind, place and condition to stderr and aborts. */
#ifndef ACTORS_BASE_ASSERT_H
#define ACTORS_BASE_ASSERT_H

#include <stdbool.h>
#include <stddef.h>

/* Prints "weir: KIND failed: CONDITION at FILE:LINE in FUNCTION" and aborts. */
__attribute__((noreturn, cold)) void assert_fail(const char *kind, const char *condition, const char *file, int line,
                                                 const char *function);

#define ASSERT_KIND(kind, condition) \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_fail(kind, #condition, __FILE__, __LINE__, __func__))

/* The caller broke the contract above the prototype. */
#define REQUIRE(condition) ASSERT_KIND("requirement", condition)
/* This code broke its own promise. */
#define ENSURE(condition) ASSERT_KIND("promise", condition)
/* Something that always holds between calls does not. */
#define INVARIANT(condition) ASSERT_KIND("invariant", condition)
#define UNREACHABLE() assert_fail("unreachable code", "reached", __FILE__, __LINE__, __func__)

/* Objects on the heap carry a magic number first, so that a wrong or freed one is caught. */
#define MAGIC_CHECK(object, number) REQUIRE((object) != NULL && (object)->magic == (number))

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
