"""The nine promises by name (clients/PROTOCOL.md, section 7), and one that was broken."""

ORDERED, UNIQUE, RELIABLE, ATOMIC, RESUMABLE, BOOKMARKABLE, COMPLETE, HONEST, EPOCH_SAFE = (
    "1 ordered", "2 unique", "3 reliable", "4 atomic join", "5 resumable", "6 bookmarkable", "7 complete", "8 honest",
    "9 epoch-safe")
PROMISES = (ORDERED, UNIQUE, RELIABLE, ATOMIC, RESUMABLE, BOOKMARKABLE, COMPLETE, HONEST, EPOCH_SAFE)


def short(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)})"


class Violation(AssertionError):
    """A broken promise: which, why, and where in the recording."""

    def __init__(self, promise, sentence, where=None):
        super().__init__(f"{promise}: {sentence}" + (f": {short(where)}" if where is not None else ""))
        self.promise = promise
