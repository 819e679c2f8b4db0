"""Memory: a flood stays below the configured ceiling; what is refused is counted, and the sums agree."""

import random
import threading

from harness import PATIENCE, WAIT, Broker, Closed, sanitized, wait_until
from ledger import History, Ledger, check_follower

MIB = 1 << 20
CEILING = 64 * MIB
CONFIG = f"memory_bytes_max: {CEILING}\n" \
    f"topics:\n  state_bytes_max: {32 * MIB}\n  defaults:\n    retain_bytes_max: {MIB}\n"
# The program itself, its threads' stacks and libraries, beside the memory that the ceiling is about.
PROGRAM = 40 * MIB


class Peak:
    """Looks at the broker's resident memory all the while."""

    def __init__(self, broker):
        self.broker, self.most, self.over = broker, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, self.broker.memory())

    def stop(self):
        self.over.set()
        self.thread.join(WAIT)
        return self.most


def test_a_flood_of_state_stays_below_the_ceiling_and_the_sums_agree():
    with Broker(config=CONFIG, topics=["m/#=map"]) as broker:
        peak, ledgers, errors = Peak(broker), [], []

        def flood(index):
            try:
                with broker.session(name=f"flood {index}") as session:
                    ledger = Ledger(session)
                    ledgers.append(ledger)
                    for number in range(2000):
                        key = f"k{index}-{number}"
                        ledger.publish(f"m/{number % 50}", *((f"{key}-{part}", "x" * 2000) for part in range(10)),
                                       timeout=6 * WAIT)
                    ledger.settle(6 * WAIT)
            except Exception as error:  # handed to the main thread
                errors.append(error)

        threads = [threading.Thread(target=flood, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        most = peak.stop()
        assert not errors, errors
        assert most < CEILING + PROGRAM, f"{most // MIB} MiB resident"
        published, acked, refused = (sum(getattr(ledger, name) for ledger in ledgers)
                                     for name in ("published", "acked", "refused"))
        assert published == acked + refused == 60_000 and refused > 0 and acked > 10_000, ledgers
        status = broker.ask_admin("status")
        assert status["records_in"] == published and status["records_folded"] == acked, status
        seqs = sum(row["seq"] for row in broker.ask_admin("topics")["topics"])
        assert seqs == acked, (seqs, acked)
        broker.cli("pub", "m/0", "null", "--key", "k0-0-0", "--json")


def test_a_flood_from_push_peers_is_held_back_and_all_of_it_delivered():
    config = CONFIG + "connections:\n  receive_bytes_max: 4194304\n"
    with Broker(config=config) as broker, broker.follow("p/#", options=["--policy", "block"]) as follower:
        follower.wait_event("subscribed")
        peak = Peak(broker)

        def flood(index):
            with broker.push() as peer:
                for number in range(300):
                    peer.publish(*((f"p/{index}", [number, part, "x" * 300]) for part in range(50)), timeout=6 * WAIT)
                wait_until(lambda: seq_of(broker, f"p/{index}") == 15_000, 6 * WAIT, "all of it")

        threads = [threading.Thread(target=flood, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        topics = [f"p/{index}" for index in range(4)]
        view = check_follower(broker, History(), follower, topics, timeout=6 * WAIT)
        assert [view.feeds[topic].seq for topic in topics] == [15_000] * 4
        assert all(view.feeds[topic].resyncs == 0 for topic in topics)
        assert peak.stop() < CEILING + PROGRAM
        status = broker.ask_admin("status")
        assert status["records_folded"] == status["records_in"] == 60_000, status


def seq_of(broker, topic):
    rows = broker.ask_admin("topics", topic)["topics"]
    return rows[0]["seq"] if rows else 0


@sanitized
def test_many_topics_with_full_rings_stay_below_the_ceiling():
    with Broker(config=CONFIG) as broker, broker.session() as session:
        ledger, peak = Ledger(session), Peak(broker)
        for number in range(4000):
            ledger.publish(f"t/{number % 200}", *((None, "x" * 3000) for _ in range(5)), timeout=3 * WAIT)
        ledger.settle(6 * WAIT)
        # A sanitizer's shadow memory is not the broker's.
        assert peak.stop() < CEILING + PROGRAM or PATIENCE > 1, peak.most
        assert ledger.published == ledger.acked + ledger.refused == 20_000, ledger
        assert broker.ask_admin("status")["records_folded"] == ledger.acked
        for number in range(200):
            ledger.publish(f"t/{number}", (None, "small"))
        ledger.settle()
        assert broker.get("t/7")["state"] == "small"


def test_a_publisher_learns_what_became_of_each_record_when_topics_have_all_the_memory_they_may():
    # As much of the ceiling as topics may have, in blocks of many sizes; the publisher reads only when it is out of
    # credit.
    config = f"memory_bytes_max: {32 * MIB}\ntopics:\n  state_bytes_max: {24 * MIB}\n"
    choose = random.Random(1)
    with Broker(config=config, topics=["m/#=map"]) as broker, broker.session() as session:
        ledger = Ledger(session)
        for number in range(20_000):
            ledger.publish(f"m/{number % 50}", (f"k{number}", "x" * choose.randint(1000, 4000)), timeout=3 * WAIT)
        ledger.settle(6 * WAIT)
        assert ledger.published == ledger.acked + ledger.refused == 20_000 and ledger.refused > 1000, ledger
        assert set(ledger.codes) == {"busy"}, ledger.codes


@sanitized
def test_memory_comes_back_when_those_who_used_it_are_gone():
    with Broker(config=CONFIG) as broker:
        for round in range(3):
            sessions = [broker.session() for _ in range(20)]
            for session in sessions:
                session.subscribe(1, "t/#")
                for number in range(50):
                    session.publish("t/a", "x" * 20_000, ack="none")
            for session in sessions:
                try:
                    session.close_hard()
                except (OSError, Closed):
                    pass
            wait_until(lambda: broker.ask_admin("status")["connections"] == 0, 3 * WAIT, "their ends")
        for owner in ("broker", "arena, live"):
            wait_until(lambda owner=owner: memory_of(broker, owner) < 8 * MIB, what=f"little memory of {owner}")


def memory_of(broker, owner):
    return next(row["bytes"] for row in broker.ask_admin("status")["memory"] if row["owner"] == owner)
