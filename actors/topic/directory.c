/* The directory: made by the program before its runtime starts, then an actor. What it is told, and whom it asks to do
 * it. */
#include "actors/topic/directory.h"

#include <stdlib.h>
#include <sys/random.h>

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/base/log.h"
#include "actors/topic/directory_state.h"
#include "clients/wire/name.h"

#define DEAD_PREFIX "$dead/"
#define BUCKETS_MIN 64u

static struct directory *directory_check(void *state)
{
    struct directory *directory = *(struct directory **)state;
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    return directory;
}

static enum weir_error directory_start(struct turn *turn, void *state, const void *args)
{
    (void)turn;
    memcpy(state, args, sizeof(struct directory *));
    (void)directory_check(state);
    return WEIR_OK; /* who spawned it has its handle, and is still busy with the rest of the directory */
}

static void reply_topic(struct turn *turn, const struct directory *directory, const struct message *request,
                        uint32_t index, enum weir_error error)
{
    struct message reply = {.tag = DIRECTORY_TOPIC, .word = {request->word[0], 0, error}};
    if (index != INDEX_NONE)
        reply.word[1] = directory_topic_at(directory, index)->actor.bits;
    if (error == WEIR_NO_MEMORY)
        reply.word[2] = WEIR_BUSY;
    if (!actor_is_none(request->from))
        (void)!turn_control(turn, request->from, &reply); /* who has 64,000 unread messages is cut off anyway */
}

static void directory_ensure(struct turn *turn, struct directory *directory, const struct message *message)
{
    struct view name =
        view_of(arena_data(directory->arena, message->hold[0]), arena_size(directory->arena, message->hold[0]));
    uint32_t index = INDEX_NONE;
    enum weir_error error = name_check(name, NULL);
    if (!error && name_is_reserved(name))
        error = WEIR_FORBIDDEN;
    if (!error) {
        index = directory_topic_find(directory, name);
        if (index == INDEX_NONE)
            error = directory_topic_create(turn, directory, name, NULL, &index);
    }
    reply_topic(turn, directory, message, index, error);
}

static void directory_order_create(struct turn *turn, struct directory *directory, const struct message *message)
{
    const struct directory_create *order = arena_data(directory->arena, message->hold[0]);
    uint32_t index = INDEX_NONE;
    enum weir_error error = WEIR_BAD_REQUEST;
    if (order != NULL && order->name_size <= arena_size(directory->arena, message->hold[0]) - sizeof *order) {
        struct view name = view_of(order->name, order->name_size);
        error = name_check(name, NULL);
        if (!error && name_is_reserved(name) && !actor_is_same(message->from, directory->patron))
            error = WEIR_FORBIDDEN;
        if (!error && directory_topic_find(directory, name) != INDEX_NONE)
            error = WEIR_EXISTS;
        if (!error)
            error = directory_topic_create(turn, directory, name, order->has_kind ? &order->kind : NULL, &index);
    }
    reply_topic(turn, directory, message, index, error);
}

/* Names too long to be prefixed share one log. */
static struct view dead_name(struct view topic, char out[TOPIC_NAME_SIZE_MAX + 1])
{
    struct view name = topic.size + sizeof DEAD_PREFIX - 1 > TOPIC_NAME_SIZE_MAX ? view_text("-") : topic;
    memcpy(out, DEAD_PREFIX, sizeof DEAD_PREFIX - 1);
    memcpy(out + sizeof DEAD_PREFIX - 1, name.data, name.size);
    return view_of(out, name.size + sizeof DEAD_PREFIX - 1);
}

static void directory_dead(struct turn *turn, struct directory *directory, struct message *message)
{
    char text[TOPIC_NAME_SIZE_MAX + 1];
    uint32_t name_size = TOPIC_HIGH(message->word[0]), value_size = TOPIC_LOW(message->word[0]), index;
    struct view name = dead_name(view_of(arena_data(directory->arena, message->hold[0]), name_size), text);
    enum weir_error error = WEIR_OK;
    index = directory_topic_find(directory, name);
    if (index == INDEX_NONE)
        error = directory_topic_create(turn, directory, name, NULL, &index);
    if (!error) {
        struct message publish = {.tag = TOPIC_PUBLISH,
                                  .detail = 1,
                                  .hold = {message->hold[0]},
                                  .word = {0, TOPIC_WORD(name_size, value_size), TOPIC_NUMBER_WORD(0, ACK_NONE)}};
        error = turn_send(turn, directory_topic_at(directory, index)->actor, &publish);
        if (!error)
            message->hold[0] = WEIR_MSG_NONE;
    }
    if (error)
        log_error("topic.dead_lost", "topic=%.*s cause=%s", (int)name.size, (const char *)name.data,
                  weir_error_code(error));
}

static void directory_event(struct turn *turn, struct directory *directory, const struct message *message)
{
    if (message->word[0] != ACTOR_EVENT_EXITED)
        return;
    if (actor_is_same(directory->patron, message->from)) {
        directory->patron = WEIR_ACTOR_NONE;
        directory_await_over(turn, directory);
    }
    uint32_t index = directory_topic_find_actor(directory, message->from);
    if (index != INDEX_NONE)
        directory_topic_gone(turn, directory, index, (enum weir_error)message->word[1]);
    else
        directory_close(turn, directory, message->from, true);
}

static void directory_note_unread(struct directory *directory, uint64_t records)
{
    pthread_rwlock_wrlock(&directory->names);
    directory->refused_gone += records;
    pthread_rwlock_unlock(&directory->names);
}

static void directory_patron(struct directory *directory, weir_actor patron)
{
    /* It says so again when it is restarted. */
    if (!actor_is_same(directory->patron, patron) &&
        actor_monitor(directory->runtime, directory->actor, patron) == WEIR_OK)
        directory->patron = patron;
}

/* Topics that are made later find it in the registry. */
static void directory_plugin(struct turn *turn, struct directory *directory, const struct message *message)
{
    struct view name =
        view_of(arena_data(directory->arena, message->hold[0]), arena_size(directory->arena, message->hold[0]));
    struct message here = {.tag = TOPIC_PLUGIN_HERE, .word = {message->from.bits}};
    for (uint32_t i = 0; i < directory->topics.used; i++) {
        const struct topic_entry *entry = directory_topic_at(directory, i);
        if (entry == NULL || !topic_kind_is_plugin(entry->shared->kind) ||
            !view_is_same(view_text(topic_kind_plugin(entry->shared->kind)), name))
            continue;
        if (turn_control(turn, entry->actor, &here) == WEIR_FULL)
            log_error("topic.no_plugin", "topic=%.*s plugin=%.*s cause=full", (int)entry->shared->name_size,
                      entry->shared->name, (int)name.size, (const char *)name.data);
    }
}

static enum weir_error directory_message(struct turn *turn, void *state, struct message *message)
{
    struct directory *directory = directory_check(state);
    switch (message->tag) {
    case DIRECTORY_ENSURE: directory_ensure(turn, directory, message); break;
    case DIRECTORY_SUBSCRIBE: directory_subscribe(turn, directory, message); break;
    case DIRECTORY_UNSUBSCRIBE: directory_unsubscribe(turn, directory, message); break;
    case DIRECTORY_CREATE: directory_order_create(turn, directory, message); break;
    case DIRECTORY_CLOSE: directory_close(turn, directory, message->from, false); break;
    case DIRECTORY_DEAD: directory_dead(turn, directory, message); break;
    case DIRECTORY_PATRON: directory_patron(directory, message->from); break;
    case DIRECTORY_PLUGIN: directory_plugin(turn, directory, message); break;
    case DIRECTORY_FRESH: directory_await_over(turn, directory); break;
    case DIRECTORY_STEP: directory_jobs_step(turn, directory); break;
    case DIRECTORY_PRESSURE: directory_trim_begin(turn, directory); break;
    case DIRECTORY_TRIM: directory_trim_step(turn, directory); break;
    case DIRECTORY_ADMIT: directory_admit(turn, directory, message); break;
    case MESSAGE_TIMER:
        directory->has_admit_timer = false;
        directory_admit_step(turn, directory);
        break;
    case DIRECTORY_UNREAD: directory_note_unread(directory, message->word[0]); break;
    case DIRECTORY_FEED_ENDED: directory_feed_ended(turn, directory, message); break;
    case MESSAGE_EVENT: directory_event(turn, directory, message); break;
    default: break;
    }
    directory_jobs_continue(turn, directory);
    return WEIR_OK;
}

static const struct behaviour directory_behaviour = {
    .name = "directory",
    .state_size = sizeof(struct directory *),
    .on_start = directory_start,
    .on_message = directory_message,
};

static enum weir_error rules_copy(struct directory *directory, const struct directory_config *config)
{
    struct directory_rule *rules = calloc(config->rule_count + 1, sizeof *rules);
    if (rules == NULL)
        return WEIR_NO_MEMORY;
    if (config->rule_count)
        memcpy(rules, config->rules, config->rule_count * sizeof *rules);
    pthread_rwlock_wrlock(&directory->names);
    struct directory_rule *old = directory->rules;
    directory->rules = rules;
    directory->rule_count = config->rule_count;
    directory->fallback = config->fallback;
    directory->auto_create = config->auto_create;
    pthread_rwlock_unlock(&directory->names);
    free(old);
    return WEIR_OK;
}

static enum weir_error rules_check(const struct directory_config *config)
{
    for (size_t i = 0; i < config->rule_count; i++) {
        const char *pattern = config->rules[i].pattern;
        if (memchr(pattern, '\0', sizeof config->rules[i].pattern) == NULL || pattern_check(view_text(pattern), NULL))
            return WEIR_BAD_TOPIC;
    }
    return WEIR_OK;
}

enum weir_error directory_rules_set(struct directory *directory, const struct directory_config *config)
{
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    enum weir_error error = rules_check(config);
    return error ? error : rules_copy(directory, config);
}

static uint32_t *buckets_create(size_t wanted, uint32_t *count_out)
{
    uint32_t count = BUCKETS_MIN;
    while (count < wanted && count < UINT32_C(1) << 24)
        count *= 2;
    uint32_t *buckets = malloc(count * sizeof *buckets);
    if (buckets != NULL)
        memset(buckets, 0xff, count * sizeof *buckets);
    *count_out = count;
    return buckets;
}

static enum weir_error directory_pools_init(struct directory *directory, const struct directory_config *config)
{
    struct arena *arena = directory->arena;
    struct budget *budget = directory->feeds_budget;
    enum weir_error error =
        index_pool_init(&directory->subs, arena, budget, sizeof(struct sub), config->subscriptions_max);
    if (!error)
        error = index_pool_init(&directory->entries, arena, budget, sizeof(struct topic_entry), config->topics_max);
    if (!error)
        error = index_pool_init(&directory->subscribers, arena, budget, sizeof(struct subscriber),
                                config->subscriptions_max);
    if (!error)
        error = index_pool_init(&directory->links, arena, budget, sizeof(struct pattern_link), config->feeds_max);
    if (!error)
        error = index_pool_init(&directory->waits, arena, budget, sizeof(struct feed_wait), config->feeds_max);
    return error;
}

static enum weir_error tables_create(struct directory *directory, const struct directory_config *config)
{
    directory->name_buckets = buckets_create(config->topics_max, &directory->bucket_count);
    directory->actor_buckets = buckets_create(config->topics_max, &directory->bucket_count);
    directory->subscriber_buckets = buckets_create(config->subscriptions_max, &directory->subscriber_bucket_count);
    directory->number_buckets = calloc(directory->subscriber_bucket_count, sizeof *directory->number_buckets);
    directory->heads = calloc(config->topics_max ? config->topics_max : 1, sizeof *directory->heads);
    if (!directory->heads || !directory->name_buckets || !directory->actor_buckets || !directory->subscriber_buckets ||
        !directory->number_buckets)
        return WEIR_NO_MEMORY;
    enum weir_error error = patterns_create(&directory->patterns);
    if (!error)
        error = index_table_init(&directory->topics, config->topics_max);
    if (!error)
        error = directory_pools_init(directory, config);
    return error;
}

/* Rules without wildcards name topics that are there from the start. */
static enum weir_error topics_create(struct directory *directory)
{
    for (size_t i = 0; i < directory->rule_count; i++) {
        struct view name = view_text(directory->rules[i].pattern);
        uint32_t index;
        if (pattern_has_wildcard(name) || directory_topic_find(directory, name) != INDEX_NONE)
            continue;
        enum weir_error error = directory_topic_create(NULL, directory, name, NULL, &index);
        if (error)
            return error;
    }
    return WEIR_OK;
}

static enum weir_error directory_spawn(struct directory *directory)
{
    struct actor_options options = {
        .mailbox_max = DIRECTORY_MAILBOX_MAX, .supervisor = directory->supervisor, .label = "directory"};
    enum weir_error error = actor_spawn(directory->runtime, &directory_behaviour, &directory, sizeof directory,
                                        &options, &directory->actor);
    directory->common.directory = directory->actor;
    return error;
}

enum weir_error directory_create(struct runtime *runtime, weir_actor supervisor, struct budget *budget,
                                 const struct directory_config *config, struct directory **out)
{
    enum weir_error error = rules_check(config);
    if (error)
        return error;
    struct directory *directory = calloc(1, sizeof *directory);
    if (directory == NULL)
        return WEIR_NO_MEMORY;
    *directory = (struct directory){.magic = DIRECTORY_MAGIC,
                                    .runtime = runtime,
                                    .arena = runtime_arena(runtime),
                                    .supervisor = supervisor,
                                    .seed = config->seed,
                                    .trim_next = INDEX_NONE,
                                    .job_first = INDEX_NONE,
                                    .job_last = INDEX_NONE,
                                    .admit_first = INDEX_NONE,
                                    .admit_last = INDEX_NONE,
                                    .await_first = INDEX_NONE,
                                    .await_last = INDEX_NONE,
                                    .subscriptions_max = config->subscriptions_max,
                                    .feeds_max = config->feeds_max,
                                    .state_bytes_max = config->state_bytes_max,
                                    .merged_bytes_max = config->merged_bytes_max,
                                    .block_max_ms = config->block_max_ms,
                                    .retain_count_max_dead = config->retain_count_max_dead};
    pthread_rwlock_init(&directory->names, NULL);
    admission_init(&directory->admission, config->join_bytes_per_s, config->join_burst_bytes);
    if (directory->seed == 0 && getrandom(&directory->seed, sizeof directory->seed, 0) < 0)
        error = WEIR_IO;
    if (!error)
        error = budget_create(budget, "topics", config->state_bytes_max, &directory->state_budget);
    if (!error)
        error = budget_create(budget, "subscriptions", 0, &directory->feeds_budget);
    if (!error) {
        budget_leave_set(directory->state_budget, STATE_LEAVES_PART);
        budget_leave_set(directory->feeds_budget, SUBSCRIPTIONS_LEAVE_PART);
    }
    directory->common = (struct topic_common){.feeds_budget = directory->feeds_budget,
                                              .all_budget = directory->state_budget,
                                              .admission = &directory->admission};
    if (!error)
        error = tables_create(directory, config);
    if (!error)
        error = rules_copy(directory, config);
    if (!error)
        error = directory_spawn(directory);
    if (!error)
        error = topics_create(directory);
    if (error) {
        /* Actors already spawned end with the runtime, which the caller gives up too; they find no directory then. */
        if (!actor_is_none(directory->actor))
            (void)!actor_stop(runtime, directory->actor, error);
        directory_destroy(&directory);
    }
    *out = directory;
    return error;
}

void directory_destroy(struct directory **pointer)
{
    struct directory *directory = *pointer;
    if (directory == NULL)
        return;
    MAGIC_CHECK(directory, DIRECTORY_MAGIC);
    for (uint32_t i = 0; i < directory->topics.used; i++) {
        if (directory_topic_at(directory, i) != NULL)
            directory_topic_free(directory, i);
    }
    for (uint32_t i = 0; i < index_pool_count(&directory->subs); i++) {
        struct sub *sub = index_pool_find(&directory->subs, i);
        if (sub == NULL)
            continue;
        sub->subscriber = INDEX_NONE;
        sub->links = sub->is_name ? 0 : INDEX_NONE; /* the topics are gone */
        directory_sub_free(directory, i);
    }
    for (uint32_t i = 0; i < RULES_SHARED_MAX; i++)
        arena_drop(directory->arena, directory->rules_shared[i]);
    index_pool_fini(&directory->subs);
    index_pool_fini(&directory->links);
    index_pool_fini(&directory->waits);
    index_table_fini(&directory->topics);
    index_pool_fini(&directory->entries);
    index_pool_fini(&directory->subscribers);
    patterns_destroy(&directory->patterns);
    free(directory->heads);
    free(directory->name_buckets);
    free(directory->actor_buckets);
    free(directory->subscriber_buckets);
    free(directory->number_buckets);
    free(directory->rules);
    budget_destroy(&directory->state_budget);
    budget_destroy(&directory->feeds_budget);
    pthread_rwlock_destroy(&directory->names);
    directory->magic = 0;
    free(directory);
    *pointer = NULL;
}

weir_actor directory_actor(struct directory *directory) { return directory->actor; }
