/* `weir pub`: one record, or as many as standard input has. Main thread; outcomes come on the client's. */
#include <getopt.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "clients/cli/cli.h"
#include "clients/wire/json.h"

static const char help[] =
    "weir pub: publish one record, or many from standard input\n"
    "\n"
    "usage: weir pub [options] TOPIC VALUE\n"
    "       weir pub [options] TOPIC --stdin        one record a line\n"
    "       weir pub [options] --records            JSON lines {\"topic\",\"value\",\"key\"?}\n"
    "\n" CLI_OPTIONS_HELP
    "                      with --json VALUE and lines are JSON, else text; --records is always JSON\n"
    "      --key KEY       of the record; a map topic keeps the newest value of each key, JSON null deletes it\n"
    "      --ack LEVEL     none, accepted, folded (default) or durable: what to wait for\n"
    "      --if-seq N      only if the newest record (of the key in a map topic, else of the topic) has seq N\n"
    "      --if-absent     only if there is none\n"
    "      --ttl-ms N      map and last: the topic removes the record when its time is over\n"
    "      --bind          map and last: it goes a while after this session; with --stdin as long as that is open\n"
    "      --publisher NAME  number the records under this name, so that none is lost or doubled when the connection\n"
    "                      is lost: they are sent again, and the broker tells those it has\n"
    "      --first-number N  of the first record, above all that NAME has used before; default: by the clock\n"
    "\n"
    "A VALUE that begins with '-' stands behind '--': weir pub sensors/oven -- -5\n"
    "Waits while the topic is full: the broker holds publishers back instead of dropping. Ends when every ack has\n"
    "come, at most --timeout after the last record. On a terminal, long input shows its progress.\n"
    "With --json a last line {\"published\",\"acked\",\"refused\",\"unknown\"} and for one record also \"epoch\" and "
    "\"seq\".\n" CLI_EXIT_HELP;

enum {
    OPTION_STDIN = CLI_OPTION_VERB,
    OPTION_RECORDS,
    OPTION_KEY,
    OPTION_ACK,
    OPTION_IF_SEQ,
    OPTION_IF_ABSENT,
    OPTION_TTL,
    OPTION_BIND,
    OPTION_PUBLISHER,
    OPTION_FIRST
};

static const struct option options[] = {CLI_OPTIONS,
                                        {"stdin", no_argument, NULL, OPTION_STDIN},
                                        {"records", no_argument, NULL, OPTION_RECORDS},
                                        {"key", required_argument, NULL, OPTION_KEY},
                                        {"ack", required_argument, NULL, OPTION_ACK},
                                        {"if-seq", required_argument, NULL, OPTION_IF_SEQ},
                                        {"if-absent", no_argument, NULL, OPTION_IF_ABSENT},
                                        {"ttl-ms", required_argument, NULL, OPTION_TTL},
                                        {"bind", no_argument, NULL, OPTION_BIND},
                                        {"publisher", required_argument, NULL, OPTION_PUBLISHER},
                                        {"first-number", required_argument, NULL, OPTION_FIRST},
                                        {NULL, 0, NULL, 0}};

#define TTL_MAX_MS (UINT64_C(10) * 365 * 86400000)
#define NUMBER_MAX ((UINT64_C(1) << 60) - 1)
enum { PROGRESS_MS = 250, LINE_SIZE_MAX = 64 * 1024 * 1024 };

struct publishing {
    struct cli cli;
    struct weir *client;
    bool from_stdin, records;
    const char *key;
    const char *publisher;
    uint64_t first_number;
    struct weir_record form; /* what every record has: ack and options */
    uint64_t line, started_ns, shown_ns;
    bool shows_progress;
    atomic_bool has_complained; /* set by the client's thread; only the first refusal is printed */
    bool is_answered; /* a single record: by the broker; the client's thread, before weir_publish_wait returns */
};

static bool ack_read(struct publishing *p)
{
    static const char *const levels[] = {"none", "accepted", "folded", "durable"};
    for (int level = 0; level < 4; level++) {
        if (strcmp(optarg, levels[level]) == 0) {
            p->form.ack = (enum weir_ack)level;
            return true;
        }
    }
    cli_fail(&p->cli, CLI_USAGE, "--ack: '%s' is none of none, accepted, folded, durable", optarg);
    return false;
}

/* What every record is published with. False with the message printed. */
static bool option_read(struct publishing *p, int option)
{
    switch (option) {
    case OPTION_ACK: return ack_read(p);
    case OPTION_IF_SEQ:
    case OPTION_IF_ABSENT:
        if (p->form.is_conditional) {
            cli_fail(&p->cli, CLI_USAGE, "one condition is enough: --if-seq or --if-absent");
            return false;
        }
        p->form.is_conditional = true;
        return option == OPTION_IF_ABSENT || cli_number(&p->cli, "--if-seq", optarg, 0, UINT64_MAX, &p->form.if_seq);
    case OPTION_TTL: return cli_number(&p->cli, "--ttl-ms", optarg, 1, TTL_MAX_MS, &p->form.ttl_ms);
    case OPTION_BIND: p->form.bind = true; return true;
    case OPTION_PUBLISHER: p->publisher = optarg; return true;
    case OPTION_FIRST: return cli_number(&p->cli, "--first-number", optarg, 1, NUMBER_MAX, &p->first_number);
    default: return false; /* getopt has said what is wrong */
    }
}

static int arguments_read(struct publishing *p, int argc, char **argv)
{
    int option = 0, code = -1;
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (cli_option(&p->cli, option, help, &code)) {
            if (code >= 0)
                return code;
        } else if (option == OPTION_STDIN) {
            p->from_stdin = true;
        } else if (option == OPTION_RECORDS) {
            p->records = true;
        } else if (option == OPTION_KEY) {
            p->key = optarg;
        } else if (!option_read(p, option)) {
            return CLI_USAGE;
        }
    }
    int wanted = p->records ? 0 : p->from_stdin ? 1 : 2;
    if (argc - optind == wanted && !(p->records && (p->from_stdin || p->key != NULL)))
        return -1;
    fputs("weir pub: give TOPIC VALUE, or TOPIC --stdin, or --records; see weir pub --help\n", stderr);
    return CLI_USAGE;
}

/* On the client's thread. */
static void on_outcome(struct weir *client, uint64_t number, uint32_t count, enum weir_error outcome, uint64_t epoch,
                       uint64_t seq, const char *reason, void *context)
{
    struct publishing *p = context;
    (void)client, (void)epoch, (void)seq;
    p->is_answered = true;
    if (outcome == WEIR_OK || (!p->from_stdin && !p->records) || atomic_exchange(&p->has_complained, true))
        return;
    cli_fail(&p->cli, 0, "record %llu (%u in this answer): %s (%s); further ones are only counted",
             (unsigned long long)number, count, *reason != '\0' ? reason : weir_error_text(outcome),
             weir_error_code(outcome));
}

/* ------------------------------------------------------------------------------------------------ records */

/* A record whose value is text or JSON; *owned is to be freed behind it. */
static bool value_make(struct publishing *p, const char *text, size_t size, struct weir_record *record, uint8_t **owned)
{
    const char *reason = "";
    size_t owned_size = 0;
    *owned = NULL;
    if (!p->cli.json) {
        record->value = text;
        record->value_size = size;
        record->form = WEIR_TEXT;
        return true;
    }
    if (json_to_msgpack(view_of(text, size), 64, owned, &owned_size, &reason) != WEIR_OK) {
        if (p->line > 0)
            cli_fail(&p->cli, CLI_USAGE, "line %llu: %s", (unsigned long long)p->line, reason);
        else
            cli_fail(&p->cli, CLI_USAGE, "VALUE: %s", reason);
        return false;
    }
    record->value = *owned;
    record->value_size = owned_size;
    record->form = WEIR_MSGPACK;
    return true;
}

static int publish_refused(struct publishing *p, const char *topic, enum weir_error error)
{
    int code = error == WEIR_BUSY                                     ? CLI_TIMEOUT
               : error == WEIR_BAD_TOPIC || error == WEIR_BAD_REQUEST ? CLI_USAGE
                                                                      : cli_code(error);
    const char *text = error == WEIR_BUSY ? "the broker took no more records within the timeout" : weir_reason();
    if (p->line > 0)
        return cli_fail(&p->cli, code, "line %llu: topic '%s': %s", (unsigned long long)p->line, topic, text);
    return cli_fail(&p->cli, code, "topic '%s': %s", topic, text);
}

static int publish_one(struct publishing *p, const char *topic, const char *text)
{
    struct weir_record record = p->form;
    record.topic = topic;
    record.key = p->key;
    struct weir_seq seq = {0, 0};
    uint8_t *owned = NULL;
    enum weir_error error = WEIR_OK;
    if (!value_make(p, text, strlen(text), &record, &owned))
        return CLI_USAGE;
    if (p->form.ack == WEIR_ACK_NONE) {
        error = weir_publish(p->client, &record, p->cli.timeout_ms, NULL);
        error = error == WEIR_OK ? weir_flush(p->client, p->cli.timeout_ms) : error;
    } else {
        error = weir_publish_wait(p->client, &record, p->cli.timeout_ms, &seq);
    }
    free(owned);
    if (error == WEIR_CONFLICT)
        return cli_fail(&p->cli, CLI_REFUSED, "topic '%s': %s (%s, seq %llu)", topic, weir_reason(),
                        weir_error_code(error), (unsigned long long)seq.seq);
    if (error != WEIR_OK && p->is_answered)
        return cli_fail(&p->cli, cli_code(error), "topic '%s': %s (%s)", topic, weir_reason(), weir_error_code(error));
    if (error != WEIR_OK)
        return publish_refused(p, topic, error);
    if (p->cli.json)
        printf("{\"published\":1,\"acked\":%d,\"refused\":0,\"unknown\":0,\"epoch\":%llu,\"seq\":%llu}\n",
               p->form.ack != WEIR_ACK_NONE, (unsigned long long)seq.epoch, (unsigned long long)seq.seq);
    return CLI_OK;
}

static int publish_line(struct publishing *p, const char *topic, const char *text, size_t size)
{
    struct weir_record record = p->form;
    record.topic = topic;
    record.key = p->key;
    uint8_t *owned = NULL;
    if (!value_make(p, text, size, &record, &owned))
        return CLI_USAGE;
    enum weir_error error = weir_publish(p->client, &record, WEIR_FOREVER, NULL);
    free(owned);
    return error == WEIR_OK ? -1 : publish_refused(p, topic, error);
}

/* {"topic","value","key"?}: jansson takes it apart, the value goes through the one way from JSON to msgpack. */
static int publish_record(struct publishing *p, const char *text, size_t size)
{
    json_error_t problem;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    const char *topic = json_string_value(json_object_get(json, "topic"));
    json_t *key = json_object_get(json, "key"), *value = json_object_get(json, "value");
    int code = -1;
    if (topic == NULL || value == NULL || (key != NULL && !json_is_string(key) && !json_is_null(key))) {
        code = cli_fail(&p->cli, CLI_USAGE, "line %llu: %s", (unsigned long long)p->line,
                        json == NULL ? problem.text : "not {\"topic\": text, \"value\": anything, \"key\"?: text}");
    } else {
        char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        bool was_json = p->cli.json;
        p->key = json_string_value(key);
        p->cli.json = true;
        code = dumped == NULL ? CLI_REFUSED : publish_line(p, topic, dumped, strlen(dumped));
        p->cli.json = was_json;
        free(dumped);
    }
    json_decref(json);
    return code;
}

/* ------------------------------------------------------------------------------------------------- stdin */

static void show_progress(struct publishing *p, bool is_last)
{
    uint64_t now = clock_now_ns();
    if (!p->shows_progress || (!is_last && now - p->shown_ns < PROGRESS_MS * NS_PER_MS))
        return;
    struct weir_counts counts;
    weir_counts(p->client, &counts);
    double seconds = (double)(now - p->started_ns) / (double)NS_PER_S;
    fprintf(stderr, "\r%llu published, %llu acked, %llu refused, %.0f/s   %s", (unsigned long long)counts.published,
            (unsigned long long)counts.acked, (unsigned long long)counts.refused,
            seconds > 0 ? (double)counts.published / seconds : 0, is_last ? "\n" : "");
    p->shown_ns = now;
}

static int finish(struct publishing *p, int code)
{
    struct weir_counts counts;
    enum weir_error error = weir_flush(p->client, p->cli.timeout_ms);
    show_progress(p, true);
    weir_counts(p->client, &counts);
    if (p->cli.json)
        printf("{\"published\":%llu,\"acked\":%llu,\"refused\":%llu,\"unknown\":%llu}\n",
               (unsigned long long)counts.published, (unsigned long long)counts.acked,
               (unsigned long long)counts.refused, (unsigned long long)counts.unknown);
    if (code != CLI_OK)
        return code;
    if (counts.refused > 0)
        return cli_fail(&p->cli, CLI_REFUSED, "%llu of %llu records were refused", (unsigned long long)counts.refused,
                        (unsigned long long)counts.published);
    if (counts.unknown > 0)
        return cli_fail(&p->cli, CLI_CONNECT, "the connection was lost; %llu records may or may not have been folded",
                        (unsigned long long)counts.unknown);
    return error == WEIR_OK ? CLI_OK : cli_fail(&p->cli, cli_code(error), "waiting for acks: %s", weir_reason());
}

static int publish_stdin(struct publishing *p, const char *topic)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size = 0;
    int code = -1;
    p->started_ns = clock_now_ns();
    p->shows_progress = isatty(STDERR_FILENO);
    while (code < 0 && (size = getline(&line, &capacity, stdin)) >= 0) {
        p->line++;
        if (size > 0 && line[size - 1] == '\n')
            line[--size] = '\0';
        if (size > LINE_SIZE_MAX)
            code = cli_fail(&p->cli, CLI_USAGE, "line %llu is too long", (unsigned long long)p->line);
        else if (p->records && size > 0)
            code = publish_record(p, line, (size_t)size);
        else if (!p->records)
            code = publish_line(p, topic, line, (size_t)size);
        if (p->line % 64 == 0)
            show_progress(p, false);
    }
    free(line);
    return finish(p, code < 0 ? CLI_OK : code);
}

int pub_main(int argc, char **argv)
{
    struct publishing p = {.form = {.ack = WEIR_ACK_FOLDED}};
    cli_init(&p.cli, "pub");
    int code = arguments_read(&p, argc, argv);
    if (code >= 0)
        return code;
    struct weir_options wanted = {.connect_timeout_ms = p.cli.timeout_ms,
                                  .publisher = p.publisher,
                                  .first_number = p.first_number,
                                  .on_outcome = on_outcome,
                                  .context = &p};
    code = cli_connect(&p.cli, &wanted, &p.client);
    if (code != CLI_OK)
        return code;
    if (p.from_stdin || p.records)
        code = publish_stdin(&p, p.records ? NULL : argv[optind]);
    else
        code = publish_one(&p, argv[optind], argv[optind + 1]);
    weir_close(&p.client, 0);
    return code;
}
