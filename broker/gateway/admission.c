/* Who may connect: the bounds on connections in all and per address, counted before the peer has said a byte, and the
 * log lines about those refused. The three handlers run on a poller's thread; the rest on any. */
#include <stdlib.h>

#include "actors/base/assert.h"
#include "actors/base/clock.h"
#include "broker/gateway/hash.h"
#include "broker/gateway/roster.h"

enum { ADDRESS_TEXT_MAX = 160 };

static uint64_t address_hash(const char *address) { return hash_bytes((const uint8_t *)address, strlen(address)); }

void gateway_count(struct gateway *gateway, enum refusal refusal, uint64_t n)
{
    atomic_fetch_add_explicit(&gateway->refusals[refusal], n, memory_order_relaxed);
}

void gateway_log(struct gateway *gateway, const char *event, const char *address, const char *peer,
                 enum refusal refusal, const char *reason)
{
    uint64_t hash = address_hash(address), suppressed = 0, now_ns = clock_now_ns();
    pthread_mutex_lock(&gateway->lock);
    struct log_row *row = &gateway->log_rows[hash % GATEWAY_LOG_ROWS];
    if (row->hash != hash && now_ns >= row->limit.next_ns)
        *row = (struct log_row){.hash = hash};
    row->limit.interval_ns = gateway->config.log_interval_ms * NS_PER_MS;
    bool is_passed = log_limit_pass(&row->limit, now_ns, &suppressed);
    pthread_mutex_unlock(&gateway->lock);
    if (!is_passed)
        return;
    char quoted_peer[ADDRESS_TEXT_MAX], quoted_reason[ADDRESS_TEXT_MAX];
    log_warning(event, "peer=%s refusal=%s reason=%s suppressed=%llu",
                log_quote(quoted_peer, sizeof quoted_peer, peer, strlen(peer)), refusal_name(refusal),
                log_quote(quoted_reason, sizeof quoted_reason, reason, strlen(reason)), (unsigned long long)suppressed);
}

/* ---------------------------------------------------------------------------------------- addresses */

static struct address_row **address_link(struct gateway *gateway, const char *address)
{
    uint64_t hash = address_hash(address);
    struct address_row **link = &gateway->addresses[hash % GATEWAY_ADDRESS_ROWS];
    while (*link != NULL && ((*link)->hash != hash || strcmp((*link)->address, address) != 0))
        link = &(*link)->next;
    return link;
}

static enum weir_error address_take(struct gateway *gateway, const char *address)
{
    struct address_row **link = address_link(gateway, address), *row = *link;
    size_t max = gateway->config.connections_per_address_max;
    if (row != NULL && max > 0 && row->count >= max)
        return WEIR_FULL;
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        if (row == NULL)
            return WEIR_NO_MEMORY;
        row->hash = address_hash(address);
        text_copy(row->address, sizeof row->address, address);
        *link = row;
    }
    row->count++;
    return WEIR_OK;
}

void admission_release(struct gateway *gateway, const char *address)
{
    struct address_row **link = address_link(gateway, address), *row = *link;
    REQUIRE(row != NULL && row->count > 0);
    if (--row->count > 0)
        return;
    *link = row->next;
    free(row);
}

/* -------------------------------------------------------------------------------------------- handlers */

/* Rows hold cut addresses, so all that compare with them are cut alike. */
static void address_cut(char out[CONNECTION_PEER_MAX], const char *address)
{
    text_copy(out, CONNECTION_PEER_MAX, address);
}

static bool on_accept(void *owner, const char *full_address)
{
    struct gateway *gateway = owner;
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    char address[CONNECTION_PEER_MAX];
    address_cut(address, full_address);
    enum refusal refusal = REFUSAL_CONNECTIONS;
    const char *reason = "as many connections as may be";
    pthread_mutex_lock(&gateway->lock);
    bool is_accepted = gateway->is_accepting && gateway->count + gateway->reserved < gateway->config.connections_max;
    if (is_accepted) {
        enum weir_error error = address_take(gateway, address);
        is_accepted = error == WEIR_OK;
        refusal = error == WEIR_FULL ? REFUSAL_ADDRESS : REFUSAL_MEMORY;
        reason = error == WEIR_FULL ? "as many connections from this address as may be" : "no memory";
    }
    if (is_accepted)
        gateway->reserved++;
    pthread_mutex_unlock(&gateway->lock);
    if (!is_accepted) {
        gateway_count(gateway, refusal, 1);
        gateway_log(gateway, "connection.refused", address, address, refusal, reason);
    }
    return is_accepted;
}

static void reservation_end(struct gateway *gateway, const char *address)
{
    pthread_mutex_lock(&gateway->lock);
    gateway->reserved--;
    admission_release(gateway, address);
    pthread_cond_broadcast(&gateway->changed);
    pthread_mutex_unlock(&gateway->lock);
}

static void on_ready(void *owner, struct sp_pipe *pipe)
{
    struct gateway *gateway = owner;
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    enum weir_error error = roster_open(gateway, pipe);
    if (error == WEIR_OK)
        return;
    char address[CONNECTION_PEER_MAX];
    address_cut(address, sp_pipe_address(pipe));
    enum refusal refusal = error == WEIR_PROTOCOL ? REFUSAL_PROTOCOL_UNSERVED : REFUSAL_MEMORY;
    gateway_count(gateway, refusal, 1);
    gateway_log(gateway, "connection.refused", address, sp_pipe_peer(pipe), refusal, weir_error_text(error));
    sp_pipe_destroy(&pipe); /* never started, so this is no handler of it */
    reservation_end(gateway, address);
}

static void on_refused(void *owner, const char *full_address, const char *peer, enum weir_error error,
                       const char *reason)
{
    struct gateway *gateway = owner;
    MAGIC_CHECK(gateway, GATEWAY_MAGIC);
    char address[CONNECTION_PEER_MAX];
    address_cut(address, full_address);
    gateway_count(gateway, REFUSAL_HANDSHAKE, 1);
    if (error != WEIR_CLOSED) /* a peer that left is nobody's trouble: port checks do that all day */
        gateway_log(gateway, "connection.refused", address, peer, REFUSAL_HANDSHAKE, reason);
    reservation_end(gateway, address);
}

const struct sp_listener_handlers gateway_listener_handlers = {
    .on_accept = on_accept,
    .on_ready = on_ready,
    .on_refused = on_refused,
};
