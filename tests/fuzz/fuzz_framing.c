/* SP framing: the input is a flag byte, a bound in two bytes, and a stream. Each answer is inside the data, is what the
 * prefix says when written again, and does not change its mind as bytes come in one by one. */
#include "clients/sp/framing.h"

#include "tests/fuzz/fuzz.h"

#define PREFIXES_MAX 64

static void check_header(const uint8_t *header)
{
    uint8_t again[SP_HEADER_SIZE];
    uint16_t protocol;
    enum sp_protocol answer;
    if (sp_header_read(header, &protocol) != WEIR_OK)
        return;
    sp_header_write(again, (enum sp_protocol)protocol);
    ENSURE(memcmp(header, again, sizeof again) == 0);
    if (sp_protocol_answer(protocol, &answer) == WEIR_OK)
        ENSURE(answer != 0);
}

static void check_shorter(struct view stream, bool is_ipc, size_t bound, enum weir_error whole)
{
    size_t offset, size, needed;
    for (size_t cut = 0; cut < stream.size && cut < PREFIXES_MAX; cut++) {
        enum weir_error error = sp_message_find(stream.data, cut, is_ipc, bound, &offset, &size, &needed);
        ENSURE(error == WEIR_AGAIN || error == whole);
        ENSURE(error != WEIR_AGAIN || needed > cut);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= SP_HEADER_SIZE)
        check_header(data);
    if (size < 3)
        return 0;
    bool is_ipc = data[0] % 2 == 0;
    size_t bound = (size_t)data[1] << 8 | data[2];
    struct view stream = view_of(data + 3, size - 3);
    size_t offset, found, needed, prefix_size = sp_prefix_size(is_ipc);
    enum weir_error error = WEIR_OK;
    while (error == WEIR_OK) {
        error = sp_message_find(stream.data, stream.size, is_ipc, bound, &offset, &found, &needed);
        check_shorter(stream, is_ipc, bound, error);
        if (error != WEIR_OK)
            break;
        uint8_t prefix[SP_PREFIX_SIZE_MAX];
        ENSURE(offset == prefix_size && found <= bound && offset + found <= stream.size);
        sp_prefix_write(prefix, is_ipc, found);
        ENSURE(memcmp(prefix, stream.data, prefix_size) == 0);
        stream = view_of(stream.data + offset + found, stream.size - offset - found);
    }
    ENSURE(error == WEIR_AGAIN || error == WEIR_TOO_BIG || error == WEIR_PROTOCOL);
    return 0;
}
