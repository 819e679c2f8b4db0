"""Joining: a topic's present state first, then every update after it."""

from harness import Broker, sanitized
from replica import Replica


@sanitized
def test_published_value_is_the_state():
    with Broker(topics=["config/#=map"]) as broker:
        broker.cli("pub", "sensor/a", "20.5", "--json")
        broker.cli("pub", "sensor/a", "21", "--json")
        broker.cli("pub", "config/x", "dark", "--key", "theme")
        assert broker.get("sensor/a")["state"] == 21
        assert broker.get("config/x")["state"] == {"theme": "dark"}
        with broker.request() as request:
            answer = request.ask("get", topic="sensor/a")
            assert (answer["seq"], answer["kind"], answer["state"]) == (2, "last", 21), answer


@sanitized
def test_late_subscriber_gets_the_snapshot_and_then_updates():
    with Broker(topics=["price/#=map"]) as broker, broker.request() as request:
        for value, key in ((1, "a"), (2, "b"), (3, "a"), (None, "b"), (4, "c")):
            request.publish("price/all", value, key)
        with broker.follow("price/all") as follower:
            end = follower.wait_event("end", topic="price/all")
            entries = {event["key"]: event["value"] for event in follower.events if event["event"] == "entry"}
            assert entries == {"a": 3, "c": 4} and end["seq"] == 5, follower.events
            request.publish("price/all", 5, "d")
            update = follower.next()
            assert (update["event"], update["seq"], update["key"], update["value"]) == ("update", 6, "d", 5), update
        replica = Replica()
        for event in follower.events:
            replica.apply(event)
        assert replica.topics["price/all"].state == broker.get("price/all")["state"] == {"a": 3, "c": 4, "d": 5}
