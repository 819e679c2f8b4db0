/* The texts of `weir plugin new`. Each is a file as users get it; tests/tidy/install_test.sh builds and runs them. */
#include "clients/cli/plugin_skeleton.h"

#include "actors/base/assert.h"

static const char plugin_text[] =
    "/* @NAME@: a Weir plugin. README.md says how it is built, tested and run; weir_actor.h what it may "
    "do.\n"
    " *\n"
    " * @ABOUT@\n"
    " * It is a beginning: replace what it counts. */\n"
    "#include <stdio.h>\n"
    "#include <string.h>\n"
    "\n"
    "#include <weir_actor.h>\n"
    "\n"
    "struct state {\n"
    "    uint64_t step; /* from the configuration: what a record counts */\n"
    "    uint64_t count;\n"
    "@FIELD@};\n"
    "\n"
    "static struct weir_bytes text_of(const char *text) { return weir_bytes_of(text, strlen(text)); }\n"
    "\n"
    "static bool is_text(struct weir_item item, const char *text)\n"
    "{\n"
    "    return item.type == WEIR_VALUE_STR && item.bytes.size == strlen(text) &&\n"
    "           memcmp(item.bytes.data, text, item.bytes.size) == 0;\n"
    "}\n"
    "\n"
    "/* Reads the configuration, a map. A wrong one ends here, with a sentence for whoever wrote it. */\n"
    "static enum weir_actor_result config_read(struct weir_self *self, struct weir_bytes config, struct "
    "state *state)\n"
    "{\n"
    "    struct weir_reader reader = {config, false};\n"
    "    struct weir_item map, key, value;\n"
    "    state->step = 1;\n"
    "    if (!weir_read(self, &reader, &map) || (map.type != WEIR_VALUE_MAP && map.type != "
    "WEIR_VALUE_NIL)) {\n"
    "        weir_fail(self, \"config: must be a map\");\n"
    "        return WEIR_ACTOR_FAILED;\n"
    "    }\n"
    "    for (uint32_t i = 0; map.type == WEIR_VALUE_MAP && i < map.count; i++) {\n"
    "        char text[128];\n"
    "        if (weir_read(self, &reader, &key) && is_text(key, \"step\") && weir_read(self, &reader, "
    "&value) &&\n"
    "            value.type == WEIR_VALUE_UINT && value.as.u > 0) {\n"
    "            state->step = value.as.u;\n"
    "            continue;\n"
    "        }\n"
    "@CONFIG@        snprintf(text, sizeof text, \"config: @KEYS@; entry %u is something else\", "
    "(unsigned)i + 1);\n"
    "        weir_fail(self, text);\n"
    "        return WEIR_ACTOR_FAILED;\n"
    "    }\n"
    "@CHECK@    return WEIR_ACTOR_OK;\n"
    "}\n"
    "\n"
    "static enum weir_actor_result on_init(struct weir_self *self, struct weir_bytes config, void **out)\n"
    "{\n"
    "    struct state *state = weir_alloc(self, sizeof *state);\n"
    "    if (state == NULL) {\n"
    "        weir_fail(self, \"no memory: raise memory_bytes_max\");\n"
    "        return WEIR_ACTOR_FAILED;\n"
    "    }\n"
    "    memset(state, 0, sizeof *state);\n"
    "    *out = state;\n"
    "    return config_read(self, config, state);\n"
    "}\n"
    "\n"
    "static enum weir_actor_result on_message(struct weir_self *self, void *pointer, const struct "
    "weir_message *message)\n"
    "{\n"
    "    struct state *state = pointer;\n"
    "    char memory[16];\n"
    "    struct weir_writer writer = {memory, 0, sizeof memory, false};\n"
    "    struct weir_item count = {.type = WEIR_VALUE_UINT};\n"
    "    if (message->kind != WEIR_MESSAGE_RECORD && message->kind != WEIR_MESSAGE_ASK)\n"
    "        return WEIR_ACTOR_OK;\n"
    "    count.as.u = state->count + (message->kind == WEIR_MESSAGE_RECORD ? state->step : 0);\n"
    "    weir_write(self, &writer, &count);\n"
    "    if (message->kind == WEIR_MESSAGE_ASK) /* weir ask: by a topic's name or the plugin's */\n"
    "        return weir_reply(self, weir_bytes_of(memory, writer.size));\n"
    "    state->count = count.as.u;\n"
    "    return weir_emit(self, @TARGET@, text_of(\"count\"),\n"
    "                     weir_bytes_of(memory, writer.size));\n"
    "}\n"
    "\n"
    "/* The state as one value: restarts and reloads go on with it. */\n"
    "static enum weir_actor_result on_snapshot(struct weir_self *self, void *pointer, struct weir_writer "
    "*out)\n"
    "{\n"
    "    const struct state *state = pointer;\n"
    "    struct weir_item count = {.type = WEIR_VALUE_UINT};\n"
    "    count.as.u = state->count;\n"
    "    weir_write(self, out, &count);\n"
    "    return WEIR_ACTOR_OK;\n"
    "}\n"
    "\n"
    "static enum weir_actor_result on_restore(struct weir_self *self, void *pointer, struct weir_bytes "
    "snapshot)\n"
    "{\n"
    "    struct state *state = pointer;\n"
    "    struct weir_reader reader = {snapshot, false};\n"
    "    struct weir_item count;\n"
    "    if (!weir_read(self, &reader, &count) || count.type != WEIR_VALUE_UINT) {\n"
    "        weir_fail(self, \"this is no snapshot of @NAME@\");\n"
    "        return WEIR_ACTOR_FAILED;\n"
    "    }\n"
    "    state->count = count.as.u;\n"
    "    return WEIR_ACTOR_OK;\n"
    "}\n"
    "\n"
    "static void on_stop(struct weir_self *self, void *pointer) { weir_free(self, pointer); }\n"
    "\n"
    "const struct weir_actor_plugin weir_actor_plugin = {\n"
    "    WEIR_ACTOR_HEAD(@ROLES@),\n"
    "    .name = \"@NAME@\",\n"
    "    .version = \"0.1\",\n"
    "    .about = \"counts records\",\n"
    "    .init = on_init,\n"
    "    .handle = on_message,\n"
    "    .snapshot = on_snapshot,\n"
    "    .restore = on_restore,\n"
    "    .stop = on_stop,\n"
    "};\n";

static const char cmake_text[] =
    "cmake_minimum_required(VERSION 3.16)\n"
    "project(@NAME@ LANGUAGES C)\n"
    "set(CMAKE_C_STANDARD 11)\n"
    "if(NOT CMAKE_BUILD_TYPE)\n"
    "  set(CMAKE_BUILD_TYPE Release)\n"
    "endif()\n"
    "\n"
    "# weir-actor.pc comes with Weir; where it is installed elsewhere: "
    "PKG_CONFIG_PATH=PREFIX/lib/pkgconfig.\n"
    "find_package(PkgConfig REQUIRED)\n"
    "pkg_check_modules(WEIR_ACTOR REQUIRED IMPORTED_TARGET weir-actor)\n"
    "\n"
    "add_library(@NAME@ MODULE @NAME@.c)\n"
    "target_link_libraries(@NAME@ PRIVATE PkgConfig::WEIR_ACTOR)\n"
    "target_compile_options(@NAME@ PRIVATE -Wall -Wextra)\n"
    "set_target_properties(@NAME@ PROPERTIES PREFIX \"\" C_VISIBILITY_PRESET hidden)\n"
    "# The broker refuses a plugin that others could overwrite.\n"
    "add_custom_command(TARGET @NAME@ POST_BUILD COMMAND chmod go-w $<TARGET_FILE:@NAME@>)\n"
    "\n"
    "enable_testing()\n"
    "find_program(WEIR weir REQUIRED)\n"
    "add_test(NAME records COMMAND ${CMAKE_SOURCE_DIR}/test/run.sh ${WEIR} $<TARGET_FILE:@NAME@>)\n";

static const char readme_text[] =
    "# @NAME@\n"
    "\n"
    "A plugin of the Weir message broker, in the role @ROLE@.\n"
    "\n"
    "    cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure\n"
    "\n"
    "The test runs `weir plugin test` over `test/records.jsonl`: records as they came, with the time "
    "they came at. What must\n"
    "come out is in `test/expected.jsonl`. To try it by hand:\n"
    "\n"
    "    weir plugin test --role @ROLE@ --config-file test/config.json build/@NAME@.so < "
    "test/records.jsonl\n"
    "\n"
    "To run it, in the broker's configuration:\n"
    "\n"
    "@YAML@\n"
    "| key | type | default | meaning |\n"
    "| --- | --- | --- | --- |\n"
    "| step | whole number above 0 | 1 | what a record counts |\n"
    "@ROW@";

static const char run_text[] =
    "#!/bin/sh\n"
    "# Runs the plugin against test/records.jsonl and compares what it emits with test/expected.jsonl; "
    "once more with an end\n"
    "# and a snapshot behind each record, which must change nothing. Usage: run.sh WEIR PLUGIN.so\n"
    "set -eu\n"
    "here=$(dirname \"$0\")\n"
    "got=$(mktemp)\n"
    "trap 'rm -f \"$got\"' EXIT\n"
    "for restart in \"\" \"--restart-every 1\"; do\n"
    "    \"$1\" plugin test --role @ROLE@ --config-file \"$here/config.json\" $restart \"$2\" < "
    "\"$here/records.jsonl\" > \"$got\"\n"
    "    diff -u \"$here/expected.jsonl\" \"$got\"\n"
    "done\n";

static const char config_text[] = "@JSON@\n";

static const char records_text[] =
    "{\"topic\":\"doors/front\",\"key\":\"a17\",\"value\":{\"open\":true},\"time_ms\":1764460800000}\n"
    "{\"topic\":\"doors/front\",\"key\":\"a17\",\"value\":{\"open\":false},\"time_ms\":1764460804250}\n"
    "{\"topic\":\"doors/front\",\"key\":\"b02\",\"value\":{\"open\":true},\"time_ms\":1764460811000}\n"
    "{\"topic\":\"doors/front\",\"value\":null,\"kind\":\"ask\",\"time_ms\":1764460812000}\n";

static const char expected_text[] = "{\"topic\":\"@OUT@\",\"key\":\"count\",\"value\":2,\"time_ms\":1764460800000}\n"
                                    "{\"topic\":\"@OUT@\",\"key\":\"count\",\"value\":4,\"time_ms\":1764460804250}\n"
                                    "{\"topic\":\"@OUT@\",\"key\":\"count\",\"value\":6,\"time_ms\":1764460811000}\n"
                                    "{\"line\":4,\"reply\":6}\n";

const struct skeleton_file skeleton_files[] = {
    {"@NAME@.c", plugin_text, false},
    {"CMakeLists.txt", cmake_text, false},
    {"README.md", readme_text, false},
    {"test/run.sh", run_text, true},
    {"test/config.json", config_text, false},
    {"test/records.jsonl", records_text, false},
    {"test/expected.jsonl", expected_text, false},
};
const size_t skeleton_file_count = COUNT_OF(skeleton_files);

/* Words in what words stand for are put in too, so that an outer one comes before those in it. */
const struct skeleton_word skeleton_words[] = {
    {"@YAML@",
     "    plugins:\n"
     "      - name: @NAME@\n"
     "        file: /path/to/@NAME@.so\n"
     "        role: fold\n"
     "        config: {step: 2}\n"
     "    topics:\n"
     "      rules:\n"
     "        - pattern: doors/#\n"
     "          kind: plugin:@NAME@\n",
     "    plugins:\n"
     "      - name: @NAME@\n"
     "        file: /path/to/@NAME@.so\n"
     "        role: processor\n"
     "        patterns: [doors/#]\n"
     "        emit: [stats/#]\n"
     "        config: {step: 2, to: stats/doors}\n"},
    {"@NAME@", NULL, NULL},
    {"@ROLE@", "fold", "processor"},
    {"@ROLES@", "WEIR_ACTOR_FOLD", "WEIR_ACTOR_PROCESSOR"},
    {"@ABOUT@", "Records that are published to its topics are counted; the count is the topic's state.",
     "Records of the topics that it follows are counted; the count is emitted to another topic."},
    {"@FIELD@", "", "    char to[256]; /* from the configuration: the topic that it emits to */\n"},
    {"@CONFIG@", "",
     "        if (!reader.is_bad && is_text(key, \"to\") && weir_read(self, &reader, &value) && "
     "value.type == WEIR_VALUE_STR &&\n"
     "            value.bytes.size < sizeof state->to) {\n"
     "            memcpy(state->to, value.bytes.data, value.bytes.size);\n"
     "            continue;\n"
     "        }\n"},
    {"@KEYS@", "step (a whole number above 0) is its only key",
     "its keys are step (a whole number above 0) and to (a topic)"},
    {"@CHECK@", "",
     "    if (state->to[0] == '\\0') {\n"
     "        weir_fail(self, \"config: 'to' is missing: the topic that it emits to\");\n"
     "        return WEIR_ACTOR_FAILED;\n"
     "    }\n"},
    {"@TARGET@", "message->topic", "text_of(state->to)"},
    {"@OUT@", "doors/front", "stats/doors"},
    {"@JSON@", "{\"step\": 2}", "{\"step\": 2, \"to\": \"stats/doors\"}"},
    {"@ROW@", "", "| to | text | none: required | the topic that it emits to |\n"},
};
const size_t skeleton_word_count = COUNT_OF(skeleton_words);
