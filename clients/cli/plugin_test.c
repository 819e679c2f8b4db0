/* `weir plugin test`: a plugin against recorded records, by actors/plugin/rehearsal.h. Main thread; runs the plugin in
 * this process, as the thread host would. */
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "actors/plugin/plugin_limits.h"
#include "actors/plugin/rehearsal.h"
#include "clients/cli/cli.h"
#include "clients/cli/plugin.h"
#include "clients/wire/json.h"
#include "clients/wire/name.h"

static const char help[] =
    "weir plugin test: run a plugin against recorded records, without a broker\n"
    "\n"
    "usage: weir plugin test [options] FILE.so < RECORDS\n"
    "\n"
    "  -r, --role ROLE         fold (default) or processor\n"
    "  -c, --config JSON       its configuration; default null\n"
    "      --config-file FILE  the same from a file\n"
    "      --after MS          go on for so long after the last record, for timers; default 0\n"
    "      --restart-every N   after every N records end the instance and start another with its snapshot\n"
    "      --help              this text\n"
    "\n"
    "RECORDS are JSON lines {\"topic\",\"value\",\"key\"?,\"time_ms\"?,\"kind\"?}. time_ms is when the broker took "
    "the\n"
    "record in (default: as the one before); timers fire by it, and nobody waits. kind is record (default), entry or\n"
    "reset: what a processor gets of a topic's snapshot; or ask: somebody asks the value.\n"
    "Prints what the plugin emits as JSON lines {\"topic\",\"key\"?,\"value\",\"merged\"?,\"time_ms\"},\n"
    "{\"line\",\"reply\"} for what it replies, and {\"line\",\"refused\"} for a record that it refuses; what it logs\n"
    "goes to stderr.\n"
    "Exit: 0 ok, 1 the plugin cannot be run or failed, 2 usage or a line that is no record.\n";

enum { OPTION_CONFIG_FILE = CLI_OPTION_VERB, OPTION_AFTER, OPTION_RESTART, DEPTH_MAX = 64 };
enum { CONFIG_SIZE_MAX = 1 << 20 };

static const struct option options[] = {{"role", required_argument, NULL, 'r'},
                                        {"config", required_argument, NULL, 'c'},
                                        {"config-file", required_argument, NULL, OPTION_CONFIG_FILE},
                                        {"after", required_argument, NULL, OPTION_AFTER},
                                        {"restart-every", required_argument, NULL, OPTION_RESTART},
                                        {"help", no_argument, NULL, CLI_OPTION_HELP},
                                        {NULL, 0, NULL, 0}};

struct testing {
    struct cli cli;
    struct rehearsal_spec spec;
    struct rehearsal *rehearsal;
    const char *config;
    char *config_text; /* of --config-file */
    uint8_t *config_value;
    uint64_t after_ms, restart_every;
    uint64_t line, time_ms, records, emitted, refused;
};

/* ------------------------------------------------------------------------------------------------ output */

static void print_emission(const struct plugin_output *output, uint64_t time_ms)
{
    printf("{\"topic\":");
    cli_print_string(stdout, output->topic.data, output->topic.size);
    if (output->has_key) {
        printf(",\"key\":");
        cli_print_string(stdout, output->key.data, output->key.size);
    }
    size_t size = output->update_size > 0 ? output->update_size : output->value.size;
    printf(",\"value\":");
    cli_print_value(stdout, view_of(output->value.data, size), true);
    if (output->update_size > 0) {
        printf(",\"merged\":");
        cli_print_value(stdout, view_of(output->value.data + size, output->value.size - size), true);
    }
    printf(",\"time_ms\":%llu}\n", (unsigned long long)time_ms);
}

static bool on_output(void *context, const struct plugin_output *output)
{
    struct testing *testing = context;
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    switch (output->kind) {
    case OUTPUT_EMIT:
        testing->emitted++;
        print_emission(output, rehearsal_now(testing->rehearsal));
        return true;
    case OUTPUT_REPLY:
        printf("{\"line\":%llu,\"reply\":", (unsigned long long)testing->line);
        cli_print_value(stdout, output->value, true);
        printf("}\n");
        return true;
    case OUTPUT_LOG:
        fprintf(stderr, "%s: %.*s\n", levels[output->level & 3], (int)output->text.size,
                (const char *)output->text.data);
        return true;
    case OUTPUT_DONE:
        if (output->result == WEIR_ACTOR_REFUSED) {
            testing->refused++;
            printf("{\"line\":%llu,\"refused\":", (unsigned long long)testing->line);
            cli_print_string(stdout, output->text.data, output->text.size);
            printf("}\n");
        } else if (output->result != WEIR_ACTOR_OK) {
            cli_fail(&testing->cli, CLI_REFUSED, "line %llu: the plugin failed: %.*s",
                     (unsigned long long)testing->line, (int)output->text.size, (const char *)output->text.data);
        }
        return true;
    default: return true;
    }
}

/* ------------------------------------------------------------------------------------------------- input */

static bool kind_read(const json_t *json, uint32_t *kind)
{
    const char *text = json_string_value(json_object_get(json, "kind"));
    *kind = WEIR_MESSAGE_RECORD;
    if (text == NULL)
        return json_object_get(json, "kind") == NULL;
    if (strcmp(text, "entry") == 0)
        *kind = WEIR_MESSAGE_ENTRY;
    else if (strcmp(text, "reset") == 0)
        *kind = WEIR_MESSAGE_RESET;
    else if (strcmp(text, "ask") == 0)
        *kind = WEIR_MESSAGE_ASK;
    else
        return strcmp(text, "record") == 0;
    return true;
}

static struct weir_bytes bytes_of_string(const json_t *string)
{
    return weir_bytes_of(json_string_value(string), json_string_length(string));
}

/* Fills a message from a line's parts; the value is *owned afterwards. NULL, or what is wrong with it. */
static const char *message_read(struct testing *testing, const json_t *json, struct weir_message *message,
                                uint8_t **owned)
{
    const json_t *topic = json_object_get(json, "topic"), *key = json_object_get(json, "key");
    const json_t *value = json_object_get(json, "value"), *time = json_object_get(json, "time_ms");
    const char *reason = "";
    size_t size = 0;
    if (!json_is_string(topic) || (key != NULL && !json_is_string(key) && !json_is_null(key)) ||
        (time != NULL && (!json_is_integer(time) || json_integer_value(time) < 0)) ||
        !kind_read(json, &message->kind) || (value == NULL && message->kind != WEIR_MESSAGE_RESET))
        return "not {\"topic\": text, \"value\": anything, \"key\"?: text, \"time_ms\"?: number, \"kind\"?: text}";
    message->topic = bytes_of_string(topic);
    if (name_check(view_of(message->topic.data, message->topic.size), &reason) != WEIR_OK)
        return reason;
    if (json_is_string(key))
        message->key = bytes_of_string(key);
    if (time != NULL && (uint64_t)json_integer_value(time) > testing->time_ms)
        testing->time_ms = (uint64_t)json_integer_value(time);
    message->time_ms = testing->time_ms;
    message->epoch = 1;
    message->seq = testing->line;
    char *text = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("null");
    if (text == NULL || json_to_msgpack(view_text(text), DEPTH_MAX, owned, &size, &reason) != WEIR_OK) {
        free(text);
        return reason;
    }
    free(text);
    message->value = weir_bytes_of(*owned, size);
    return NULL;
}

/* Returns an exit code, -1 to go on. */
static int line_take(struct testing *testing, const char *text, size_t size)
{
    json_error_t problem;
    struct weir_message message = {.attempt = 1};
    uint8_t *owned = NULL;
    char why[PLUGIN_TEXT_SIZE];
    int code = -1;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    const char *wrong = json == NULL ? problem.text : message_read(testing, json, &message, &owned);
    testing->records++;
    if (wrong != NULL)
        code = cli_fail(&testing->cli, CLI_USAGE, "line %llu: %s", (unsigned long long)testing->line, wrong);
    else if (rehearsal_give(testing->rehearsal, &message) == WEIR_ACTOR_FAILED)
        code = CLI_REFUSED;
    else if (testing->restart_every > 0 && testing->records % testing->restart_every == 0 &&
             rehearsal_restart(testing->rehearsal, why, sizeof why) != WEIR_OK)
        code = cli_fail(&testing->cli, CLI_REFUSED, "restart behind line %llu: %s", (unsigned long long)testing->line,
                        why);
    free(owned);
    json_decref(json);
    return code;
}

static int input_run(struct testing *testing)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size = 0;
    int code = -1;
    while (code < 0 && (size = getline(&line, &capacity, stdin)) >= 0) {
        testing->line++;
        if (size > 0 && line[size - 1] == '\n')
            size--;
        if (size > 0)
            code = line_take(testing, line, (size_t)size);
    }
    free(line);
    if (code < 0 && testing->after_ms > 0 &&
        rehearsal_advance(testing->rehearsal, testing->time_ms + testing->after_ms) == WEIR_ACTOR_FAILED)
        code = CLI_REFUSED;
    if (code >= 0)
        return code;
    fflush(stdout);
    fprintf(stderr, "%llu records, %llu emitted, %llu refused\n", (unsigned long long)testing->records,
            (unsigned long long)testing->emitted, (unsigned long long)testing->refused);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------------------------ options */

static int config_file_read(struct testing *testing, const char *name)
{
    FILE *file = fopen(name, "re");
    free(testing->config_text);
    testing->config = "null";
    testing->config_text = calloc(1, CONFIG_SIZE_MAX + 1);
    if (file == NULL || testing->config_text == NULL) {
        if (file != NULL)
            (void)fclose(file);
        return cli_fail(&testing->cli, CLI_USAGE, "--config-file: %s cannot be opened", name);
    }
    size_t size = fread(testing->config_text, 1, CONFIG_SIZE_MAX + 1, file);
    (void)fclose(file);
    testing->config_text[CONFIG_SIZE_MAX] = '\0';
    testing->config = testing->config_text;
    return size <= CONFIG_SIZE_MAX ? -1 : cli_fail(&testing->cli, CLI_USAGE, "--config-file: %s is too large", name);
}

static int option_take(struct testing *testing, int option)
{
    switch (option) {
    case 'r':
        if (strcmp(optarg, "fold") != 0 && strcmp(optarg, "processor") != 0)
            return cli_fail(&testing->cli, CLI_USAGE, "--role: '%s' is neither fold nor processor", optarg);
        testing->spec.role = strcmp(optarg, "fold") == 0 ? WEIR_ACTOR_FOLD : WEIR_ACTOR_PROCESSOR;
        return -1;
    case 'c': testing->config = optarg; return -1;
    case OPTION_CONFIG_FILE: return config_file_read(testing, optarg);
    case OPTION_AFTER:
        return cli_number(&testing->cli, "--after", optarg, 0, PLUGIN_TIMER_MS_MAX, &testing->after_ms) ? -1
                                                                                                        : CLI_USAGE;
    case OPTION_RESTART:
        return cli_number(&testing->cli, "--restart-every", optarg, 1, UINT32_MAX, &testing->restart_every) ? -1
                                                                                                            : CLI_USAGE;
    case CLI_OPTION_HELP: fputs(help, stdout); return CLI_OK;
    default: fputs("see weir plugin test --help\n", stderr); return CLI_USAGE;
    }
}

static int arguments_read(struct testing *testing, int argc, char **argv)
{
    const char *reason = "";
    size_t size = 0;
    int option = 0, code = -1;
    while (code < 0 && (option = getopt_long(argc, argv, "r:c:", options, NULL)) != -1)
        code = option_take(testing, option);
    if (code >= 0)
        return code;
    if (argc - optind != 1)
        return cli_fail(&testing->cli, CLI_USAGE, "give one FILE.so; see weir plugin test --help");
    testing->spec.file = argv[optind];
    if (json_to_msgpack(view_text(testing->config), DEPTH_MAX, &testing->config_value, &size, &reason) != WEIR_OK)
        return cli_fail(&testing->cli, CLI_USAGE, "--config: %s", reason);
    testing->spec.config = view_of(testing->config_value, size);
    return -1;
}

int plugin_test_main(int argc, char **argv)
{
    struct testing testing = {.config = "null", .spec = {.role = WEIR_ACTOR_FOLD, .sink = on_output}};
    char why[PLUGIN_TEXT_SIZE];
    testing.spec.context = &testing;
    cli_init(&testing.cli, "plugin test");
    int code = arguments_read(&testing, argc, argv);
    if (code < 0 && rehearsal_open(&testing.spec, &testing.rehearsal, why, sizeof why) != WEIR_OK)
        code = cli_fail(&testing.cli, CLI_REFUSED, "%s: %s", testing.spec.file, why);
    if (code < 0)
        code = input_run(&testing);
    rehearsal_close(&testing.rehearsal);
    free(testing.config_value);
    free(testing.config_text);
    return code;
}
