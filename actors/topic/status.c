/* What others may look at: counters and feeds of a topic, under its lock, from any thread. */
#include "actors/topic/state.h"

/* What most turns change. */
static bool figures_are_told(const struct topic_shared *shared, const struct topic *topic)
{
    return shared->seq == topic->ring.seq_last && shared->weight == topic->ring.weight &&
           shared->published == topic->published && shared->state_bytes == topic->fold.bytes &&
           shared->entries == topic->fold.entries && shared->ring_bytes == topic->ring.bytes;
}

void topic_shared_figures(struct topic *topic)
{
    struct topic_shared *shared = topic->shared;
    shared->seq = topic->ring.seq_last;
    shared->weight = topic->ring.weight;
    shared->published = topic->published;
    shared->state_bytes = topic->fold.bytes;
    shared->entries = topic->fold.entries;
    shared->ring_bytes = topic->ring.bytes;
    shared->pages_built = topic->fold.pages_built;
    shared->pages_sent = topic->pages_sent;
}

/* What few turns change: none of these ever falls, so that their sum stands for all of them. 1 more, as 0 is untold. */
static uint64_t rare_sum(const struct topic *topic)
{
    return 1 + topic->epoch + topic->refused + topic->duplicates + topic->dead + topic->resyncs + topic->restarts;
}

static uint64_t topic_blocked_since_ns(const struct topic *topic)
{
    return topic->limits != NULL ? topic->limits->blocked_since_ns : 0;
}

static bool is_in_trouble(const struct topic *topic)
{
    return topic->failures > 0 || topic->stash.count > 0 || topic->forward != NULL ||
           topic_blocked_slot(topic) != FEED_NONE || topic_blocked_since_ns(topic) != 0;
}

static void rare_publish(struct turn *turn, struct topic *topic)
{
    struct topic_shared *shared = topic->shared;
    uint32_t blocked = topic_blocked_slot(topic);
    shared->actor = turn_self(turn);
    shared->epoch = topic->epoch;
    shared->refused = topic->refused;
    shared->duplicates = topic->duplicates;
    shared->dead = topic->dead;
    shared->resyncs = topic->resyncs;
    shared->restarts = topic->restarts;
    shared->is_stale = topic->failures > 0;
    shared->last_cause = (uint8_t)topic->last_cause;
    shared->stashed = topic->stash.count + forward_waiting(topic);
    shared->blocked_feed = blocked == FEED_NONE ? 0 : topic->feeds.table[blocked].feed;
    shared->blocked_by = blocked == FEED_NONE ? WEIR_ACTOR_NONE : topic->feeds.table[blocked].subscriber;
    shared->blocked_since_ns = topic_blocked_since_ns(topic);
    shared->short_since_ns = topic->forward != NULL && topic->stash.count > 0 ? topic->forward->short_since_ns : 0;
}

void topic_shared_publish(struct turn *turn, struct topic *topic)
{
    uint64_t rare = rare_sum(topic);
    bool is_trouble = is_in_trouble(topic);
    bool is_rare = rare != topic->told_rare || is_trouble || topic->is_trouble_told;
    if (!is_rare && figures_are_told(topic->shared, topic))
        return;
    pthread_mutex_lock(&topic->shared->lock);
    topic_shared_figures(topic);
    if (is_rare)
        rare_publish(turn, topic);
    pthread_mutex_unlock(&topic->shared->lock);
    topic->told_rare = rare;
    topic->is_trouble_told = is_trouble;
}

void topic_shared_status(struct runtime *runtime, struct topic_shared *shared, struct topic_status *out)
{
    struct actor_status actor = {.depth = 0};
    pthread_mutex_lock(&shared->lock);
    *out = (struct topic_status){.actor = shared->actor,
                                 .kind = shared->kind,
                                 .epoch = shared->epoch,
                                 .seq = shared->seq,
                                 .state_bytes = shared->state_bytes,
                                 .ring_bytes = shared->ring_bytes,
                                 .entries = shared->entries,
                                 .depth_max = shared->depth_max,
                                 .published = shared->published,
                                 .refused = shared->refused,
                                 .duplicates = shared->duplicates,
                                 .dead = shared->dead,
                                 .resyncs = shared->resyncs,
                                 .pages_built = shared->pages_built,
                                 .pages_sent = shared->pages_sent,
                                 .is_stale = shared->is_stale,
                                 .restarts = shared->restarts,
                                 .last_cause = shared->last_cause,
                                 .blocked_feed = shared->blocked_feed,
                                 .blocked_by = shared->blocked_by,
                                 .blocked_since_ns = shared->blocked_since_ns,
                                 .short_since_ns = shared->short_since_ns};
    if (shared->feeds != NULL)
        out->subscribers = shared->feeds->count;
    out->depth = shared->stashed;
    memcpy(out->name, shared->name, shared->name_size);
    pthread_mutex_unlock(&shared->lock);
    if (actor_status(runtime, out->actor, &actor) == WEIR_OK)
        out->depth += actor.depth;
}

static const char *feed_phase_name(const struct feed *feed)
{
    if (feed->list == LIST_WAITING || feed->list == LIST_PARKED)
        return "waiting";
    if (feed->list == LIST_ASKING)
        return "admission";
    if (feed->list == LIST_PACED)
        return "paced";
    return feed->phase == FEED_LIVE ? "live" : "snapshot";
}

static struct feed_status feed_status_of(const struct topic_shared *shared, const struct feed *feed)
{
    struct feed_status status = {.sub = feed->sub,
                                 .feed = feed->feed,
                                 .subscriber = feed->subscriber,
                                 .policy = feed->policy,
                                 .phase = feed_phase_name(feed),
                                 .credit = feed->credit > 0 ? (uint64_t)feed->credit : 0,
                                 .resyncs = feed->resyncs};
    memcpy(status.topic, shared->name, shared->name_size);
    if (feed->phase == FEED_BEGIN || feed->phase == FEED_ENDED)
        return status;
    status.seq = feed->cursor.seq - 1;
    status.lag = shared->seq > status.seq ? shared->seq - status.seq : 0;
    /* No more than is retained can wait for it. */
    uint32_t lag_bytes = (uint32_t)shared->weight - feed->weight;
    if (feed->phase == FEED_LIVE && status.lag > 0)
        status.lag_bytes = lag_bytes < shared->ring_bytes ? lag_bytes : shared->ring_bytes;
    return status;
}

bool topic_shared_feeds_each(struct topic_shared *shared, bool (*each)(const struct feed_status *status, void *context),
                             void *context)
{
    bool goes_on = true;
    pthread_mutex_lock(&shared->lock);
    const struct feeds *feeds = shared->feeds;
    for (uint32_t slot = 0; feeds != NULL && goes_on && slot < feeds->used; slot++) {
        const struct feed *feed = &feeds->table[slot];
        if (feed->phase == FEED_FREE)
            continue;
        struct feed_status status = feed_status_of(shared, feed);
        goes_on = each(&status, context);
    }
    pthread_mutex_unlock(&shared->lock);
    return goes_on;
}
