/* A program outside the broker that does what the plugin echo does: it follows a topic and publishes each update to
 * another one, as a user of libweir would write it; and the publisher that all rows of plugin_external.py share.
 *   plugin_external follow URL SOURCE TARGET COUNT    prints `ready`, and ends when COUNT records are acknowledged
 *   plugin_external publish URL TOPIC COUNT SIZE      ends when all are acknowledged */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/weir.h"

enum { KEYS = 1024, KEY_SIZE_MAX = 256 };

/* The figures are worth nothing with a record refused. On the client's thread. */
static void on_outcome(struct weir *client, uint64_t number, uint32_t count, enum weir_error outcome, uint64_t epoch,
                       uint64_t seq, const char *reason, void *context)
{
    (void)client, (void)number, (void)count, (void)epoch, (void)seq, (void)context;
    if (outcome == WEIR_OK)
        return;
    fprintf(stderr, "plugin_external: a record was refused: %s\n", reason);
    exit(1);
}

static void must(enum weir_error error, const char *what)
{
    if (error == WEIR_OK)
        return;
    fprintf(stderr, "plugin_external: %s: %s\n", what, weir_error_text(error));
    exit(1);
}

static void follow(struct weir *client, const char *source, const char *target, uint64_t count)
{
    struct weir_subscription *subscription;
    struct weir_event event;
    char key[KEY_SIZE_MAX];
    must(weir_subscribe(client, source, &(struct weir_subscribe_options){.policy = "block"}, &subscription),
         "subscribe");
    for (uint64_t done = 0; done < count;) {
        must(weir_next(subscription, WEIR_FOREVER, &event), "next");
        if (event.kind == WEIR_EVENT_END) {
            printf("ready\n");
            fflush(stdout);
        }
        if (event.kind != WEIR_EVENT_UPDATE || event.key.size >= sizeof key)
            continue;
        memcpy(key, event.key.data, event.key.size);
        key[event.key.size] = '\0';
        struct weir_record record = {.topic = target,
                                     .key = key,
                                     .value = event.value.data,
                                     .value_size = event.value.size,
                                     .ack = WEIR_ACK_FOLDED};
        must(weir_publish(client, &record, WEIR_FOREVER, NULL), "publish");
        done++;
    }
}

static void publish(struct weir *client, const char *topic, uint64_t count, size_t size)
{
    char key[16];
    char *value = malloc(size);
    must(value == NULL ? WEIR_NO_MEMORY : WEIR_OK, "value");
    memset(value, 'v', size);
    struct weir_record record = {
        .topic = topic, .key = key, .value = value, .value_size = size, .form = WEIR_BYTES, .ack = WEIR_ACK_FOLDED};
    for (uint64_t number = 0; number < count; number++) {
        (void)snprintf(key, sizeof key, "key%04u", (unsigned)(number * 7 % KEYS));
        must(weir_publish(client, &record, WEIR_FOREVER, NULL), "publish");
    }
    free(value);
}

int main(int argc, char **argv)
{
    struct weir *client;
    struct weir_options options = {.url = argc > 2 ? argv[2] : NULL, .on_outcome = on_outcome};
    bool follows = argc == 6 && strcmp(argv[1], "follow") == 0;
    if (!follows && (argc != 6 || strcmp(argv[1], "publish") != 0)) {
        fprintf(stderr, "usage: plugin_external follow URL SOURCE TARGET COUNT | publish URL TOPIC COUNT SIZE\n");
        return 2;
    }
    must(weir_open(&options, &client, NULL), "open");
    if (follows)
        follow(client, argv[3], argv[4], strtoull(argv[5], NULL, 10));
    else
        publish(client, argv[3], strtoull(argv[4], NULL, 10), strtoul(argv[5], NULL, 10));
    must(weir_flush(client, WEIR_FOREVER), "acks");
    must(weir_close(&client, 1000), "close");
    return 0;
}
