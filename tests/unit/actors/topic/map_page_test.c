/* Pages of a map: every entry once, in an order that outlasts changes. */
#include "tests/unit/actors/topic/map_model.h"

enum { STABLE = 1000 }; /* keys below stay while pages are read, the others come and go */

/* Reads one page of the map as it is now; counts its keys and moves `after` behind the last. */
static bool page_next(struct rig *rig, uint32_t limit, size_t bytes_max, const char *prefix, uint8_t after[64],
                      size_t *after_size, uint32_t seen[KEYS])
{
    struct fold_snapshot snapshot;
    struct fold_page page = {.prefix = view_text(prefix),
                             .after = view_of(after, *after_size),
                             .entries_max = limit,
                             .bytes_max = bytes_max};
    enum weir_error error;
    rig->fold.ops->capture(&rig->fold, &snapshot);
    while ((error = rig->fold.ops->page(&rig->fold, &snapshot, rig->budget, &page)) == WEIR_AGAIN)
        ;
    assert_int_equal(error, WEIR_OK);
    assert_true(page.count <= limit);
    assert_true(page.size <= bytes_max || page.count == 1);
    const uint8_t *pair = page.count ? arena_data(rig->arena, page.block) : NULL, *end = pair + page.size;
    uint32_t count = 0;
    for (; pair < end; count++) {
        size_t key_size = value_size_at(pair);
        size_t head = pair[0] == 0xd9 ? 2 : 1;
        char text[64];
        memcpy(text, pair + head, key_size - head);
        text[key_size - head] = 0;
        assert_memory_equal(text, prefix, strlen(prefix));
        seen[strtoul(text + strcspn(text, "0123456789"), NULL, 10)]++;
        memcpy(after, pair, key_size);
        *after_size = key_size;
        pair += key_size + value_size_at(pair + key_size);
    }
    assert_int_equal(count, page.count);
    arena_drop(rig->arena, page.block);
    rig->fold.ops->release(&rig->fold, &snapshot);
    while (rig->fold.ops->sweep != NULL && rig->fold.ops->sweep(&rig->fold, 1000))
        ;
    return page.has_more;
}

static void put(struct rig *rig, uint32_t key, size_t value_size)
{
    uint8_t encoded[64];
    static uint8_t value[4200];
    static const char text[4096];
    size_t size = value_size == 0 ? 1 : encode_str(value, text, value_size);
    if (value_size == 0)
        value[0] = 0xc0;
    assert_int_equal(rig_apply(rig, view_of(encoded, key_encode(encoded, key)), view_of(value, size)), WEIR_OK);
}

static size_t size_random(uint64_t *random) { return random_next(random) % 20 ? 1 + random_next(random) % 80 : 1500; }

static void a_key_that_stays_is_in_one_page_whatever_changes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct rig rig;
        uint64_t random = seed;
        rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
        for (uint32_t key = 0; key < STABLE; key++)
            put(&rig, key, size_random(&random));
        static uint32_t seen[KEYS];
        memset(seen, 0, sizeof seen);
        uint8_t after[64];
        size_t after_size = 0;
        while (page_next(&rig, 1 + (uint32_t)(random_next(&random) % 50), 4096, "", after, &after_size, seen)) {
            for (int i = 0; i < 60; i++) {
                uint32_t key = (uint32_t)(random_next(&random) % KEYS);
                put(&rig, key, key < STABLE || random_next(&random) % 2 ? size_random(&random) : 0);
            }
        }
        for (uint32_t key = 0; key < STABLE; key++)
            assert_int_equal(seen[key], 1);
        for (uint32_t key = STABLE; key < KEYS; key++)
            assert_true(seen[key] <= 1);
        rig_close(&rig);
    }
}

static void the_key_behind_which_a_page_starts_need_not_be_there(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    for (uint32_t key = 0; key < STABLE; key++)
        put(&rig, key, 20);
    static uint32_t seen[KEYS];
    memset(seen, 0, sizeof seen);
    uint8_t after[64];
    size_t after_size = 0;
    bool has_more = true;
    for (uint32_t left = STABLE; left > 0; left--) {
        assert_true(has_more);
        has_more = page_next(&rig, 1, 4096, "", after, &after_size, seen);
        static const uint8_t nil = 0xc0;
        assert_int_equal(rig_apply(&rig, view_of(after, after_size), view_of(&nil, 1)), WEIR_OK);
    }
    assert_false(has_more);
    for (uint32_t key = 0; key < STABLE; key++)
        assert_int_equal(seen[key], 1);
    assert_false(page_next(&rig, 1, 4096, "", after, &after_size, seen)); /* of an empty map */
    rig_close(&rig);
}

static void a_page_has_only_keys_with_its_prefix(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, (struct topic_rule){.kind = TOPIC_MAP});
    for (uint32_t key = 0; key < STABLE; key++)
        put(&rig, key, key % 30 ? 20 : 1500);
    static uint32_t seen[KEYS];
    memset(seen, 0, sizeof seen);
    uint8_t after[64];
    size_t after_size = 0;
    uint32_t wanted = 0, pages = 1;
    while (page_next(&rig, 10, 65536, "key/12", after, &after_size, seen))
        pages++;
    for (uint32_t key = 0; key < STABLE; key++) {
        bool is_wanted = key % 7 != 0 && (key == 12 || key / 10 == 12);
        assert_int_equal(seen[key], is_wanted);
        wanted += is_wanted;
    }
    assert_int_equal(pages, (wanted + 9) / 10);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_stays_is_in_one_page_whatever_changes),
        cmocka_unit_test(the_key_behind_which_a_page_starts_need_not_be_there),
        cmocka_unit_test(a_page_has_only_keys_with_its_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
