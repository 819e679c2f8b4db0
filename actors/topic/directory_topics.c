/* Topics by name and by actor, and how they come and go. In the directory's turns. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/base/assert.h"
#include "actors/topic/directory_state.h"
#include "actors/topic/map_tree.h"
#include "clients/wire/name.h"

#define DEAD_PREFIX "$dead/"

enum weir_error index_table_init(struct index_table *table, size_t capacity)
{
    *table = (struct index_table){.capacity = (uint32_t)capacity};
    table->items = calloc(capacity ? capacity : 1, sizeof *table->items);
    table->free = calloc(capacity ? capacity : 1, sizeof *table->free);
    return table->items && table->free ? WEIR_OK : WEIR_NO_MEMORY;
}

void index_table_fini(struct index_table *table)
{
    free(table->items);
    free(table->free);
    *table = (struct index_table){.items = NULL};
}

static bool index_table_is_full(const struct index_table *table)
{
    return table->free_count == 0 && table->used == table->capacity;
}

uint32_t index_table_add(struct index_table *table, void *item)
{
    uint32_t index = INDEX_NONE;
    if (table->free_count > 0)
        index = table->free[--table->free_count];
    else if (table->used < table->capacity)
        index = table->used++;
    if (index != INDEX_NONE)
        table->items[index] = item;
    return index;
}

void index_table_remove(struct index_table *table, uint32_t index)
{
    REQUIRE(index < table->used && table->items[index] != NULL);
    table->items[index] = NULL;
    table->free[table->free_count++] = index;
}

uint32_t directory_hash(const struct directory *directory, struct view bytes)
{
    return (uint32_t)map_hash(bytes, directory->seed);
}

struct topic_entry *directory_topic_at(const struct directory *directory, uint32_t index)
{
    return directory->topics.items[index];
}

struct view topic_entry_name(const struct topic_entry *entry)
{
    return view_of(entry->shared->name, entry->shared->name_size);
}

static uint32_t *name_bucket(const struct directory *directory, struct view name)
{
    return &directory->name_buckets[directory_hash(directory, name) & (directory->bucket_count - 1)];
}

static uint32_t *actor_bucket(const struct directory *directory, weir_actor actor)
{
    uint32_t hash = directory_hash(directory, view_of(&actor.bits, sizeof actor.bits));
    return &directory->actor_buckets[hash & (directory->bucket_count - 1)];
}

uint32_t directory_topic_find(const struct directory *directory, struct view name)
{
    uint32_t index = *name_bucket(directory, name);
    while (index != INDEX_NONE && !view_is_same(topic_entry_name(directory_topic_at(directory, index)), name))
        index = directory_topic_at(directory, index)->name_next;
    return index;
}

uint32_t directory_topic_find_actor(const struct directory *directory, weir_actor actor)
{
    uint32_t index = *actor_bucket(directory, actor);
    while (index != INDEX_NONE && !actor_is_same(directory_topic_at(directory, index)->actor, actor))
        index = directory_topic_at(directory, index)->actor_next;
    return index;
}

/* Dead letters are a log, whatever the rules say; other names go by the first rule that matches. */
static enum weir_error rule_find(const struct directory *directory, struct view name, struct topic_rule *out)
{
    size_t prefix = sizeof DEAD_PREFIX - 1;
    if (name.size > prefix && memcmp(name.data, DEAD_PREFIX, prefix) == 0) {
        *out = (struct topic_rule){.kind = TOPIC_LOG,
                                   .log_count_max = directory->retain_count_max_dead,
                                   .retain_count_max = directory->retain_count_max_dead};
        return WEIR_OK;
    }
    for (size_t i = 0; i < directory->rule_count; i++) {
        if (pattern_matches(view_text(directory->rules[i].pattern), name)) {
            *out = directory->rules[i].rule;
            return WEIR_OK;
        }
    }
    *out = directory->fallback;
    return directory->auto_create ? WEIR_OK : WEIR_NOT_FOUND;
}

static enum weir_error shared_create(struct directory *directory, struct view name, const struct topic_rule *rule,
                                     weir_msg *out)
{
    size_t size = sizeof(struct topic_shared) + name.size;
    enum weir_error error = arena_alloc(directory->arena, size, directory->feeds_budget, out);
    if (error)
        return error;
    struct topic_shared *shared = arena_data(directory->arena, *out);
    *shared = (struct topic_shared){.arena = directory->arena,
                                    .kind = (uint16_t)rule->kind,
                                    .name_size = (uint16_t)name.size,
                                    .depth_max = rule->mailbox_max};
    memcpy(shared->name, name.data, name.size);
    pthread_mutex_init(&shared->lock, NULL);
    return WEIR_OK;
}

static bool rule_is_same(const struct topic_rule *a, const struct topic_rule *b)
{
    return a->kind == b->kind && a->log_count_max == b->log_count_max && a->log_bytes_max == b->log_bytes_max &&
           a->log_age_max_ms == b->log_age_max_ms && a->state_bytes_max == b->state_bytes_max &&
           a->merged_bytes_max == b->merged_bytes_max && a->retain_count_max == b->retain_count_max &&
           a->retain_bytes_max == b->retain_bytes_max && a->mailbox_max == b->mailbox_max && a->ttl_ms == b->ttl_ms &&
           a->bind_grace_ms == b->bind_grace_ms && a->bound_keys_max == b->bound_keys_max &&
           a->dedup_records_max == b->dedup_records_max && a->dedup_publishers_max == b->dedup_publishers_max;
}

/* A block with that rule, which most topics have in common with others; a reference of the caller's. */
static enum weir_error rule_share(struct directory *directory, const struct topic_rule *rule, weir_msg *out)
{
    for (uint32_t i = 0; i < RULES_SHARED_MAX; i++) {
        weir_msg block = directory->rules_shared[i];
        if (msg_is_none(block) || !rule_is_same(arena_data(directory->arena, block), rule))
            continue;
        *out = block;
        return arena_hold(directory->arena, block);
    }
    enum weir_error error = arena_alloc(directory->arena, sizeof *rule, directory->feeds_budget, out);
    if (error)
        return error;
    memcpy(arena_data(directory->arena, *out), rule, sizeof *rule);
    error = arena_hold(directory->arena, *out);
    ENSURE(error == WEIR_OK);
    weir_msg *place = &directory->rules_shared[directory->rules_shared_next++ % RULES_SHARED_MAX];
    arena_drop(directory->arena, *place);
    *place = *out;
    return WEIR_OK;
}

static void entry_free(struct directory *directory, struct topic_entry *entry)
{
    if (entry->shared != NULL)
        pthread_mutex_destroy(&entry->shared->lock);
    arena_drop(directory->arena, entry->shared_block);
    arena_drop(directory->arena, entry->rule_block);
    budget_destroy(&entry->budget);
    index_pool_give(&directory->entries, entry->place);
}

/* What a topic may use at most: its state twice over, as a snapshot may keep all of it besides, and the ring. */
static size_t topic_budget_max(const struct topic_rule *rule)
{
    size_t ring = rule->retain_bytes_max ? rule->retain_bytes_max : RETAIN_BYTES_DEFAULT;
    return rule->state_bytes_max ? 3 * rule->state_bytes_max + 2 * ring + 2 * RING_PAGE_SIZE_MAX : 0;
}

static enum weir_error entry_create(struct directory *directory, struct view name, const struct topic_rule *rule,
                                    struct topic_entry **out)
{
    uint32_t place;
    enum weir_error error = index_pool_take(&directory->entries, &place);
    if (error)
        return error;
    struct topic_entry *entry = index_pool_at(&directory->entries, place);
    *entry = (struct topic_entry){
        .is_used = true, .place = place, .name_next = INDEX_NONE, .actor_next = INDEX_NONE, .links = INDEX_NONE};
    char owner[64];
    snprintf(owner, sizeof owner, "topic %.*s", (int)(name.size < 48 ? name.size : 48), (const char *)name.data);
    error = budget_create(directory->state_budget, owner, topic_budget_max(rule), &entry->budget);
    if (!error)
        error = shared_create(directory, name, rule, &entry->shared_block);
    entry->shared = error ? NULL : arena_data(directory->arena, entry->shared_block);
    if (!error)
        error = rule_share(directory, rule, &entry->rule_block);
    if (error) {
        entry_free(directory, entry);
        return error;
    }
    *out = entry;
    return WEIR_OK;
}

static enum weir_error entry_spawn(struct directory *directory, struct topic_entry *entry,
                                   const struct topic_rule *rule)
{
    char label[64];
    struct view name = topic_entry_name(entry);
    snprintf(label, sizeof label, "topic %.*s", (int)(name.size < 56 ? name.size : 56), (const char *)name.data);
    directory->epoch_last = topic_epoch_next(directory->epoch_last);
    struct topic_args args = {.shared = entry->shared_block,
                              .rule = entry->rule_block,
                              .common = &directory->common,
                              .budget = entry->budget,
                              .epoch = directory->epoch_last,
                              .seed = directory->seed ^ directory->epoch_last};
    struct actor_options options = {
        .mailbox_max = rule->mailbox_max, .supervisor = directory->supervisor, .budget = entry->budget, .label = label};
    enum weir_error error =
        actor_spawn(directory->runtime, &topic_behaviour, &args, sizeof args, &options, &entry->actor);
    if (error)
        return error;
    pthread_mutex_lock(&entry->shared->lock);
    entry->shared->actor = entry->actor;
    entry->shared->epoch = args.epoch;
    pthread_mutex_unlock(&entry->shared->lock);
    return WEIR_OK;
}

static void entry_publish(struct directory *directory, uint32_t index)
{
    struct topic_entry *entry = directory_topic_at(directory, index);
    uint32_t *name = name_bucket(directory, topic_entry_name(entry)), *actor = actor_bucket(directory, entry->actor);
    pthread_rwlock_wrlock(&directory->names);
    entry->name_next = *name;
    entry->actor_next = *actor;
    *name = *actor = index;
    directory->topic_count++;
    pthread_rwlock_unlock(&directory->names);
}

enum weir_error directory_topic_create(struct turn *turn, struct directory *directory, struct view name,
                                       const enum topic_kind *kind, uint32_t *index_out)
{
    struct topic_rule rule;
    struct topic_entry *entry = NULL;
    pthread_rwlock_rdlock(&directory->names); /* a reload frees the rules from another thread */
    enum weir_error error = rule_find(directory, name, &rule);
    pthread_rwlock_unlock(&directory->names);
    if (error && kind == NULL)
        return error;
    if (kind != NULL)
        rule.kind = *kind;
    rule.merged_bytes_max = directory->merged_bytes_max;
    if (rule.kind != TOPIC_LAST && rule.kind != TOPIC_MAP)
        rule.ttl_ms = 0; /* a kind that was chosen for this topic alone */
    if (index_table_is_full(&directory->topics))
        return WEIR_FULL;
    error = entry_create(directory, name, &rule, &entry);
    if (error)
        return error;
    error = entry_spawn(directory, entry, &rule);
    if (error) {
        entry_free(directory, entry);
        return error;
    }
    pthread_rwlock_wrlock(&directory->names);
    uint32_t index = index_table_add(&directory->topics, entry);
    directory->heads[index] = name_head_of(directory, name);
    pthread_rwlock_unlock(&directory->names);
    /* Should that fail, the topic's end would go unnoticed; it cannot, as both are alive and the runtime keeps room. */
    error = actor_monitor(directory->runtime, directory->actor, entry->actor);
    INVARIANT(error == WEIR_OK || error == WEIR_NO_MEMORY || error == WEIR_FULL || error == WEIR_STALE);
    patterns_attach(turn, directory, index);
    entry_publish(directory, index);
    *index_out = index;
    return WEIR_OK;
}

void directory_topic_free(struct directory *directory, uint32_t index)
{
    struct topic_entry *entry = directory_topic_at(directory, index);
    pthread_rwlock_wrlock(&directory->names);
    index_table_remove(&directory->topics, index);
    pthread_rwlock_unlock(&directory->names);
    entry_free(directory, entry);
}

/* What a feed begins with that ends at once. */
static enum weir_error gone_block(const struct directory *directory, const struct topic_entry *entry, uint32_t sub,
                                  weir_msg *out)
{
    struct topic_shared *shared = entry->shared;
    struct topic_begin *begin;
    enum weir_error error =
        arena_alloc(directory->arena, sizeof *begin + shared->name_size, directory->feeds_budget, out);
    if (error)
        return error;
    begin = arena_data(directory->arena, *out);
    pthread_mutex_lock(&shared->lock);
    *begin = (struct topic_begin){.sub = sub,
                                  .kind = shared->kind,
                                  .cause = CAUSE_DELETED,
                                  .topic = WEIR_ACTOR_NONE,
                                  .epoch = shared->epoch,
                                  .seq = shared->seq,
                                  .name_size = shared->name_size};
    pthread_mutex_unlock(&shared->lock);
    memcpy(begin->name, shared->name, shared->name_size);
    return WEIR_OK;
}

void directory_tell_gone(struct turn *turn, const struct directory *directory, uint32_t link_index,
                         enum weir_error cause)
{
    const struct feed_link *link = directory_link_at(directory, link_index);
    const struct sub *sub = directory_sub_at(directory, directory_link_sub(directory, link_index));
    enum weir_error error = cause == WEIR_OK || cause == WEIR_CLOSED ? WEIR_NOT_FOUND : cause;
    struct message message = {.tag = DIRECTORY_TOPIC_GONE, .detail = sub->sub, .word = {link->feed, error}};
    weir_actor subscriber = directory_subscriber(directory, sub);
    if (sub->updates || actor_is_none(subscriber))
        return;
    if (gone_block(directory, directory_topic_at(directory, link->topic), sub->sub, &message.hold[0]))
        message.word[1] = WEIR_BUSY;
    if (turn_control(turn, subscriber, &message)) /* as with DIRECTORY_SUBSCRIBED */
        arena_drop(directory->arena, message.hold[0]);
}

void directory_topic_gone(struct turn *turn, struct directory *directory, uint32_t index, enum weir_error cause)
{
    struct topic_entry *entry = directory_topic_at(directory, index);
    uint32_t *name = name_bucket(directory, topic_entry_name(entry)), *actor = actor_bucket(directory, entry->actor);
    /* Orders that the topic left unread were dropped with its mailbox, and only the directory knows of them. */
    while (entry->links != INDEX_NONE) {
        directory_tell_gone(turn, directory, entry->links, cause);
        directory_link_over(directory, entry->links);
    }
    pthread_rwlock_wrlock(&directory->names);
    while (*name != index)
        name = &directory_topic_at(directory, *name)->name_next;
    *name = entry->name_next;
    while (*actor != index)
        actor = &directory_topic_at(directory, *actor)->actor_next;
    *actor = entry->actor_next;
    directory->topic_count--;
    directory->published_gone += entry->shared->published;
    directory->refused_gone += entry->shared->refused;
    directory->duplicates_gone += entry->shared->duplicates;
    directory->dead_gone += entry->shared->dead;
    pthread_rwlock_unlock(&directory->names);
    directory_topic_free(directory, index);
}
