/* What the publishing tests share: outcomes as they are told, records, and whether the counts add up. */
#ifndef TESTS_UNIT_CLIENTS_LIB_OUTCOMES_H
#define TESTS_UNIT_CLIENTS_LIB_OUTCOMES_H

#include "tests/unit/clients/lib/fake.h"

struct told {
    uint64_t number, epoch, seq;
    uint32_t count;
    enum weir_error outcome;
    char reason[64];
};

struct outcomes {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count;
    struct told told[64];
    uint64_t records[WEIR_ERROR_COUNT];
    unsigned downs;
};

static inline void on_link(struct weir *client, enum weir_link link, enum weir_error cause, const char *reason,
                           void *context)
{
    struct outcomes *outcomes = context;
    (void)client, (void)cause, (void)reason;
    pthread_mutex_lock(&outcomes->lock);
    outcomes->downs += link == WEIR_LINK_DOWN;
    pthread_cond_broadcast(&outcomes->changed);
    pthread_mutex_unlock(&outcomes->lock);
}

static inline void on_outcome(struct weir *client, uint64_t number, uint32_t count, enum weir_error outcome,
                              uint64_t epoch, uint64_t seq, const char *reason, void *context)
{
    struct outcomes *outcomes = context;
    (void)client;
    pthread_mutex_lock(&outcomes->lock);
    struct told *told = &outcomes->told[outcomes->count++ % 64];
    *told = (struct told){number, epoch, seq, count, outcome, ""};
    snprintf(told->reason, sizeof told->reason, "%s", reason);
    outcomes->records[outcome] += count;
    pthread_cond_broadcast(&outcomes->changed);
    pthread_mutex_unlock(&outcomes->lock);
}

static inline void outcomes_init(struct outcomes *outcomes)
{
    *outcomes = (struct outcomes){.count = 0};
    pthread_mutex_init(&outcomes->lock, NULL);
    pthread_cond_init(&outcomes->changed, NULL);
}

static inline struct weir_record text_record(const char *topic, const char *text, enum weir_ack ack)
{
    return (struct weir_record){
        .topic = topic, .value = text, .value_size = strlen(text), .form = WEIR_TEXT, .ack = ack};
}

static inline void check_sum(struct weir *client, uint64_t waiting)
{
    struct weir_counts counts;
    weir_counts(client, &counts);
    assert_int_equal(counts.published, counts.acked + counts.refused + counts.unknown + waiting);
}

#endif
