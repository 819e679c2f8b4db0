/* See arena.h: what both arenas do alike. Any thread. */
#include <string.h>

#include "actors/base/assert.h"
#include "actors/memory/arena.h"

enum weir_error arena_grow(struct arena *arena, weir_msg *block, size_t used, size_t size, struct budget *owner)
{
    weir_msg larger;
    REQUIRE(used <= size && (used == 0 || arena_size(arena, *block) >= used));
    enum weir_error error = arena_alloc(arena, size, owner, &larger);
    if (error)
        return error;
    if (used > 0)
        memcpy(arena_data(arena, larger), arena_data(arena, *block), used);
    arena_drop(arena, *block);
    *block = larger;
    return WEIR_OK;
}
