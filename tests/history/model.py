"""What a topic's state must be: each kind of topic as a few lines of Python."""


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


def members(entries):
    """The (key, value) members that a merge topic's entries are, a map of one each."""
    return [member for _, entry in entries for member in entry.items()]


class Topic:
    """A topic folded from its records, or laid out from a snapshot's entries. `records` counts what was folded."""

    def __init__(self, kind, count_max=0, bytes_max=0, size_of=None):
        self.kind, self.count_max, self.bytes_max, self.size_of = kind, count_max, bytes_max, size_of
        self.value = {} if kind in ("map", "merge") else [] if kind == "log" else None

    def fold(self, key, value):
        if self.kind == "map":
            if value is None:
                self.value.pop(key, None)
            else:
                self.value[key] = value
        elif self.kind == "log":
            self.value.append((key, value))
            self.trim()
        elif self.kind == "merge":
            self.value = merged(self.value, value)
            if self.value is None:
                self.value = {}
        else:
            self.value = (key, value)

    def trim(self):
        while self.count_max and len(self.value) > self.count_max:
            self.value.pop(0)
        while self.bytes_max and sum(map(self.size_of, self.value)) > self.bytes_max:
            self.value.pop(0)

    def lay(self, entries):
        """The state that a snapshot's (key, value) entries spell out."""
        if self.kind == "map":
            self.value = dict(entries)
        elif self.kind == "log":
            self.value = list(entries)
        elif self.kind == "merge":
            is_map = all(isinstance(entry, dict) for _, entry in entries)
            self.value = dict(members(entries)) if is_map else entries[0][1]
        else:
            self.value = entries[0] if entries else None

    def lay_over(self, entries):
        """What a delta's entries make of the state: a key deleted, or set, or both in this order."""
        if self.kind != "merge":
            for key, value in entries:
                self.fold(key, value)
            return
        for key, value in members(entries):
            if value is None:
                self.value.pop(key, None)
            else:
                self.value[key] = value

    def state(self):
        """As `get` shows it."""
        if self.kind == "log":
            return [value for _, value in self.value]
        if self.kind == "last":
            return self.value[1] if self.value else None
        return self.value
