/* Fuzzes the configuration: the input as a YAML file, and each of its lines as a --topic option. A refusal has a
 * sentence that names the file; what is taken lies within its ranges. libFuzzer's thread. */
#include "broker/main/config.h"

#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The file in memory that stands for the configuration's, rewritten each time. */
static int memory_file(char path[64])
{
    static int file = -1;
    if (file < 0)
        file = memfd_create("config", 0);
    REQUIRE(file >= 0);
    snprintf(path, 64, "/proc/self/fd/%d", file);
    return file;
}

#define WITHIN(section, key, min, max) \
    REQUIRE(config->section.key + UINT64_C(0) <= (max) && config->section.key + 1 > (min));
#define BROKER_WITHIN(key, initial, min, max, live) WITHIN(broker, key, min, max)
#define CONNECTIONS_WITHIN(key, initial, min, max, live) WITHIN(connections, key, min, max)
#define SESSIONS_WITHIN(key, initial, min, max, live) WITHIN(sessions, key, min, max)
#define TOPICS_WITHIN(key, initial, min, max, live) WITHIN(topics, key, min, max)
#define RULE_WITHIN(key, initial, min, max, live) WITHIN(fallback, key, min, max)

static void check_ranges(const struct config *config)
{
    CONFIG_BROKER_TABLE(BROKER_WITHIN)
    CONFIG_CONNECTIONS_TABLE(CONNECTIONS_WITHIN)
    CONFIG_SESSIONS_TABLE(SESSIONS_WITHIN)
    CONFIG_TOPICS_TABLE(TOPICS_WITHIN)
    CONFIG_RULE_TABLE(RULE_WITHIN)
}

static void try_file(const uint8_t *data, size_t size)
{
    struct config config;
    char path[64], error[CONFIG_ERROR_SIZE] = "";
    int file = memory_file(path);
    REQUIRE(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    config_init(&config);
    if (config_load(&config, path, error) != WEIR_OK) {
        REQUIRE(strncmp(error, path, strlen(path)) == 0 && memchr(error, '\0', sizeof error) != NULL);
    } else {
        check_ranges(&config);
        if (config_check(&config, error) != WEIR_OK)
            REQUIRE(*error != '\0');
    }
    config_fini(&config);
}

static void try_topics(const uint8_t *data, size_t size)
{
    struct config config;
    char error[CONFIG_ERROR_SIZE] = "", line[2048];
    config_init(&config);
    while (size > 0 && config.rule_count < 16) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t length = end != NULL ? (size_t)(end - data) : size;
        size_t kept = length < sizeof line ? length : sizeof line - 1;
        memcpy(line, data, kept);
        line[kept] = '\0';
        *error = '\0';
        if (config_topic_add(&config, config.rule_count, line, error) != WEIR_OK)
            REQUIRE(*error != '\0');
        data += end != NULL ? length + 1 : length;
        size -= end != NULL ? length + 1 : length;
    }
    config_fini(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_file(data, size);
    try_topics(data, size);
    return 0;
}
