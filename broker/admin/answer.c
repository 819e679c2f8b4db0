/* Writes replies whose sizes are not known beforehand: containers get a header of fixed width that is filled in at
 * their end. Called by the commands. */
#include "broker/admin/answer.h"

#include "actors/base/assert.h"
#include "actors/base/clock.h"

/* msgpack's map 32 and array 32. */
enum { MAP32 = 0xdf, ARRAY32 = 0xdd, HEADER_SIZE = 5 };

static void container_open(struct answer *answer, bool is_map)
{
    REQUIRE(answer->depth < ANSWER_DEPTH_MAX);
    uint8_t header[HEADER_SIZE] = {is_map ? MAP32 : ARRAY32};
    answer->levels[answer->depth].at = answer->writer.size;
    answer->levels[answer->depth].count = 0;
    answer->levels[answer->depth].is_map = is_map;
    answer->depth++;
    value_write_raw(&answer->writer, view_of(header, sizeof header));
}

static void member(struct answer *answer, const char *key)
{
    if (answer->depth == 0)
        return;
    answer->levels[answer->depth - 1].count++;
    REQUIRE(answer->levels[answer->depth - 1].is_map == (key != NULL));
    if (key != NULL)
        value_write_str(&answer->writer, view_text(key));
}

void answer_init(struct answer *answer, void *data, size_t capacity)
{
    *answer = (struct answer){.depth = 0};
    value_writer_init(&answer->writer, data, capacity);
    container_open(answer, true);
}

void answer_map(struct answer *answer, const char *key)
{
    member(answer, key);
    container_open(answer, true);
}

void answer_rows(struct answer *answer, const char *key)
{
    member(answer, key);
    container_open(answer, false);
}

void answer_end(struct answer *answer)
{
    REQUIRE(answer->depth > 0);
    answer->depth--;
    if (answer->writer.is_full)
        return;
    uint8_t *header = answer->writer.data + answer->levels[answer->depth].at;
    uint32_t count = answer->levels[answer->depth].count;
    for (int i = 0; i < 4; i++)
        header[1 + i] = (uint8_t)(count >> (24 - 8 * i));
}

void answer_uint(struct answer *answer, const char *key, uint64_t value)
{
    member(answer, key);
    value_write_uint(&answer->writer, value);
}

void answer_age(struct answer *answer, const char *key, uint64_t since_ns)
{
    if (!answer->is_lasting)
        answer_uint(answer, key, since_ns == 0 ? 0 : (clock_now_ns() - since_ns) / NS_PER_MS);
}

void answer_double(struct answer *answer, const char *key, double value)
{
    member(answer, key);
    value_write_double(&answer->writer, value);
}

void answer_bool(struct answer *answer, const char *key, bool value)
{
    member(answer, key);
    value_write_bool(&answer->writer, value);
}

void answer_text(struct answer *answer, const char *key, const char *text)
{
    member(answer, key);
    value_write_str(&answer->writer, view_text(text));
}

void answer_raw(struct answer *answer, const char *key, struct view encoded)
{
    member(answer, key);
    value_write_raw(&answer->writer, encoded);
}
