"""Snapshots against the records that they say they hold: each line (truth.py) is folded once, and whoever was told a
state at a seq on the way is compared there."""

from model import Topic, members
from truth import UNKNOWN
from violation import ATOMIC, ORDERED, UNIQUE, Violation, short


class Told:
    """A state that somebody was told: a whole snapshot, one of some keys, or only what changed since a seq."""

    __slots__ = ("seq", "items", "wants", "since", "where", "is_part")

    def __init__(self, seq, items, where, wants=None, since=None, is_part=False):
        self.seq, self.items, self.where, self.wants, self.since = seq, items, where, wants, since
        self.is_part = is_part  # of a snapshot that did not end


class Fold:
    """A line folded up to a seq. Where a record is unknown the state is too, until somebody was told it whole."""

    def __init__(self, topic, line):
        self.topic, self.line = topic, line
        self.model = Topic(topic.kind)
        self.seq = 0
        self.doubts = 0         # unknown records since the state was last known whole
        self.is_known = True
        self.newest = {}        # key: seq of its newest record

    def go_to(self, seq):
        items = self.line.items
        for index in range(2 * self.seq, 2 * min(seq, self.line.last()), 2):
            key, value = items[index], items[index + 1]
            if value is UNKNOWN:
                self.is_known = False
                self.doubts += 1
                continue
            self.newest[key] = index // 2 + 1
            self.model.fold(key, value)
        self.seq = seq

    def adopt(self, items):
        """What was told whole, where it cannot be known otherwise."""
        self.model.lay(pairs(items))
        self.is_known, self.doubts = True, 0


def value_at(items, key, seq):
    """What a key was at a seq, None where it was not there."""
    for index in range(2 * (seq - 1), -1, -2):
        if items[index] == key or items[index + 1] is UNKNOWN:
            return items[index + 1]
    return None


def pairs(items):
    return list(zip(items[::2], items[1::2]))


def is_part_of(told, whole):
    """Of a snapshot that was cut."""
    if not isinstance(told, dict) or not isinstance(whole, dict):
        return told == whole or told == {}
    return all(key in whole and whole[key] == value for key, value in told.items())


class States:
    """Gathers what was told, and judges it once the lines are complete."""

    def __init__(self, truth):
        self.truth = truth
        self.told = {}          # (topic, epoch): [Told]
        self.compared = self.adopted = self.skipped = 0

    def tell(self, topic, epoch, told):
        self.told.setdefault((topic, epoch), []).append(told)

    def check(self):
        for (name, epoch), told in self.told.items():
            topic = self.truth.topic(name)
            told.sort(key=lambda state: (state.seq, state.is_part))
            line = topic.line(epoch)
            if topic.kind == "log":
                for state in told:
                    self.check_log(topic, line, state)
            else:
                self.check_folds(Fold(topic, line), told)
        for topic in self.truth.topics.values():
            self.check_conditions(topic)

    def check_folds(self, fold, told):
        check = {"map": self.check_map, "last": self.check_last, "merge": self.check_merge}.get(fold.topic.kind)
        for state in told:
            fold.go_to(state.seq)
            if check:
                check(fold, state)

    # ------------------------------------------------------------------ kinds

    def check_map(self, fold, state):
        told = dict(zip(state.items[::2], state.items[1::2]))
        if 2 * len(told) != len(state.items) and state.since is None:
            raise Violation(UNIQUE, "a key twice in one snapshot", state.where)
        wanted = fold.model.value
        if state.is_part and state.since is None:
            wanted = {key: value for key, value in wanted.items() if key in told}
        if state.since is not None:
            self.check_delta(fold, state, told)
            return
        if state.wants is not None:
            wanted = {key: value for key, value in wanted.items() if state.wants(key)}
        if told == wanted:
            self.compared += 1
            return
        differ = [key for key in {**told, **wanted} if key not in told or key not in wanted or
                  told[key] != wanted[key]]
        if len(differ) > fold.doubts:
            raise Violation(ATOMIC, f"a state at {state.seq} in which {differ[:5]} are "
                                    f"{[told.get(key) for key in differ[:5]]}, the records make "
                                    f"{[wanted.get(key) for key in differ[:5]]}", state.where)
        if state.wants is None and not state.is_part:
            fold.adopt(state.items)
            self.adopted += 1

    def check_delta(self, fold, state, told):
        """Every key that is not what it was is in it, and all that is in it is so now."""
        items, wants = fold.line.items, state.wants or (lambda key: True)
        changed = items[2 * state.since:2 * state.seq:2]
        if any(key is UNKNOWN for key in changed) or not fold.is_known:
            self.skipped += 1
            return
        missing = [key for key in set(changed) if key not in told and wants(key) and not state.is_part and
                   value_at(items, key, state.since) not in (UNKNOWN, fold.model.value.get(key))]
        if missing:
            raise Violation(ATOMIC, f"{missing[:5]} changed since {state.since} and are not in the delta", state.where)
        for key, value in told.items():
            if state.is_part and value is None:
                continue  # what came after it may have set the key again
            if fold.model.value.get(key) != value:
                raise Violation(ATOMIC, f"{key} is {short(value)} in a delta at {state.seq}, the records make "
                                        f"{short(fold.model.value.get(key))}", state.where)
        self.compared += 1

    def check_last(self, fold, state):
        record = fold.line.items[2 * state.seq - 2:2 * state.seq] if state.seq else []
        if record and record[1] is UNKNOWN:
            self.skipped += 1
        elif len(state.items) > 2:
            raise Violation(UNIQUE, "more than one entry of a last topic", state.where)
        elif state.items and state.wants and not state.wants(state.items[0]):
            raise Violation(ATOMIC, "an entry that was not asked for", state.where)
        elif state.items != record and (state.items or not self.may_be_empty(state, record)):
            raise Violation(ATOMIC, f"record {state.seq} is {short(record)}", state.where)
        else:
            self.compared += 1

    @staticmethod
    def may_be_empty(state, record):
        """A snapshot that was cut, a filter that wants another key, a delta without news."""
        return state.is_part or state.since == state.seq or (state.wants and record and not state.wants(record[0]))

    def check_merge(self, fold, state):
        """Each member is an entry, a map of one; a state that is no map is the only one."""
        entries = pairs(state.items)
        if entries and state.wants:
            raise Violation(ATOMIC, "a merged map has no key to ask for", state.where)
        if state.wants:
            return
        if len(entries) == 1 and not isinstance(entries[0][1], dict) and state.since is None:
            told = entries[0][1]
        elif any(key is not None or not isinstance(value, dict) or len(value) != 1 for key, value in entries):
            raise Violation(ATOMIC, "an entry that is no member", state.where)
        else:
            told = dict(members(entries))
            if len(told) != len(entries) and state.since is None:
                raise Violation(UNIQUE, "a member twice in one snapshot", state.where)
        if state.since is not None:
            self.check_merge_delta(fold, state, told)
        elif not fold.is_known and state.is_part:
            self.skipped += 1
        elif not fold.is_known:
            fold.adopt(state.items)
            self.adopted += 1
        elif not is_part_of(told, fold.model.value) if state.is_part else told != fold.model.value:
            raise Violation(ATOMIC, f"the records up to {state.seq} make {short(fold.model.value)}", state.where)
        else:
            self.compared += 1

    def check_merge_delta(self, fold, state, told):
        """Every member that is not what it was is in it, and all that is in it is so now."""
        items = fold.line.items
        if UNKNOWN in items[:2 * state.seq]:
            self.skipped += 1
            return
        before, now = Topic("merge"), fold.model.value
        for key, value in pairs(items[:2 * state.since]):
            before.fold(key, value)
        if not isinstance(before.value, dict) or not isinstance(now, dict):
            raise Violation(ATOMIC, "a delta over a state that is no map, or to one", state.where)
        missing = [key for key in {**before.value, **now} if key not in told and not state.is_part and
                   before.value.get(key) != now.get(key)]
        if missing:
            raise Violation(ATOMIC, f"{missing[:5]} changed since {state.since} and are not in the delta", state.where)
        for key, value in told.items():
            if state.is_part and value is None:
                continue  # what came after it may have set the member again
            if now.get(key) != value:
                raise Violation(ATOMIC, f"{key} is {short(value)} in a delta at {state.seq}, the records make "
                                        f"{short(now.get(key))}", state.where)
        self.compared += 1

    def check_log(self, topic, line, state):
        """The newest records up to the seq: all, or as many as the operator lets it keep."""
        if state.is_part:
            return  # where it starts nobody knows before it ends
        if state.wants:
            self.check_log_part(topic, line, state)
            return
        count, start = len(state.items) // 2, state.seq - len(state.items) // 2
        if state.since is not None:
            start = max(start, 0)
        wanted = line.items[2 * start:2 * state.seq] if start >= 0 else None
        if wanted is None:
            raise Violation(ATOMIC, f"{count} records of the first {state.seq}", state.where)
        if any(have != want and want is not UNKNOWN for have, want in zip(state.items, wanted)):
            at = next(i for i, (have, want) in enumerate(zip(state.items, wanted)) if have != want)
            raise Violation(ATOMIC, f"as record {start + at // 2 + 1} there is {short(state.items[at])}, and it is "
                                    f"{short(wanted[at])}", state.where)
        most = min(state.seq, topic.log_count_max or state.seq)
        if topic.log_count_max and count != most and state.since is None:
            raise Violation(ATOMIC, f"{count} records at {state.seq}, and the topic keeps {most}", state.where)
        self.compared += 1

    def check_log_part(self, topic, line, state):
        """Of those the ones that a filter wants."""
        start = max(0, state.seq - (topic.log_count_max or state.seq))
        items = line.items[2 * start:2 * state.seq]
        wanted = [part for key, value in pairs(items) if key is not UNKNOWN and state.wants(key)
                  for part in (key, value)]
        told = state.items
        is_end = told == wanted[len(wanted) - len(told):] if not topic.log_count_max else told == wanted
        if UNKNOWN in items:
            self.skipped += 1
        elif not is_end and not (state.since is not None and not told):
            raise Violation(ATOMIC, f"a log of which {short(wanted)} was asked for", state.where)
        else:
            self.compared += 1

    # ------------------------------------------------------------------ conditions

    def check_conditions(self, topic):
        """A record that was to be folded only after a certain one was."""
        for epoch, seq, key, if_seq in topic.conditions:
            line = topic.line(epoch)
            newest = 0
            for index in range(2 * (seq - 2), -1, -2):
                if line.items[index] is UNKNOWN:
                    newest = if_seq  # who knows
                    break
                if line.items[index] == key or topic.kind != "map":
                    is_deleted = topic.kind in ("map", "last") and line.items[index + 1] is None
                    newest = 0 if is_deleted else index // 2 + 1
                    break
            if newest != if_seq:
                raise Violation(ORDERED, f"{key} was to be folded after {if_seq} only, and {newest} was the newest",
                                (topic.name, epoch, seq))


__all__ = ["States", "Told", "pairs"]
