"""One run: a broker as a process of its own, and a crowd of publishers and subscribers that stall, are cut amid
snapshots and frames, come back with old, future and foreign cursors, clear and delete topics, make records fail and
kill the broker. What they do follows from a seed; when the broker does its part does not, so that a seed that fails may
have to be run again.
"""

import random
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import msgpack

from client import Client, filter_of
from feeds import matches
from recording import Recorder
from harness import ALARM, free_port
from sp import Refused, Request
from stock import Push, Req

POLICIES = ("resync", "block", "drop", "disconnect", "conflate")
PUBLISHERS_MAX, SUBSCRIBERS_MAX, SUBSCRIPTIONS_MAX, KEYS_MAX = 5, 14, 2, 60
BROKER_SECONDS_MAX = 30     # to come up, or in which something is heard of it: far more than a loaded machine needs
ROUND_SECONDS_MAX = 3       # IDLE comes at most once a second
QUIET_ROUNDS_MAX = 10       # in which topics answer where they are, and nobody hears anything else: then nothing comes
WAIT_STEPS_MIN = 100        # a machine that let the driver wait has not given it the time
STOCK_SHARE = 0.15          # of the publishers: PUSH, and as many REQ
SYS_SHARE = 0.05            # of the subscriptions: to the broker's own topics
FILTERED_SHARE = 0.1        # of the seeds: they take that second longer
CHANCE = {                  # of each thing at each step
    "stall": 0.03, "resume": 0.03, "cut": 0.01, "subscribe": 0.05, "unsubscribe": 0.01, "operate": 0.01, "kill": 0.002}


class Scene:
    def __init__(self, seed, binary, records, is_failing):
        self.random = random.Random(seed)
        self.binary, self.records_left, self.is_failing = binary, records, is_failing
        self.recorder = Recorder()
        self.directory = Path(tempfile.mkdtemp(prefix="weir-history-"))
        self.tcp = f"tcp://127.0.0.1:{free_port()}"
        self.process = None
        self.number = 0
        self.unique = 0
        self.publishers, self.subscribers = [], []
        self.resting = []           # publishers with a name that lost their connection
        self.memories = []          # cursors of clients that are gone
        self.offered = set(POLICIES)
        self.topics = {}            # name: kind
        self.has_filters = self.random.random() < FILTERED_SHARE
        self.make_topics()

    # ------------------------------------------------------------------ the broker

    def make_topics(self):
        """Small rings and bounds, so that everybody is overtaken often."""
        choose = self.random
        rules = []
        for kind in ("last", "map", "log", "merge"):
            log_count = choose.choice((5, 40, 1000))
            rules.append(f"    - pattern: {kind}/#\n      kind: {kind}\n"
                         f"      retain_count_max: {choose.choice((8, 50, 2000))}\n"
                         f"      retain_bytes_max: {choose.choice((4096, 20000, 1000000))}\n"
                         f"      mailbox_max: {choose.choice((4, 64, 1024))}\n"
                         + (f"      log_count_max: {log_count}\n" if kind == "log" else ""))
            for number in range(choose.randint(1, 3)):
                self.topics[f"{kind}/{number}"] = kind
                options = {"kind": kind, "log_count_max": log_count} if kind == "log" else {"kind": kind}
                self.recorder.note("topic", f"{kind}/{number}", options)
        (self.directory / "weir.yaml").write_text(
            "sys_interval_ms: 100\nsessions:\n"
            f"  publish_window_bytes: {choose.choice((65536, 1048576))}\n"
            f"  outbox_bytes: {choose.choice((4096, 4096, 65536))}\n"
            f"topics:\n  defaults:\n    bind_grace_ms: {choose.choice((0, 50, 300))}\n  rules:\n" + "".join(rules))

    def url(self, name="data"):
        return f"ipc://{self.directory}/{name}.sock"

    def any_url(self):
        return self.random.choice((self.url(), self.tcp))

    def start(self):
        """Until it takes connections."""
        for name in ("data", "admin"):
            (self.directory / f"{name}.sock").unlink(missing_ok=True)
        self.directory.chmod(0o700)
        with open(self.directory / "broker.log", "a") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", self.directory / "weir.yaml", "--listen", self.url(),
                 "--listen", self.tcp, "--admin", self.url("admin")],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + BROKER_SECONDS_MAX
        while True:
            try:
                Request(self.url("admin")).close()
                Request(self.url()).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, self.log()
                select.select([], [], [], 0.005)

    def log(self):
        return (self.directory / "broker.log").read_text()[-3000:]

    def check_log(self):
        """What a sanitizer or an assertion said, also of a broker that was killed afterwards."""
        alarm = ALARM.search((self.directory / "broker.log").read_text())
        assert alarm is None, f"{alarm.group()} in the broker's log:\n{self.log()}"

    def kill(self):
        """Nothing that was not written down survives it: every topic starts a new history."""
        self.process.kill()
        self.process.wait()
        self.check_log()
        for client in self.publishers + self.subscribers:
            client.lose("the broker was killed")
        self.recorder.note("restart")
        self.start()

    def stop(self):
        """A clean end, with everything given back."""
        for client in self.publishers + self.subscribers:
            client.lose("the run is over")
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(BROKER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            status = "SIGTERM and no end"
        assert status == 0, f"the broker ended with {status}:\n{self.log()}"
        self.check_log()

    def close(self):
        for client in self.publishers + self.subscribers:
            client.lose("the run is over")
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def operate(self):
        """What an operator does to a topic; seen by everybody who follows it."""
        topic = self.random.choice(list(self.topics))
        verb = self.random.choice(("clear", "clear", "delete"))
        with Request(self.url("admin")) as admin:
            try:
                admin.ask("topic", action=verb, topic=topic)
                self.recorder.note(verb, topic)
            except Refused as refused:
                assert refused.code in ("not-found", "busy"), refused

    # ------------------------------------------------------------------ clients

    def connect(self, clients, window, options=None, kind=Client):
        self.number += 1
        client = kind(self.number, self.any_url(), self.recorder, window, options)
        client.pace = 1 << 16
        clients.append(client)
        return client

    def open_publisher(self):
        """A new one, or one that has a name and goes on where its connection was lost."""
        if self.resting:
            former = self.resting.pop()
            self.connect(self.publishers, 1 << 20, former.options).take_over(former)
        elif (choice := self.random.random()) < STOCK_SHARE:
            self.connect(self.publishers, 0, kind=Push)
        elif choice < 2 * STOCK_SHARE:
            self.connect(self.publishers, 0, kind=Req)
        elif self.random.random() < 0.5:
            self.connect(self.publishers, 1 << 20, {"publisher": f"publisher-{self.number}"})
        else:
            self.connect(self.publishers, 1 << 20)

    def open_subscriber(self):
        client = self.connect(self.subscribers, self.random.choice((200, 1000, 5000, 20000, 1 << 20)))
        client.pace = self.random.choice((200, 5000, 1 << 16))
        client.memory = self.random.choice(self.memories) if self.memories and self.random.random() < 0.8 else {}
        client.next_sub = 1
        for _ in range(self.random.randint(1, SUBSCRIPTIONS_MAX)):
            self.subscribe(client)

    def subscribe(self, client):
        topic = self.random.choice(list(self.topics))
        pattern = self.random.choice((topic, topic, topic.partition("/")[0] + "/#", "#", "+/0"))
        if self.is_failing and self.random.random() < 0.1:
            pattern = "$dead/#"
        if self.random.random() < SYS_SHARE:
            pattern = self.random.choice(("$sys/#", "$sys/topics", "$sys/connections", "$sys/status", "$sys/+"))
        options = {"policy": self.random.choice(sorted(self.offered))}
        if options["policy"] == "conflate" and self.random.random() < 0.3:
            options["interval_ms"] = self.random.choice((5, 50))
        if options["policy"] == "block" and self.random.random() < 0.3:
            options["block_ms"] = self.random.choice((5, 50))
        if self.random.random() < 0.4:
            options["outbox"] = self.random.choice((100, 2000, 30000))
        if self.random.random() < 0.1:
            options["snapshot"] = False
        elif self.random.random() < 0.1:
            options["updates"] = False
        if self.has_filters and self.random.random() < 0.5:
            name = self.random.choice(("key", "prefix"))
            options[name] = f"k{self.random.randrange(KEYS_MAX if name == 'key' else 10)}"
        cursors = client.memory.get(filter_of(options), {})
        if cursors and self.random.random() < 0.9:
            options["cursors"] = [[topic, *self.bend(epoch, seq)] for topic, (epoch, seq) in cursors.items()]
        client.subscribe(client.next_sub, pattern, options)
        client.next_sub += 1

    def bend(self, epoch, seq):
        """A cursor as it was kept, or one that is old, of the future, or of another history."""
        choice = self.random.random()
        if choice < 0.7:
            return epoch, seq
        if choice < 0.8:
            return epoch, self.random.randrange(seq + 1)
        if choice < 0.9:
            return epoch, seq + self.random.choice((1 << 20, 1 << 40))
        return epoch + self.random.choice((-1, 1, 1 << 30)), seq

    def record(self, topic):
        """A key and a value that nobody else has published, but for deletions."""
        self.unique += 1
        kind, key = self.topics[topic], f"k{self.random.randrange(KEYS_MAX)}"
        value = [self.unique, "x" * self.random.choice((0, 10, 10, 200, 1000))]
        if kind == "map":
            if self.is_failing and self.random.random() < 0.005:
                return key, self.random.choice(("fail always", "fail twice"))
            return key, None if self.random.random() < 0.1 else value
        if kind == "merge":
            if self.random.random() < 0.003:
                return None, self.unique  # no map: the state as a whole
            return None, {key: None if self.random.random() < 0.1 else value, "n": {"last": self.unique}}
        return self.random.choice((None, key)), value

    def publish(self):
        client = self.random.choice(self.publishers)
        if len(client.waiting) > 3:
            return
        topic = self.random.choice(list(self.topics))
        count = min(self.random.choice((1, 1, 3, 10, 40)), self.records_left)
        items = [part for _ in range(count) for part in self.record(topic)]
        ack = self.random.choice((2, 2, 2, 2, 1, 0)) if "publisher" not in client.options else 2
        options = self.publish_options(self.topics[topic])
        if self.random.random() < 0.01:
            topic = "$sys/status"  # forbidden
        client.publish(topic, items, ack, options)
        if isinstance(client, Req) and self.random.random() < 0.1:
            client.request("get", {"topic": self.random.choice(list(self.topics))})
        self.records_left -= count

    def publish_options(self, kind):
        """Conditions, and ends that records have by themselves."""
        if self.random.random() < 0.8:
            return None
        if kind in ("log", "merge") or self.random.random() < 0.4:
            return {"if_seq": self.random.randrange(100)} if self.random.random() < 0.5 else {"if_absent": True}
        return {"ttl_ms": self.random.choice((1, 20, 200))} if self.random.random() < 0.5 else {"bind": True}

    # ------------------------------------------------------------------ the run

    def step(self, wait_ms):
        """Lets everybody who is not stalled write and read once."""
        clients = {client.fileno(): client for client in self.publishers + self.subscribers if not client.is_lost}
        poll = select.poll()
        for number, client in clients.items():
            poll.register(number, (0 if client.is_stalled else select.POLLIN) | (select.POLLOUT if client.out else 0))
        for number, event in poll.poll(wait_ms):
            client = clients[number]
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR) and not client.is_lost:
                if not client.is_stalled or event & (select.POLLHUP | select.POLLERR):
                    client.pull(client.pace)
            client.push()
        for client in clients.values():
            client.push()
        self.bury()

    def bury(self):
        for client in self.subscribers:
            self.offered -= client.not_offered
            if client.is_lost and client.cursors:
                self.memories = [*self.memories[-7:], dict(client.cursors)]
        self.subscribers = [client for client in self.subscribers if not client.is_lost]
        self.resting += [client for client in self.publishers if client.is_lost and "publisher" in client.options]
        self.publishers = [client for client in self.publishers if not client.is_lost]

    def happens(self, what):
        return self.random.random() < CHANCE[what]

    def act(self):
        """One step of everything that may happen to anybody."""
        while len(self.publishers) < self.publisher_count:
            self.open_publisher()
        while len(self.subscribers) < self.subscriber_count:
            self.open_subscriber()
        for _ in range(self.random.randint(0, 2)):
            if self.records_left > 0:
                self.publish()
        for client in self.subscribers:
            self.disturb(client)
        if self.happens("cut"):
            client = self.random.choice(self.publishers)
            body = msgpack.packb((9, "map/0", client.next_number, 2, ["half", "x" * 5000]))
            client.cut(self.random, self.random.choice((None, body)))
        if self.happens("operate"):
            self.operate()
        if self.happens("kill"):
            self.kill()

    def disturb(self, client):
        if client.is_stalled:
            client.is_stalled = not self.happens("resume")
        elif self.happens("stall"):
            client.is_stalled = True
        if self.happens("cut"):
            client.cut(self.random)
        elif self.happens("subscribe") and len(client.subscriptions) < SUBSCRIPTIONS_MAX:
            self.subscribe(client)
        elif self.happens("unsubscribe") and client.subscriptions:
            client.unsubscribe(self.random.choice(list(client.subscriptions)))

    def run(self):
        self.start()
        self.publisher_count = self.random.randint(1, PUBLISHERS_MAX)
        self.subscriber_count = self.random.randint(3, SUBSCRIBERS_MAX)
        while self.records_left > 0:
            self.act()
            self.step(1)
        self.rest()
        self.stop()

    # ------------------------------------------------------------------ the end of it

    def wait(self, condition, seconds):
        end, steps = time.monotonic() + seconds, 0
        while not condition() and (time.monotonic() < end or steps < WAIT_STEPS_MIN):
            self.step(20)
            steps += 1
        return condition()

    def heard(self):
        return sum(client.heard for client in self.publishers + self.subscribers)

    def wait_while_heard(self, condition):
        """However long it takes, as long as something comes."""
        before = None
        while not self.wait(condition, BROKER_SECONDS_MAX):
            if before == self.heard():
                return False
            before = self.heard()
        return True

    def rest(self):
        """All answers in, all credit given: then everybody must get to where the topics are."""
        for client in self.subscribers:
            client.is_stalled, client.pace = False, 1 << 16
        while self.resting:
            self.open_publisher()
        answered = self.wait_while_heard(
            lambda: all(not client.waiting and not client.unanswered for client in self.publishers))
        assert answered, f"records without answer:\n{self.log()}"
        asking = self.connect(self.publishers, 1 << 22)
        # What is only accepted may be folded still; then the topics are asked again. Nothing is too slow: who is not
        # there is left to the checker only when all topics answer that they are where they were, and nobody hears more.
        quiet, before = 0, None
        while quiet < QUIET_ROUNDS_MAX:
            finals, heard = self.ask_all(asking), self.heard()
            if self.wait(lambda: self.are_there(finals), ROUND_SECONDS_MAX):
                break
            quiet = quiet + 1 if finals == before and heard == self.heard() else 0
            before = finals
        self.recorder.note("rest", {topic: list(final) for topic, final in finals.items()})

    def ask_all(self, asking):
        """Where each topic is."""
        asked = {topic: asking.request("get", {"topic": topic}) for topic in self.topics}
        assert self.wait_while_heard(lambda: all(number in asking.replies for number in asked.values())), self.log()
        replies = {topic: asking.replies[number] for topic, number in asked.items()}
        return {topic: (answer["epoch"], answer["seq"])
                for topic, (status, answer) in replies.items() if status == "ok"}

    def are_there(self, finals):
        return all(self.is_there(client, finals) for client in self.subscribers)

    def is_there(self, client, finals):
        """Whether all that a client follows is where the topics are. The checker is who complains when it never is."""
        following = {(feed.sub, feed.topic): (feed.epoch, feed.seq) for feed in client.feeds.values()
                     if feed.is_following and not feed.is_over and not feed.is_stale}
        for sub, (pattern, options) in client.subscriptions.items():
            if sub not in client.standing:
                continue
            if not options.get("updates", True):
                feeds = [feed.is_over for feed in client.feeds.values() if feed.sub == sub]
                if len(feeds) < client.standing[sub] or not all(feeds):
                    return False
                continue
            if any(matches(pattern, topic) and following.get((sub, topic)) != final for topic, final in finals.items()):
                return False
        return True


