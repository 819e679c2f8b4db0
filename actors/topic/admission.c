/* The token bucket, kept as one number: the moment at which everything taken so far will have come. Any thread. */
#include "actors/topic/admission.h"

#include "actors/base/clock.h"

static uint64_t nanoseconds_of(uint64_t bytes, uint64_t bytes_per_s)
{
    double ns = (double)bytes * (double)NS_PER_S / (double)bytes_per_s;
    return ns < (double)(UINT64_MAX / 4) ? (uint64_t)ns : UINT64_MAX / 4;
}

void admission_init(struct admission *admission, uint64_t bytes_per_s, uint64_t burst_bytes)
{
    admission->bytes_per_s = bytes_per_s;
    admission->burst_ns = bytes_per_s ? nanoseconds_of(burst_bytes, bytes_per_s) : 0;
    atomic_store_explicit(&admission->horizon_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&admission->waiting, 0, memory_order_relaxed);
}

bool admission_take(struct admission *admission, uint64_t now_ns, uint64_t bytes)
{
    if (admission->bytes_per_s == 0)
        return true;
    uint64_t cost_ns = nanoseconds_of(bytes, admission->bytes_per_s);
    uint64_t horizon_ns = atomic_load_explicit(&admission->horizon_ns, memory_order_relaxed), taken_ns;
    do {
        if (horizon_ns > now_ns && horizon_ns - now_ns > admission->burst_ns)
            return false;
        taken_ns = (horizon_ns > now_ns ? horizon_ns : now_ns) + cost_ns;
    } while (!atomic_compare_exchange_weak_explicit(&admission->horizon_ns, &horizon_ns, taken_ns, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

uint64_t admission_due_ns(const struct admission *admission)
{
    uint64_t horizon_ns = atomic_load_explicit(&admission->horizon_ns, memory_order_relaxed);
    return horizon_ns > admission->burst_ns ? horizon_ns - admission->burst_ns : 0;
}
