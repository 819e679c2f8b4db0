/* Byte budgets. Called by the arena for each block with an owner, and by owners themselves; any thread.
 *
 * A budget is granted bytes by its parent (a root: by nobody) and charges what it can to the unused part
 * of the grant, its credit, so that most charges touch one word of one budget:
 *
 *   used = granted - credit        granted <= bytes_max at all times, hence used <= bytes_max
 *
 * Only when the credit does not suffice, or grows past BUDGET_SLACK, the lock is taken and the grant
 * changed, which charges or releases the parent. An ancestor is therefore charged up to the slack of
 * each descendant more than they use. Locks are taken from child to parent. */
#include "actors/memory/budget.h"

#include "actors/base/assert.h"
#include "actors/base/limits.h"
#include "actors/memory/budget_charge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUDGET_MAGIC = 0xb0d6e701, CREDIT_UNIT = 16, CREDIT_SHIFT = 32 };

/* Credit never comes near 2^32 units of 16 bytes, because it is trimmed and no step is larger than this. */
static const size_t step_size_max = (size_t)1 << 30;

struct budget {
    /* Written by everybody who charges. High half: credit in units of CREDIT_UNIT bytes; low half: references,
     * one for each block, each child and the creator. Charges are relaxed: they guard no data. Giving up a
     * reference is a release, paired with the acquire of whoever takes the last one and frees the budget. */
    _Atomic uint64_t word;
    /* Written under lock, read without it for figures only, hence relaxed. */
    _Atomic uint64_t granted;
    _Atomic uint64_t bytes_max; /* 0: none */
    _Atomic uint64_t peak;      /* raised by everybody who charges; relaxed, for people */
    _Atomic uint64_t refusals;  /* likewise */
    _Atomic uint32_t others;    /* references that are no blocks: the creator's and the children's; relaxed */
    uint32_t magic;
    uint32_t leave_part;   /* of the arena's ceiling, for others; 0: nothing. Constant once others know the budget */
    struct budget *parent; /* constant */
    pthread_mutex_t lock;
    char owner[]; /* constant; as long as it is, up to that of struct budget_usage: there is one for each connection */
};

static uint64_t units_of(size_t size) { return ((uint64_t)size + CREDIT_UNIT - 1) / CREDIT_UNIT; }

static uint64_t credit_of(uint64_t word) { return (word >> CREDIT_SHIFT) * CREDIT_UNIT; }

static uint64_t budget_used(const struct budget *budget, uint64_t word)
{
    uint64_t granted = atomic_load_explicit(&budget->granted, memory_order_relaxed);
    uint64_t credit = credit_of(word);
    /* The two are read apart, so that a change between may show too much credit. */
    return granted > credit ? granted - credit : 0;
}

static void peak_raise(struct budget *budget, uint64_t word)
{
    uint64_t used = budget_used(budget, word);
    uint64_t peak = atomic_load_explicit(&budget->peak, memory_order_relaxed);
    while (used > peak && !atomic_compare_exchange_weak_explicit(&budget->peak, &peak, used, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
    }
}

/* Takes units of credit and as many references; false when the credit does not suffice. */
static bool credit_take(struct budget *budget, uint64_t units, uint64_t references)
{
    uint64_t word = atomic_load_explicit(&budget->word, memory_order_relaxed);
    uint64_t next;
    do {
        if (word >> CREDIT_SHIFT < units)
            return false;
        next = word - (units << CREDIT_SHIFT) + references;
    } while (
        !atomic_compare_exchange_weak_explicit(&budget->word, &word, next, memory_order_relaxed, memory_order_relaxed));
    peak_raise(budget, next);
    return true;
}

/* Unused grant that a budget may keep: an eighth of what it uses, within bounds. */
static uint64_t slack_of(uint64_t used)
{
    uint64_t slack = used / 8;
    if (slack < BUDGET_SLACK_MIN)
        return BUDGET_SLACK_MIN;
    return slack < BUDGET_SLACK_MAX ? slack : BUDGET_SLACK_MAX;
}

static enum weir_error budget_take(struct budget *budget, uint64_t units, uint64_t references, bool is_final);
static void budget_give(struct budget *budget, uint64_t units);

/* Raises the grant by size bytes if the bound and the parent allow it. is_final: a refusal counts, because
 * nothing smaller is tried after it. Under lock. */
static enum weir_error grant_raise(struct budget *budget, uint64_t size, bool is_final)
{
    uint64_t granted = atomic_load_explicit(&budget->granted, memory_order_relaxed);
    uint64_t bytes_max = atomic_load_explicit(&budget->bytes_max, memory_order_relaxed);
    if (bytes_max && (granted > bytes_max || size > bytes_max - granted))
        return WEIR_NO_MEMORY;
    if (budget->parent) {
        enum weir_error error = budget_take(budget->parent, size / CREDIT_UNIT, 0, is_final);
        if (error)
            return error;
    }
    /* The credit first: whoever reads between sees too little used, never a peak that was not. */
    atomic_fetch_add_explicit(&budget->word, size / CREDIT_UNIT << CREDIT_SHIFT, memory_order_relaxed);
    atomic_store_explicit(&budget->granted, granted + size, memory_order_relaxed);
    return WEIR_OK;
}

/* The charge when the credit was too small: gets a grant with slack, or else just what is missing. */
static enum weir_error budget_take_slow(struct budget *budget, uint64_t units, uint64_t references, bool is_final)
{
    enum weir_error error = WEIR_OK;
    pthread_mutex_lock(&budget->lock);
    while (!error && !credit_take(budget, units, references)) {
        /* Releases and charges without the lock may change the credit meanwhile: look, and try again. */
        uint64_t credit = credit_of(atomic_load_explicit(&budget->word, memory_order_relaxed));
        uint64_t need = units * CREDIT_UNIT;
        if (credit >= need)
            continue;
        uint64_t missing = need - credit;
        uint64_t slack = slack_of(atomic_load_explicit(&budget->granted, memory_order_relaxed) - credit);
        error = grant_raise(budget, (missing + slack) / CREDIT_UNIT * CREDIT_UNIT, false);
        if (error)
            error = grant_raise(budget, missing, is_final);
    }
    pthread_mutex_unlock(&budget->lock);
    if (error && is_final)
        atomic_fetch_add_explicit(&budget->refusals, 1, memory_order_relaxed);
    return error;
}

static enum weir_error budget_take(struct budget *budget, uint64_t units, uint64_t references, bool is_final)
{
    if (__builtin_expect(credit_take(budget, units, references), 1))
        return WEIR_OK;
    return budget_take_slow(budget, units, references, is_final);
}

/* True when a lowered bound is below the grant, so that no unused part of it may stay. */
static bool is_beyond_bound(const struct budget *budget, uint64_t granted)
{
    uint64_t bytes_max = atomic_load_explicit(&budget->bytes_max, memory_order_relaxed);
    return bytes_max && granted > bytes_max;
}

static bool is_slack_exceeded(const struct budget *budget, uint64_t word)
{
    uint64_t granted = atomic_load_explicit(&budget->granted, memory_order_relaxed);
    return credit_of(word) > 2 * slack_of(budget_used(budget, word)) || is_beyond_bound(budget, granted);
}

/* Lowers the grant until its unused part is within the slack. */
static void grant_trim(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    uint64_t granted = atomic_load_explicit(&budget->granted, memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&budget->word, memory_order_relaxed);
    uint64_t slack = is_beyond_bound(budget, granted) ? 0 : slack_of(granted - credit_of(word)) / CREDIT_UNIT;
    uint64_t excess;
    do {
        excess = word >> CREDIT_SHIFT > slack ? (word >> CREDIT_SHIFT) - slack : 0;
        /* The grant first, for the reason told in grant_raise. */
        atomic_store_explicit(&budget->granted, granted - excess * CREDIT_UNIT, memory_order_relaxed);
    } while (excess && !atomic_compare_exchange_weak_explicit(&budget->word, &word, word - (excess << CREDIT_SHIFT),
                                                              memory_order_relaxed, memory_order_relaxed));
    if (excess && budget->parent)
        budget_give(budget->parent, excess);
    pthread_mutex_unlock(&budget->lock);
}

/* Gives credit back. The caller's reference keeps the budget meanwhile. */
static void budget_give(struct budget *budget, uint64_t units)
{
    uint64_t given = units << CREDIT_SHIFT;
    uint64_t word = atomic_fetch_add_explicit(&budget->word, given, memory_order_relaxed) + given;
    if (is_slack_exceeded(budget, word))
        grant_trim(budget);
}

static void budget_free(struct budget *budget)
{
    uint64_t granted = atomic_load_explicit(&budget->granted, memory_order_relaxed);
    INVARIANT(granted == credit_of(atomic_load_explicit(&budget->word, memory_order_relaxed)));
    struct budget *parent = budget->parent;
    pthread_mutex_destroy(&budget->lock);
    budget->magic = 0;
    free(budget);
    if (!parent)
        return;
    budget_give(parent, granted / CREDIT_UNIT);
    atomic_fetch_sub_explicit(&parent->others, 1, memory_order_relaxed);
    budget_block_release(parent, 0);
}

enum weir_error budget_create(struct budget *parent, const char *owner, size_t bytes_max, struct budget **out)
{
    int depth = 1;
    for (const struct budget *up = parent; up; up = up->parent)
        depth++;
    REQUIRE(depth <= BUDGET_DEPTH_MAX);
    size_t owner_size = strnlen(owner, sizeof((struct budget_usage *)0)->owner - 1);
    struct budget *budget = calloc(1, sizeof *budget + owner_size + 1);
    if (!budget)
        return WEIR_NO_MEMORY;
    if (pthread_mutex_init(&budget->lock, NULL)) {
        free(budget);
        return WEIR_NO_MEMORY;
    }
    budget->magic = BUDGET_MAGIC;
    budget->parent = parent;
    atomic_init(&budget->bytes_max, bytes_max);
    atomic_init(&budget->word, 1);
    atomic_init(&budget->others, 1);
    memcpy(budget->owner, owner, owner_size);
    if (parent) {
        MAGIC_CHECK(parent, BUDGET_MAGIC);
        budget->leave_part = parent->leave_part;
        atomic_fetch_add_explicit(&parent->others, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&parent->word, 1, memory_order_relaxed);
    }
    *out = budget;
    return WEIR_OK;
}

void budget_destroy(struct budget **budget_pointer)
{
    struct budget *budget = *budget_pointer;
    if (!budget)
        return;
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    *budget_pointer = NULL;
    atomic_fetch_sub_explicit(&budget->others, 1, memory_order_relaxed);
    budget_block_release(budget, 0);
}

void budget_leave_set(struct budget *budget, uint32_t part)
{
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    budget->leave_part = part;
}

size_t budget_left(const struct budget *budget, size_t bytes_max)
{
    return budget->leave_part > 0 ? bytes_max / budget->leave_part : 0;
}

void budget_limit_set(struct budget *budget, size_t bytes_max)
{
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    pthread_mutex_lock(&budget->lock);
    atomic_store_explicit(&budget->bytes_max, bytes_max, memory_order_relaxed);
    pthread_mutex_unlock(&budget->lock);
    /* Unused grant would let charges pass that the new bound refuses. */
    grant_trim(budget);
}

void budget_usage(const struct budget *budget, struct budget_usage *out)
{
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    uint64_t word = atomic_load_explicit(&budget->word, memory_order_relaxed);
    uint32_t references = (uint32_t)word;
    uint32_t others = atomic_load_explicit(&budget->others, memory_order_relaxed);
    snprintf(out->owner, sizeof out->owner, "%s", budget->owner);
    out->bytes_used = budget_used(budget, word);
    out->bytes_max = atomic_load_explicit(&budget->bytes_max, memory_order_relaxed);
    out->bytes_peak = atomic_load_explicit(&budget->peak, memory_order_relaxed);
    out->blocks_used = references > others ? references - others : 0;
    out->refusals = atomic_load_explicit(&budget->refusals, memory_order_relaxed);
}

void budget_level(const struct budget *budget, size_t *bytes_used, size_t *bytes_max)
{
    *bytes_used = budget_used(budget, atomic_load_explicit(&budget->word, memory_order_relaxed));
    *bytes_max = atomic_load_explicit(&budget->bytes_max, memory_order_relaxed);
}

const char *budget_owner(const struct budget *budget) { return budget->owner; }

/* What was charged in steps below size, when a later step was refused. */
static void steps_release(struct budget *budget, size_t size, size_t rest)
{
    if (size > rest)
        budget_release(budget, size - rest);
}

enum weir_error budget_charge(struct budget *budget, size_t size)
{
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    for (size_t rest = size; rest > 0;) {
        size_t step = rest < step_size_max ? rest : step_size_max;
        enum weir_error error = budget_take(budget, units_of(step), 0, true);
        if (error) {
            steps_release(budget, size, rest);
            return error;
        }
        rest -= step;
    }
    return WEIR_OK;
}

void budget_release(struct budget *budget, size_t size)
{
    MAGIC_CHECK(budget, BUDGET_MAGIC);
    for (size_t rest = size; rest > 0;) {
        size_t step = rest < step_size_max ? rest : step_size_max;
        budget_give(budget, units_of(step));
        rest -= step;
    }
}

enum weir_error budget_block_charge(struct budget *budget, size_t size)
{
    REQUIRE(budget->magic == BUDGET_MAGIC && size <= step_size_max);
    return budget_take(budget, units_of(size), 1, true);
}

void budget_block_release(struct budget *budget, size_t size)
{
    REQUIRE(budget->magic == BUDGET_MAGIC);
    uint64_t given = units_of(size) << CREDIT_SHIFT;
    if (is_slack_exceeded(budget, atomic_load_explicit(&budget->word, memory_order_relaxed) + given)) {
        /* Trimming needs the reference that is about to go. */
        budget_give(budget, units_of(size));
        given = 0;
    }
    /* Adding given and taking one reference in one step: the references are at least 1, so nothing is borrowed
     * from the credit. Release and acquire: see struct budget. */
    uint64_t word = atomic_fetch_add_explicit(&budget->word, given - 1, memory_order_acq_rel) + given - 1;
    if ((uint32_t)word == 0)
        budget_free(budget);
}
