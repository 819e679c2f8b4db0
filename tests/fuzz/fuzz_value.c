/* Values: what value_scan takes, msgpack-c takes too and ends at the same byte; every prefix of it asks for more;
 * written again by msgpack-c it is still taken. */
#include "clients/wire/value.h"

#include "tests/fuzz/fuzz.h"

#include <msgpack.h>

#define PREFIXES_MAX 128

static void check_prefixes(struct view value)
{
    size_t scanned;
    for (size_t cut = 0; cut < value.size && cut < PREFIXES_MAX; cut++)
        ENSURE(value_scan(view_of(value.data, cut), FUZZ_DEPTH, &scanned) == WEIR_AGAIN);
}

static void check_against_library(struct view value)
{
    msgpack_unpacked unpacked;
    msgpack_sbuffer buffer;
    size_t offset = 0, scanned;
    msgpack_unpacked_init(&unpacked);
    ENSURE(msgpack_unpack_next(&unpacked, (const char *)value.data, value.size, &offset) == MSGPACK_UNPACK_SUCCESS);
    ENSURE(offset == value.size);
    msgpack_sbuffer_init(&buffer);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    ENSURE(msgpack_pack_object(&packer, unpacked.data) == 0);
    struct view again = view_of(buffer.data, buffer.size);
    ENSURE(value_scan(again, FUZZ_DEPTH, &scanned) == WEIR_OK && scanned == again.size);
    msgpack_sbuffer_destroy(&buffer);
    msgpack_unpacked_destroy(&unpacked);
}

/* Any sequence of reads stays inside and reports failure once and for all. */
static void check_reader(struct view data)
{
    struct value_reader reader;
    value_reader_init(&reader, data, FUZZ_DEPTH);
    while (reader.error == WEIR_OK && !value_reader_at_end(&reader)) {
        size_t left = reader.rest.size;
        switch (reader.rest.data[0] % 6) {
        case 0: (void)value_read_uint(&reader); break;
        case 1: (void)value_read_str(&reader); break;
        case 2: (void)value_read_array(&reader); break;
        case 3: (void)value_read_map(&reader); break;
        case 4: (void)value_read_key(&reader); break;
        default: (void)value_read_any(&reader); break;
        }
        ENSURE(reader.error != WEIR_OK || reader.rest.size < left);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t scanned;
    enum weir_error error = value_scan(view_of(data, size), FUZZ_DEPTH, &scanned);
    ENSURE(error == WEIR_OK || error == WEIR_AGAIN || error == WEIR_BAD_REQUEST);
    if (error == WEIR_OK) {
        ENSURE(scanned > 0 && scanned <= size);
        check_prefixes(view_of(data, scanned));
        check_against_library(view_of(data, scanned));
    }
    check_reader(view_of(data, size));
    return 0;
}
