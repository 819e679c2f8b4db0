"""The systems that are compared: their brokers' command lines and configurations, and their addresses.

{weir}, {build}, {dir}, {port} and {next} (the port after it) are filled in for each run.
"""

import subprocess
from dataclasses import dataclass


@dataclass
class Peer:
    program: str  # the load generator
    broker: str  # command line
    config: str = ""  # written to {dir}/config
    pub: str = "127.0.0.1:{port}"
    sub: str = ""  # where it differs
    version: str = ""  # command line that tells the version
    driver: str = ""  # where it differs from the name of the peer
    about: str = ""  # for the table


# Defaults but for bounds that the work exceeds: a map of a million keys, 100,000 subscriptions of one session.
WEIR = """
listen: ["tcp://127.0.0.1:{port}", "ipc://{dir}/weir"]
admin: ipc://{dir}/admin
log_level: error
memory_bytes_max: 2147483648
connections: {{ max: 12000, per_address_max: 12000 }}
sessions: {{ subscriptions_max: 100000, feeds_max: 200000 }}
topics:
  max: 200000
  state_bytes_max: 1073741824
  subscriptions_max: 200000
  rules:
    - pattern: state
      kind: map
      state_bytes_max: 805306368
"""

NATS = """
listen: "127.0.0.1:{port}"
max_pending: 256MB  # of output for one client; a slow one is disconnected above it
"""

JETSTREAM = NATS + """
jetstream {{ store_dir: "{dir}" }}  # files, synced to disk every 2 minutes
"""

MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 0  # no limit
max_inflight_messages 0  # no limit
log_type error
"""

REDIS = """
bind 127.0.0.1
port {port}
dir {dir}
save ""
client-output-buffer-limit pubsub 0 0 0
"""

REDIS_STREAM = REDIS + """
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 0
"""

TCP = ("tcp://127.0.0.1:{port}", "tcp://127.0.0.1:{next}")
IPC = ("ipc://{dir}/in", "ipc://{dir}/out")  # unix sockets
DPKG = "dpkg-query -f ${{Version}} -W "


def forwarder(library, urls, package, **more):
    return Peer(f"bench_{library}", f"{{build}}/forward_{library} {urls[0]} {urls[1]}",
                pub=urls[0], sub=urls[1], version=DPKG + package, **more)


def weir(url, **more):
    return Peer("bench_weir", "{weir} serve --config {dir}/config", WEIR, pub=url, version="{weir} --version", **more)


PEERS = {
    "weir": weir("tcp://127.0.0.1:{port}", about="acks `folded`, policy `resync`, accounting on"),
    "weir-block": weir("tcp://127.0.0.1:{port}", about="the same with policy `block`"),
    "tcp": Peer("bench_tcp", "{build}/forward_tcp {port}", sub="127.0.0.1:{next}",
                about="the floor: a forwarder that copies batches of 64 KiB, nothing else"),
    "nng": forwarder("nng", TCP, "libnng1", about="PULL to PUB, a message each"),
    "nng-batch": forwarder("nng", TCP, "libnng1", about="the same with 64 KiB of records in a message"),
    "zmq": forwarder("zmq", TCP, "libzmq5", about="an XSUB/XPUB proxy"),
    "nats": Peer("bench_nats", "nats-server -c {dir}/config", NATS, version="nats-server -v", about="core NATS"),
    "jetstream": Peer("bench_nats", "nats-server -c {dir}/config", JETSTREAM, version="nats-server -v",
                      about="a stream in a file, publishes acknowledged"),
    "mosquitto-q0": Peer("bench_mosquitto", "mosquitto -c {dir}/config", MOSQUITTO, version=DPKG + "mosquitto",
                         about="MQTT, QoS 0"),
    "mosquitto-q1": Peer("bench_mosquitto", "mosquitto -c {dir}/config", MOSQUITTO, version=DPKG + "mosquitto",
                         about="MQTT, QoS 1"),
    "redis": Peer("bench_redis", "redis-server {dir}/config", REDIS, version="redis-server --version",
                  about="PUBLISH and SUBSCRIBE; state is a hash"),
    "redis-stream": Peer("bench_redis", "redis-server {dir}/config", REDIS_STREAM, version="redis-server --version",
                         about="XADD and XREAD, AOF synced each second"),
}

# Measured only when --peers names them, or a case is for them.
EXTRA_PEERS = {
    "nng-sockets": Peer("bench_stock", f"{{build}}/sink_nng {TCP[0]} {TCP[1]}", pub=TCP[0], sub=TCP[1],
                        version=DPKG + "libnng1", about="plain PULL and REP sockets in Weir's place"),
    "weir-ipc": weir("ipc://{dir}/weir", driver="weir"),
    "nng-ipc": forwarder("nng", IPC, "libnng1", driver="nng"),
    "nng-batch-ipc": forwarder("nng", IPC, "libnng1", driver="nng-batch"),
    "zmq-ipc": forwarder("zmq", IPC, "libzmq5", driver="zmq"),
}

ALL = {**PEERS, **EXTRA_PEERS}


def versions(names, weir_binary):
    """What the peers are, by their own account."""
    found = {}
    for name in names:
        command = ALL[name].version.format(weir=weir_binary).split()
        if command:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            found[name] = (done.stdout or done.stderr).strip()
    return found
