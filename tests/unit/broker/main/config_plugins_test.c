/* Plugins in the configuration: what is taken over, and a plugin's own block as msgpack. */
#include "broker/main/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum weir_error load_text(struct config *config, const char *text, char error[CONFIG_ERROR_SIZE])
{
    char path[] = "/tmp/config_test_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    config_init(config);
    enum weir_error result = config_load(config, path, error);
    unlink(path);
    return result;
}

static void plugins_are_taken_with_their_own_block_as_msgpack(void **state)
{
    (void)state;
    static const char expected[] = "\x84\xa1n\x07\xa1m\xfd\xa1l\x95\xc0\xc3\xa1x\xa1"
                                   "7\xcb\x3f\xf8\0\0\0\0\0\0\xa1s\xa5"
                                   "a b c";
    struct config config;
    char error[CONFIG_ERROR_SIZE];
    const char *text =
        "plugins:\n  - name: p-1\n    file: " TEST_PLUGINS "/count.so\n    role: processor\n    host: thread\n"
        "    patterns: [a/+, b]\n    emit: [c/#]\n    restart: transient\n    mailbox_max: 7\n"
        "    config: {n: 7, m: -3, l: [~, true, x, '7', 1.5], s: a b c}\n";
    if (load_text(&config, text, error) != WEIR_OK)
        fail_msg("%s", error);
    assert_int_equal(config.plugin_count, 1);
    const struct plugin_config *plugin = &config.plugins[0];
    assert_string_equal(plugin->name, "p-1");
    assert_int_equal(plugin->role, WEIR_ACTOR_PROCESSOR);
    assert_ptr_equal(plugin->host, &plugin_host_thread);
    assert_int_equal(plugin->pattern_count, 2);
    assert_string_equal(plugin->patterns[1], "b");
    assert_string_equal(plugin->emit[0], "c/#");
    assert_int_equal(plugin->restart, RESTART_TRANSIENT);
    assert_int_equal(plugin->mailbox_max, 7);
    assert_int_equal(plugin->time_ms_max, PLUGIN_TIME_MS_DEFAULT);
    assert_int_equal(plugin->value_size, sizeof expected - 1);
    assert_memory_equal(plugin->value, expected, sizeof expected - 1);
    config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plugins_are_taken_with_their_own_block_as_msgpack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
