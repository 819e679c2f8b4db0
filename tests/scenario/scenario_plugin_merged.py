"""What the updates of a key come to, by the plugin's own word: for those who join, ask, or fall behind."""

from itertools import accumulate

from harness import Broker, Op, sanitized
from scenario_plugin import configured, definition, each_host, publish_acked, standing


def summing(host):
    return configured(definition("sum", "sum", host=host), rules=[("s/#", "plugin:sum")])


def values_of(follower, key):
    return [event["value"] for event in follower.events if event["event"] == "update" and event["key"] == key]


def missed_is_merged(host):
    numbers = list(range(1, 201))
    with Broker(config=summing(host)) as broker, broker.session() as session:
        publish_acked(session, "s/x", ("z", 1))
        with broker.follow("s/x") as plain, \
                broker.follow("s/x", options=["--policy", "conflate", "--interval-ms", "100"]) as paced:
            for follower in (plain, paced):
                standing(follower).wait_event("end")
            publish_acked(session, "s/x", *(("a", number) for number in numbers), ("z", None), ("b", 3))
            for follower in (plain, paced):
                follower.wait_event("update", key="b", seq=203)
            assert values_of(plain, "a") == numbers, "who keeps up is told each update as it is"
            sums = values_of(paced, "a")
            assert sums[-1] == sum(numbers) and set(sums) <= set(accumulate(numbers)), sums
            left_out = [event["to"] - event["from"] + 1 for event in paced.events if event["event"] == "conflated"]
            assert len(sums) + sum(left_out) + 2 >= len(numbers), (len(sums), left_out)
            assert values_of(paced, "z") in ([], [None])
        assert broker.get("s/x")["state"] == {"a": sum(numbers), "b": 3}
        assert broker.get("s/x", "a")["state"] == sum(numbers)
        session.subscribe(1, "s/x")
        assert sorted(session.snapshot()[1]) == [("a", sum(numbers)), ("b", 3)]


@sanitized
def test_who_conflates_gets_what_the_updates_come_to_and_who_keeps_up_each_of_them():
    each_host(missed_is_merged)


def broken_is_the_plugins_failure(host):
    with Broker(config=summing(host)) as broker, broker.session() as session:
        for name, why in (("nil", "a removal has no merged form"), ("two", "not exactly one msgpack value")):
            first, refused, last = publish_acked(session, "s/x", ("a", 7), ("a", name), ("b", 5))
            assert refused[0] == Op.REFUSED and "poisoned" in refused, refused
            assert isinstance(first, int) and isinstance(last, int), (first, last)
            assert why in str(refused), refused
            assert broker.get("s/x", "b")["state"] == 5, "the others go on"


@sanitized
def test_a_merged_form_that_is_none_costs_the_plugin_a_failure():
    each_host(broken_is_the_plugins_failure)


@sanitized
def test_a_processor_has_no_merged_form():
    config = configured(definition("sum", "sum", "processor", patterns=["in/#"], emit=["out"], intensity=1000))
    with Broker(config=config) as broker, broker.session() as session:
        publish_acked(session, "in/x", ("a", 7))
        broker.output.wait("weir_emit_merged of a processor")
