/* weir-test: the whole of `weir` with one fold changed, so that scenarios can make topics fail or be slow on demand. In
 * topics of kind map a record whose value is one of these texts, or that text in arrays of one, does what it says; all
 * others fold as ever.
 *
 *   fail always     fails at each attempt
 *   fail twice      fails at the first two attempts of all such records, then folds
 *   fail broken     fails while the file that WEIR_TEST_BROKEN names exists
 *   slow            takes 2 ms to fold
 *
 * The fold runs in topics' turns, on any worker. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/base/limits.h"
#include "actors/topic/fold.h"
#include "clients/wire/value.h"

/* The real main, under this name (tests/scenario/CMakeLists.txt). */
int weir_main(int argc, char **argv);

#define SLOW_NS (2 * NS_PER_MS)

static struct fold_ops failing;
static const char *broken_path;  /* written before any thread starts */
static atomic_uint failed_twice; /* relaxed: only a count */

static struct view value_text(const struct cell *cell)
{
    struct value_reader reader;
    const uint8_t *value = cell_value(cell);
    value_reader_init(&reader, view_of(value, cell->size - (size_t)(value - cell->data)), VALUE_DEPTH_LIMIT);
    while (reader.rest.size > 0 && reader.rest.data[0] == 0x91)
        (void)value_read_array(&reader);
    struct view text = value_read_str(&reader);
    return reader.error == WEIR_OK ? text : view_text("");
}

static void take_time(void)
{
    uint64_t end = clock_now_ns() + SLOW_NS;
    while (clock_now_ns() < end)
        continue;
}

static enum weir_error failing_apply(struct fold *fold, const struct cell *cell)
{
    struct view text = value_text(cell);
    if (view_is_same(text, view_text("fail always")))
        return WEIR_INTERNAL;
    if (view_is_same(text, view_text("fail twice")) &&
        atomic_fetch_add_explicit(&failed_twice, 1, memory_order_relaxed) < 2)
        return WEIR_INTERNAL;
    if (view_is_same(text, view_text("fail broken")) && broken_path != NULL && access(broken_path, F_OK) == 0)
        return WEIR_INTERNAL;
    if (view_is_same(text, view_text("slow")))
        take_time();
    return fold_map.apply(fold, cell);
}

int main(int argc, char **argv)
{
    broken_path = getenv("WEIR_TEST_BROKEN");
    failing = fold_map;
    failing.apply = failing_apply;
    fold_replace(TOPIC_MAP, &failing);
    return weir_main(argc, argv);
}
