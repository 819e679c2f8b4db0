"""A subscriber's copy of the topics it follows, built from `weir sub --json` events alone, which checks on the way what
subscribers are promised: order, no gap, no duplicate, complete snapshots, nothing of another epoch."""


class Promise(AssertionError):
    """An event broke what subscribers are promised."""


def merged(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def folded(kind, state, key, value):
    """The state after one record; None is a topic nobody published to."""
    if kind == "map":
        state = dict(state or {})
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
        return state
    if kind == "log":
        return [*(state or []), value]
    if kind == "merge":
        return merged(state if state is not None else {}, value)
    return value


class Copy:
    """One topic as the subscriber knows it."""

    def __init__(self):
        self.kind = self.state = self.epoch = self.seq = None
        self.in_snapshot = False
        self.snapshots = self.updates = 0


class Replica:
    """Feed it every event in order; topics[NAME] is then the copy. A log's bound is not applied: it keeps all."""

    def __init__(self):
        self.topics = {}

    def apply(self, event):
        handler = getattr(self, "on_" + event["event"], None)
        if handler:
            handler(self.topics.setdefault(event["topic"], Copy()), event)

    def fail(self, event, sentence):
        raise Promise(f"{sentence}: {event}")

    def on_begin(self, copy, event):
        copy.kind = event.get("kind", copy.kind)
        copy.in_snapshot = True
        copy.snapshots += 1
        if event.get("resumed"):
            return
        if not event.get("delta"):
            copy.state = {"map": {}, "log": []}.get(copy.kind)

    def on_entry(self, copy, event):
        if not copy.in_snapshot:
            self.fail(event, "an entry outside a snapshot")
        copy.state = folded(copy.kind, copy.state, event.get("key"), event.get("value"))

    def on_end(self, copy, event):
        if not copy.in_snapshot:
            self.fail(event, "the end of a snapshot that did not begin")
        copy.in_snapshot = False
        copy.epoch, copy.seq = event["epoch"], event["seq"]

    def on_update(self, copy, event):
        if copy.in_snapshot or copy.seq is None:
            self.fail(event, "an update before the snapshot's end")
        if event["seq"] != copy.seq + 1:
            self.fail(event, f"seq does not follow {copy.seq}")
        if event.get("epoch", copy.epoch) != copy.epoch:
            self.fail(event, f"epoch is not {copy.epoch}")
        copy.seq = event["seq"]
        copy.updates += 1
        copy.state = folded(copy.kind, copy.state, event.get("key"), event.get("value"))

    def on_gap(self, copy, event):
        copy.seq = event.get("to", event["seq"])

    on_conflated = on_gap

    def on_reset(self, copy, event):
        copy.state = copy.seq = None

    def on_idle(self, copy, event):
        if copy.seq != event["seq"]:
            self.fail(event, f"idle at another seq than {copy.seq}")
