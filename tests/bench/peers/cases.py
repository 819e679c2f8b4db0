"""The work that each system is given, and how each kind of it becomes a table."""

from dataclasses import dataclass, field, replace

# What one message of 1 MiB may hold besides its topic: a message body is bounded at 1 MiB.
LARGE = (1 << 20) - 256


@dataclass
class Case:
    kind: str  # names the table: throughput, latency, snapshot, memory
    name: str
    options: dict = field(default_factory=dict)  # of the load generator
    repeat: bool = True  # False: stable enough to be measured once in the quick mode
    peers: tuple = ()  # the only ones it is for
    program: str = ""  # where it is not the load generator of the peer
    share: float = 0  # of the rate that the peer reaches unpaced, taken just before: the rate of this one


def throughput(size=128, pubs=1, subs=1, topics=1):
    number = "W2" if subs > 1 else "W1"
    return Case("throughput", f"{number} {size} B, {pubs} pub, {subs} sub, {topics} topic{'s' * (topics > 1)}",
                {"size": size, "pubs": pubs, "subs": subs, "topics": topics})


def cell(size, pubs, subs, topics):
    """One of the grid: Weir alone, where no neighbour in size or number may be far off."""
    alone = replace(throughput(size, pubs, subs, topics), kind="grid", repeat=False)
    return replace(alone, name=f"grid: {alone.name[3:]}", peers=("weir" if size < LARGE else "weir-block",))


def latency(rate, size=128, subs=1):
    return Case("latency", f"W3 {rate} msg/s, {size} B, 1 pub, {subs} sub", {"rate": rate, "size": size, "subs": subs})


def loaded(percent, size=128, subs=1):
    return Case("loaded", f"W3 {percent} % of what it reaches, {size} B, 1 pub, {subs} sub",
                {"size": size, "subs": subs}, share=percent / 100)


# Those that keep state, and the floor.
SNAPSHOT_PEERS = ("weir", "tcp", "mosquitto-q0", "redis", "jetstream")


def snapshot(keys):
    return Case("snapshot", f"W4 {keys:,} keys of 100 B", {"work": "snapshot", "topics": keys, "size": 100},
                peers=SNAPSHOT_PEERS)


def connections(count):
    return Case("memory", f"W5 {count} connections, 1 subscription each", {"work": "idle", "connections": count},
                repeat=False)


def subscriptions(count):
    return Case("memory", f"W5 1 connection, {count} subscriptions", {"work": "idle", "topics": count}, repeat=False)


def crowd(work, name, seconds=None, **options):
    """Many sessions of Weir at once; see crowd_work.h."""
    if seconds:
        options["seconds"] = seconds
    return Case(work, name, {"work": work, **options}, repeat=False, peers=("weir",), program="bench_crowd")


def joiners(count, keys):
    return crowd("join", f"{count} joiners of {keys} keys of 100 B at once", sessions=count, keys=keys)


def beside(policy, pairs, seconds):
    return crowd("beside", f"beside 10 stalled subscribers, {policy}, {pairs} pairs of {seconds} s", seconds,
                 sessions=10, policy=policy, size=1024, rate=2000, pairs=pairs)


def stock(work, what):
    """Stock nng sockets into Weir, and into nng's own in its place."""
    return Case("stock", f"stock nng: {what}", {"work": work}, peers=("weir", "nng-sockets"), program="bench_stock")


STOCK = [stock("push", "one PUSH socket, 128 B"), stock("ask", "one REQ socket, a request at a time"),
         stock("askmany", "one REQ socket, 64 contexts at once")]

MILLION = 1_000_000
POLICIES = ("resync", "conflate", "drop", "disconnect")
CROWD_QUICK = [
    joiners(1000, 10_000),
    crowd("rest", "1000 sessions, 10 subscriptions each", sessions=1000, subscriptions=10, topics=1000, seconds=2),
    crowd("fair", "100 publishing at once", sessions=100, seconds=2),
    crowd("fan", "1 to 1000 subscribers, 128 B, 100/s", sessions=1000, size=128, rate=100, seconds=2),
    *(beside(policy, 8, 0.4) for policy in POLICIES),
    crowd("pause", "latency while 100 join 100,000 keys", sessions=100, keys=100_000, rate=1000, seconds=1),
    crowd("update", "folding into 100,000 keys, 10 snapshots out", sessions=10, keys=100_000, seconds=1),
    crowd("patterns", "10,000 patterns, 10,000 topics", sessions=10, subscriptions=1000, topics=10_000),
]
CROWD_FULL = [
    *(joiners(count, 10_000) for count in (1, 10, 100, 1000, 9_900)),
    crowd("rest", "9,900 sessions at rest", sessions=9_900, seconds=10),
    crowd("rest", "100 sessions, 1000 subscriptions each", sessions=100, subscriptions=1000, topics=50_000, seconds=10),
    crowd("rest", "10 sessions, 10,000 subscriptions each, 1000 topics", sessions=10, subscriptions=10_000, topics=1000,
          seconds=10),
    crowd("rest", "1 session, 100,000 subscriptions, a topic each", sessions=1, subscriptions=100_000, topics=100_000,
          seconds=10),
    crowd("fair", "100 publishing at once", sessions=100, seconds=4),
    crowd("fair", "1000 publishing at once", sessions=1000, seconds=8),
    *(crowd("fan", f"1 to {count} subscribers, 128 B, 100/s", sessions=count, size=128, rate=100, seconds=4)
      for count in (1, 10, 100, 1000)),
    *(beside(policy, 40, 1) for policy in POLICIES),
    crowd("pause", "latency while 100 join 1,000,000 keys", sessions=100, keys=MILLION, rate=1000, seconds=4),
    *(crowd("update", f"folding into {keys:,} keys, 10 snapshots out", sessions=10, keys=keys, seconds=4)
      for keys in (10_000, 100_000, MILLION)),
    *(crowd("patterns", f"{count:,} patterns, {count:,} topics", sessions=100, subscriptions=count // 100, topics=count)
      for count in (1000, 10_000, 99_000)),
]
CROWD_SMOKE = [
    joiners(10, 100),
    crowd("rest", "10 sessions at rest", sessions=10, seconds=0.05),
    crowd("fair", "10 publishing at once", sessions=10, seconds=0.05),
    crowd("fan", "1 to 10 subscribers", sessions=10, size=128, rate=100, seconds=0.05),
    beside("resync", 2, 0.05),
    crowd("pause", "latency while 10 join", sessions=10, keys=100, rate=1000, seconds=0.05),
    crowd("update", "folding into 100 keys, 2 snapshots out", sessions=2, keys=100, seconds=0.05),
    crowd("patterns", "10 patterns, 10 topics", sessions=2, subscriptions=5, topics=10),
]

QUICK_PEERS = ("weir", "tcp", "zmq", "nats", "mosquitto-q0", "redis")
# So few messages of 1 MiB are within what a topic retains that only policy block is of use.
LARGE_CASE = replace(throughput(LARGE), peers=("weir-block", *QUICK_PEERS[1:]))

QUICK = [throughput(16), throughput(128), throughput(128, topics=10_000), throughput(1024), throughput(16384),
         LARGE_CASE, throughput(128, subs=16), latency(1_000), latency(10_000), latency(50_000),
         latency(10_000, subs=16), loaded(90),
         snapshot(10_000), snapshot(100_000), connections(1000), subscriptions(10_000), *STOCK, *CROWD_QUICK]

FULL = [
    *(throughput(size, pubs) for size in (16, 128, 1024, 16384, LARGE) for pubs in (1, 2)),
    *(throughput(topics=topics) for topics in (100, 10_000)),
    *(throughput(size, subs=subs) for size in (16, 128, 1024) for subs in (4, 16, 100)),
    *(latency(rate) for rate in (1000, 10_000, 50_000)),
    latency(10_000, subs=16), loaded(50), loaded(90),
    *(snapshot(keys) for keys in (10_000, 100_000, 1_000_000)),
    connections(1000), subscriptions(10_000), subscriptions(100_000), *STOCK, *CROWD_FULL,
]

# Each subscriber subscribes to each topic by its name: all but a million subscriptions.
GRID = [cell(size, pubs, subs, topics) for size in (16, 128, 1024, 16384, LARGE) for pubs in (1, 2)
        for subs in (1, 4, 16, 100) for topics in (1, 100, 10_000) if subs * topics < 1_000_000]

# Does it still work? A moment of each kind, Weir alone.
SMOKE = [throughput(128), latency(1_000), loaded(50), snapshot(1_000), connections(10), subscriptions(100), *STOCK,
         *(cell(size, 1, 1, 1) for size in (16, 128, 1024)), *CROWD_SMOKE]


@dataclass
class Mode:
    name: str
    cases: list
    seconds: float  # measured in each run of throughput or latency
    repeats: int
    retry_seconds: float  # at most spent on repeating noisy runs
    peers: tuple = ()  # all but the extra ones where empty


MODES = {"quick": Mode("quick", QUICK, 0.4, 3, 15, QUICK_PEERS), "full": Mode("full", FULL, 2, 3, 600),
         "grid": Mode("grid", GRID, 4, 1, 60, ("weir",)),
         "smoke": Mode("smoke", SMOKE, 0.05, 1, 0, ("weir",))}

# Of each kind: what the ratios to the reference are of (the first also decides the spread), then the columns as
# (title, key, format, divisor); and where there is one, the peer that the first ratio is given for besides.
COLUMNS = {
    "throughput": (("deliveries_per_s", "broker_cpu_us"), [
        ("msg/s", "deliveries_per_s", ",.0f", 1), ("MB/s", "mb_per_s", ",.1f", 1),
        ("delivered", "delivered", ".4f", 1), ("broker us/msg", "broker_cpu_us", ".3f", 1),
        ("in kernel", "broker_kernel", ".0%", 1), ("client us/msg", "client_cpu_us", ".3f", 1),
        ("wire B/msg", "loopback_bytes", ",.0f", 1), ("wakes/msg", "broker_switches", ".3f", 1),
        ("syscalls/msg", "broker_syscalls", ".3f", 1),
        ("peak MiB", "broker_peak_kib", ".1f", 1024), ("noise", "other_cores", ".2f", 1)]),
    "latency": (("latency_p50_us", "broker_cpu_us"), [
        ("p50 us", "latency_p50_us", ",.0f", 1), ("p90", "latency_p90_us", ",.0f", 1),
        ("p99", "latency_p99_us", ",.0f", 1), ("p99.9", "latency_p999_us", ",.0f", 1),
        ("max", "latency_max_us", ",.0f", 1), ("transit p50", "transit_p50_us", ",.0f", 1),
        ("delivered", "delivered", ".4f", 1), ("broker us/msg", "broker_cpu_us", ".2f", 1),
        ("wakes/msg", "broker_switches", ".2f", 1),
        ("syscalls/msg", "broker_syscalls", ".2f", 1), ("noise", "other_cores", ".2f", 1)]),
    "loaded": (("latency_p50_us",), [
        ("msg/s", "rate", ",.0f", 1), ("p50 us", "latency_p50_us", ",.0f", 1), ("p90", "latency_p90_us", ",.0f", 1),
        ("p99", "latency_p99_us", ",.0f", 1), ("p99.9", "latency_p999_us", ",.0f", 1),
        ("max", "latency_max_us", ",.0f", 1), ("delivered", "delivered", ".4f", 1),
        ("broker us/msg", "broker_cpu_us", ".3f", 1), ("noise", "other_cores", ".2f", 1)]),
    "snapshot": (("snapshot_ms", "broker_cpu_us"), [
        ("ms", "snapshot_ms", ",.1f", 1), ("keys/s", "keys_per_s", ",.0f", 1),
        ("delivered", "delivered", ".4f", 1), ("broker us/key", "broker_cpu_us", ".3f", 1),
        ("client us/key", "client_cpu_us", ".3f", 1), ("wire B/key", "loopback_bytes", ",.0f", 1),
        ("loaded/s", "load_per_s", ",.0f", 1), ("rest MiB", "broker_rss_kib", ".1f", 1024),
        ("peak MiB", "broker_peak_kib", ".1f", 1024), ("noise", "other_cores", ".2f", 1)], "tcp"),
    "memory": (("bytes_each",), [
        ("bytes each", "bytes_each", ",.0f", 1), ("RSS MiB", "broker_rss_kib", ".1f", 1024)]),
    "stock": (("records_per_s", "broker_cpu_us"), [
        ("records/s", "records_per_s", ",.0f", 1), ("broker us/record", "broker_cpu_us", ".2f", 1),
        ("client us/record", "client_cpu_us", ".2f", 1), ("p50 us", "latency_p50_us", ",.0f", 1),
        ("p99 us", "latency_p99_us", ",.0f", 1), ("wakes/record", "broker_switches", ".2f", 1),
        ("syscalls/record", "broker_syscalls", ".2f", 1), ("noise", "other_cores", ".2f", 1)]),
    "grid": ((), [
        ("msg/s", "deliveries_per_s", ",.0f", 1), ("MB/s", "mb_per_s", ",.1f", 1),
        ("delivered", "delivered", ".4f", 1), ("broker us/msg", "broker_cpu_us", ".3f", 1),
        ("client us/msg", "client_cpu_us", ".3f", 1), ("syscalls/msg", "broker_syscalls", ".3f", 1),
        ("peak MiB", "broker_peak_kib", ".1f", 1024), ("noise", "other_cores", ".2f", 1),
        ("x neighbours", "trend", ".2f", 1)]),
    "join": ((), [
        ("ms", "join_ms", ",.1f", 1), ("MB/s", "mb_per_s", ",.0f", 1), ("MB each", "mb_each", ".2f", 1),
        ("pages built", "pages_built", ",.0f", 1), ("pages sent", "pages_sent", ",.0f", 1),
        ("broker us/joiner", "broker_cpu_us", ",.0f", 1), ("client us/joiner", "client_cpu_us", ",.0f", 1),
        ("rest MiB", "rest_kib", ".1f", 1024), ("connected MiB", "connected_kib", ".1f", 1024),
        ("peak MiB", "peak_kib", ".1f", 1024), ("left MiB", "left_kib", ".1f", 1024),
        ("B/connection", "bytes_a_connection", ",.0f", 1), ("peak B/joiner", "peak_bytes_a_joiner", ",.0f", 1)]),
    "rest": ((), [
        ("B/connection", "bytes_a_connection", ",.0f", 1), ("B/subscription", "bytes_a_subscription", ",.0f", 1),
        ("CPU at rest", "cpu_at_rest", ".3%", 1), ("MiB", "joined_kib", ".1f", 1024),
        ("left MiB", "left_kib", ".1f", 1024)]),
    "fair": ((), [
        ("records/s", "records_per_s", ",.0f", 1), ("broker us/record", "broker_cpu_us", ".3f", 1),
        ("least share", "share_min", ".2f", 1), ("p5", "share_p5", ".2f", 1), ("p95", "share_p95", ".2f", 1),
        ("largest", "share_max", ".2f", 1), ("Jain's index", "jain", ".4f", 1)]),
    "fan": ((), [
        ("deliveries", "deliveries", ",.0f", 1), ("broker us/delivery", "broker_cpu_us", ".3f", 1),
        ("client us/delivery", "client_cpu_us", ".3f", 1), ("wire B/delivery", "loopback_bytes", ",.0f", 1),
        ("p50 us", "latency_p50_us", ",.0f", 1), ("p99", "latency_p99_us", ",.0f", 1),
        ("max", "latency_max_us", ",.0f", 1), ("peak MiB", "peak_kib", ".1f", 1024)]),
    "beside": ((), [
        ("p50 alone us", "alone_p50_us", ",.0f", 1), ("x p50", "p50_ratio", ".3f", 1),
        ("from", "p50_ratio_low", ".3f", 1), ("to", "p50_ratio_high", ".3f", 1),
        ("p99 alone us", "alone_p99_us", ",.0f", 1), ("x p99", "p99_ratio", ".3f", 1),
        ("from ", "p99_ratio_low", ".3f", 1), ("to ", "p99_ratio_high", ".3f", 1),
        ("broker us/msg alone", "alone_cpu_us", ",.1f", 1), ("x", "cpu_ratio", ".3f", 1),
        ("from  ", "cpu_ratio_low", ".3f", 1), ("to  ", "cpu_ratio_high", ".3f", 1),
        ("omitted", "omitted", ",.0f", 1)]),
    "pause": ((), [
        ("join ms", "join_ms", ",.0f", 1), ("MB/s", "mb_per_s", ",.0f", 1),
        ("p50 before us", "before_p50_us", ",.0f", 1),
        ("during", "during_p50_us", ",.0f", 1), ("p99 before", "before_p99_us", ",.0f", 1),
        ("during ", "during_p99_us", ",.0f", 1), ("max before", "before_max_us", ",.0f", 1),
        ("during  ", "during_max_us", ",.0f", 1), ("omitted", "omitted", ",.0f", 1)]),
    "update": ((), [
        ("alone/s", "alone_per_s", ",.0f", 1), ("snapshots out/s", "held_per_s", ",.0f", 1),
        ("alone again/s", "again_per_s", ",.0f", 1), ("ratio", "held_ratio", ".2f", 1),
        ("rest MiB", "rest_kib", ".1f", 1024), ("peak MiB", "peak_kib", ".1f", 1024),
        ("left MiB", "left_kib", ".1f", 1024)]),
    "patterns": ((), [
        ("new topic us", "make_us", ".2f", 1), ("record us, none", "before_us", ".3f", 1),
        ("with patterns", "after_us", ".3f", 1), ("ratio", "cost_ratio", ".2f", 1),
        ("subscribe us", "subscribe_us", ".2f", 1), ("B/pattern", "bytes_a_pattern", ",.0f", 1),
        ("match all ms", "match_all_ms", ",.1f", 1), ("us/topic", "match_us", ".2f", 1)]),
}
JOINED = {"snapshot": "W4: a late joiner"}  # kinds whose cases are one table, a row a case and peer
# One row a case, Weir alone.
PEERLESS = {"grid", "join", "rest", "fair", "fan", "beside", "pause", "update", "patterns"}


def case_named(name):
    return next((case for mode in MODES.values() for case in mode.cases if case.name == name), None)
