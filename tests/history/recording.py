"""The recording of a run: what its clients sent and received, and when. The same bytes that went over the wire are what
the checker reads, so that nothing is lost in between.

A recording is a stream of msgpack arrays, in the order in which one observer saw things:

    [us, connection, "+", {name...}]    a client connected
    [us, connection, ">", frame]        a client sends a frame (clients/PROTOCOL.md, section 6)
    [us, connection, "<", frame]        a client has received a frame
    [us, connection, "-", why]          the connection is no more
    [us, 0, "!", [word, ...]]           a note about the run:

        ["topic", name, {kind, log_count_max?}]   what the operator configured
        ["restart"]                               the broker was killed and started again without its memory
        ["clear"|"delete", topic]                 by the operator
        ["strangers"]                             publishers are at work whose records are not all in the recording
        ["rest", {topic: [epoch, seq]}]           all is said: where each topic is, asked when nothing was under way

Times are microseconds since the start. A frame counts as sent when it is handed to the socket, and as received when all
of it was read; what stands further up in the recording thus truly was known before what stands further down was done.

    recording.py FILE       prints one as JSON lines
"""

import json
import sys
import time

import msgpack

CONNECTED, SENT, RECEIVED, LOST, NOTE = "+", ">", "<", "-", "!"


class Recorder:
    """Gathers rows in memory; a run of one seed is a few MB."""

    def __init__(self):
        self.start = time.monotonic()
        self.parts = []
        self.pack = msgpack.Packer(use_bin_type=True).pack

    def add_body(self, connection, what, body):
        """A frame as it stands on the wire: its bytes go into the row as they are."""
        head = self.pack([int((time.monotonic() - self.start) * 1e6), connection, what])
        self.parts.append(b"\x94" + head[1:])
        self.parts.append(body)

    def add(self, connection, what, value):
        self.add_body(connection, what, self.pack(value))

    def note(self, *words):
        self.add(0, NOTE, words)

    def data(self):
        return b"".join(self.parts)


def read(data):
    """The rows of a recording."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(data)
    return list(unpacker)


def main():
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            for row in read(file.read()):
                print(json.dumps(row, default=repr))
    return 0


if __name__ == "__main__":
    sys.exit(main())
