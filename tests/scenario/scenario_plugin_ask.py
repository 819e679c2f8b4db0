"""Plugins that are asked: by stock REQ sockets, in sessions and by `weir ask`; each request is answered once."""

import tempfile

from harness import Broker, Op, nngcat, sanitized
from scenario_plugin import configured, counting, definition, each_host, misbehaving, publish_acked
from sp import Refused, pack, unpack


def stock_asked(url, arguments):
    """The reply that a stock REQ socket gets."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(pack(["ask", arguments]))
        body.flush()
        return unpack(nngcat("--req", "--dial", url, "--raw", "--file", body.name).stdout)


def refusal_of(request, **arguments):
    try:
        result = request.ask("ask", **arguments)
    except Refused as refused:
        return refused.details
    raise AssertionError(f"answered {result}")


def fold_replies(host):
    with Broker(config=counting(host)) as broker, broker.session() as session, broker.request() as request:
        publish_acked(session, "c/x", ("a", 1), ("b", 1), ("a", 1))
        for url in (broker.tcp, broker.ipc):
            assert stock_asked(url, {"topic": "c/x", "value": "a"}) == ["ok", {"value": 2}]
        assert request.ask("ask", plugin="count", value="b") == {"value": 1}
        session.send_frame(Op.REQUEST, 7, "ask", {"topic": "c/x", "value": "a"})
        assert session.wait_for(Op.REPLY)[1:] == [7, "ok", {"value": 2}]
        assert broker.cli("ask", "c/x", "a").stdout == "2\n"
        assert broker.cli("ask", "--plugin", "count", "--json", '"b"').stdout == "1\n"
        assert "ask for a key (bad-request)" in broker.cli("ask", "c/x", expect=1).stderr


@sanitized
def test_a_stock_request_to_a_plugin_topic_is_replied_to_by_the_plugin():
    each_host(fold_replies)


@sanitized
def test_a_processor_is_asked_by_its_name():
    config = configured(definition("count", "count", "processor", patterns=["in/+"], emit=["out/#"]))
    with Broker(config=config) as broker, broker.request() as request:
        assert request.ask("ask", plugin="count", value="a") == {"value": 0}


def young_is_asked(host):
    with Broker(config=counting(host)) as broker, broker.request() as request:
        for number in range(50):
            # At once behind the record that makes the topic: its plugin does not know it yet.
            made = request.send_request("publish", {"topic": f"c/{number}", "value": 1, "ack": "accepted"})
            request.send_request("ask", {"topic": f"c/{number}", "value": "nothing"})
            replies = [request.receive() for _ in range(2)]
            asked = next(unpack(reply[4:]) for reply in replies if reply[:4] != made)
            assert asked == ["ok", {"value": 0}] or asked[1]["code"] == "not-found", asked


@sanitized
def test_a_topic_that_was_just_made_is_asked():
    each_host(young_is_asked)


def failing_is_answered(host):
    with Broker(config=misbehaving(host)) as broker, broker.request() as request, broker.session() as session:
        publish_acked(session, "b/x", ("a", 1))
        assert request.ask("ask", topic="b/x", value=["fail-once"]) == {"value": 2}, "replies with the attempt"
        poisoned = refusal_of(request, topic="b/x", value=["fail"])
        assert poisoned["code"] == "poisoned" and "told to fail" in poisoned["message"], poisoned
        refused = refusal_of(request, topic="b/x", value=["refuse"])
        assert refused["code"] == "bad-request" and "I do not like" in refused["message"], refused
        silent = refusal_of(request, topic="b/x", value=["no-reply"])
        assert silent["code"] == "bad-request" and "no reply" in silent["message"], silent
        assert request.ask("ask", topic="b/x", value=["emit", "b/x", "k", 9]) == {"value": 1}
        assert broker.get("b/x", "k")["state"] == 9, "the reply comes behind what the request brought about"
        assert not broker.ask_admin("topics", "$dead/#")["topics"], "requests are not quarantined"


@sanitized
def test_a_request_that_fails_the_plugin_is_tried_again_and_then_answered():
    each_host(failing_is_answered)


@sanitized
def test_a_request_in_a_child_that_crashes_is_tried_again():
    with Broker(config=misbehaving("process")) as broker, broker.request() as request:
        assert request.ask("ask", plugin="bad", value=["crash-once"]) == {"value": 2}
        poisoned = refusal_of(request, plugin="bad", value=["segv"])
        assert poisoned["code"] == "poisoned" and "SIG" in poisoned["message"], poisoned


@sanitized
def test_a_request_that_nobody_can_reply_to_is_answered_at_once():
    with Broker(config=counting("thread"), topics=["m=map"]) as broker, broker.request() as request:
        broker.cli("pub", "m", "1", "--key", "k")
        broker.cli("pub", "c/x", "1", "--key", "k")
        for code, arguments in (("bad-request", {"topic": "m"}), ("not-found", {"topic": "none"}),
                                ("not-found", {"plugin": "none"}), ("bad-request", {"plugin": "NONE"}),
                                ("bad-request", {}), ("bad-request", {"topic": "c/x", "plugin": "count"}),
                                ("bad-topic", {"topic": "c/+"})):
            refused = refusal_of(request, **arguments)
            assert refused["code"] == code, (arguments, refused)
        broker.ask_admin("plugin", "unload", "count")
        refused = refusal_of(request, topic="c/x", value="k")
        assert refused["code"] == "closed", refused


@sanitized
def test_a_request_beyond_its_deadline_is_answered_timeout():
    settings = {"time_ms_max": 600_000, "restart": "temporary"}
    config = misbehaving("process", **settings).replace("connections:\n", "connections:\n  reply_deadline_ms: 200\n")
    with Broker(config=config) as broker, broker.request() as request, broker.session() as session:
        publish_acked(session, "b/x", ("a", 1))
        refused = refusal_of(request, plugin="bad", value=["loop"])
        assert refused["code"] == "timeout", refused
        # On a slow machine that request may have been late before it came to the child. A record never is.
        session.publish("b/x", ("a", ["loop"]))
        session.send_frame(Op.REQUEST, 7, "ask", {"topic": "b/x", "value": ["reply"]})
        _, _, status, refused = session.wait_for(Op.REPLY)
        assert (status, refused["code"]) == ("error", "timeout"), "behind the other"
