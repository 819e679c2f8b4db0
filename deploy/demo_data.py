"""The demonstration's data: the apt package index and the dpkg log as records, and the states they must lead to.

Nothing here talks to the broker: these are the answers it is held against.
"""

import gzip
import os
import re
import subprocess
from pathlib import Path

LOG = Path("/var/log/dpkg.log")
TINY_PACKAGES = ("hello", "sl", "ed", "bc")
CHANGED_EVERY = 40
WITHDRAWN_EVERY = 400


class Missing(Exception):
    """The machine lacks what the demonstration needs; the text says what to do."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def as_root(*command):
    return command if os.geteuid() == 0 else ("sudo", *command)


# ------------------------------------------------------------------------------------ package index

def index_files():
    return run("apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages").split()


def parse_stanza(text):
    """One stanza as {field: text}; continuation lines belong to the field above."""
    fields, name = {}, None
    for line in text.split("\n"):
        if line[:1] in (" ", "\t"):
            fields[name] += "\n" + line
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def index_stanzas():
    """Every stanza of every package index on this machine, in apt's order; fetches the index where there is none."""
    files = index_files()
    if not files or not all(map(os.path.exists, files)):
        run(*as_root("apt-get", "update", "-q"))
        files = index_files()
    stanzas = [parse_stanza(text) for file in files
               for text in run("/usr/lib/apt/apt-helper", "cat-file", file).split("\n\n") if text.strip()]
    if not stanzas:
        raise Missing("apt-get update brought no package index")
    return stanzas


def index_records(topic, stanzas):
    """A record a stanza, then some again with changed values, and some withdrawn (nil)."""
    records = [{"topic": topic, "key": stanza["Package"], "value": stanza} for stanza in stanzas]
    for stanza in stanzas[::CHANGED_EVERY]:
        changed = {**stanza, "Version": stanza.get("Version", "") + "+demo", "Changed-By": "deploy/demo"}
        records.append({"topic": topic, "key": stanza["Package"], "value": changed})
    for stanza in stanzas[::WITHDRAWN_EVERY]:
        records.append({"topic": topic, "key": stanza["Package"], "value": None})
    return records


# ----------------------------------------------------------------------------------------- dpkg log

def log_files():
    """The log and its rotated parts, oldest first."""
    numbered = [(int(match[1]), path) for path in LOG.parent.glob(LOG.name + ".*")
                if (match := re.fullmatch(r".*\.log\.(\d+)(?:\.gz)?", str(path)))]
    return [path for _, path in sorted(numbered, reverse=True)] + ([LOG] if LOG.exists() else [])


def log_lines(files):
    lines = []
    for path in files:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", errors="replace") as file:
            lines += file.read().splitlines()
    return lines


def make_log(directory):
    """A log of our own: a tiny package installed and removed again, unless it was there before."""
    log = directory / "dpkg.log"
    option = ("-q", "-y", "--no-install-recommends", "-o", f"Dpkg::Options::=--log={log}")
    name = next((name for name in TINY_PACKAGES if subprocess.run(
        ["dpkg-query", "-W", name], capture_output=True, check=False).returncode != 0), None)
    if name is None:
        raise Missing(f"no dpkg log, and all of {', '.join(TINY_PACKAGES)} are installed already")
    for action in ("install", "purge"):
        run(*as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", action, *option, name))
    return [log]


def dpkg_status():
    """{package:architecture: {status, version}} as dpkg-query tells it."""
    listing = run("dpkg-query", "-W", "-f", "${Package}:${Architecture} ${db:Status-Status} ${Version}\n")
    rows = (line.split(" ") for line in listing.splitlines())
    return {row[0]: {"status": row[1], "version": row[2]} for row in rows}


def log_and_truth(directory):
    """(lines, dpkg-query's answer, name of the source), both of the same moment: nothing was installed in between."""
    for _ in range(5):
        files = log_files()
        source = str(LOG)
        lines = log_lines(files)
        if not any(" status " in line for line in lines):
            files, source = make_log(directory), "a log made by installing and purging a tiny package"
            lines = log_lines(files)
        installed = dpkg_status()
        if log_lines(files) == lines:
            return lines, installed, source
    raise Missing("packages are being installed all the time; try again when that has ended")


def log_records(lines, status_topic, lines_topic):
    """Status lines as events keyed by package (nil when it is gone), and every line as a merge patch, in order."""
    records = []
    for line in lines:
        day, clock, event, *words = line.split(" ")
        at = f"{day} {clock}"
        if event == "status" and len(words) == 3:
            status, key, version = words
            gone = status == "not-installed"
            value = None if gone else {"status": status, "version": version, "at": at}
            records.append({"topic": status_topic, "key": key, "value": value})
            records.append({"topic": lines_topic, "value": {key: value}})
        elif len(words) == 3:
            key, before, after = words
            records.append({"topic": lines_topic, "value": {key: {"last": {event: [before, after], "at": at}}}})
        else:
            records.append({"topic": lines_topic, "value": {"dpkg": {event: " ".join(words), "at": at}}})
    return records


def check_against_dpkg(state, installed):
    """What the log's last word on each package and dpkg-query disagree on, a line each.

    Packages that the log never spoke of are not looked at: they came before it began."""
    # The log does not say when a package changed its architecture.
    moved = {key.partition(":")[0]: key for key in installed}
    wrong = []
    for key, value in state.items():
        truth = installed.get(key)
        name = key.partition(":")[0]
        if truth is None and moved.get(name, key) != key:
            continue
        if truth is None or (value["status"], value["version"]) != (truth["status"], truth["version"]):
            wrong.append(f"{key}: {value['status']} {value['version']} by the log, {truth or 'absent'} by dpkg-query")
    return wrong


# --------------------------------------------------------------------------------------------- folds

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


def merge_into(state, patch):
    """As merged, but changes the state's own first level: it has a key a package."""
    for key, value in patch.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = merged(state.get(key), value)


def fold_record(states, final, record):
    """What a record does to the expected states, and the seq its topic has then."""
    state = states.setdefault(record["topic"], {})
    final[record["topic"]] = final.get(record["topic"], 0) + 1
    if "key" not in record:
        merge_into(state, record["value"])
    elif record["value"] is None:
        state.pop(record["key"], None)
    else:
        state[record["key"]] = record["value"]


def fold_event(copies, event, counts):
    """What an event of `weir sub --json` does to a subscriber's copies; the topic's seq when it stands at one."""
    name, topic = event["event"], event.get("topic")
    if name == "begin":
        if not event.get("resumed") and not event.get("delta"):
            copies[topic] = {"state": {}, "seq": None, "kind": event.get("kind")}
        counts["snapshots"] += 1
        return None
    if name in ("gap", "conflated", "ended"):
        raise ValueError(f"an omission that resync must not have: {event}")
    if name == "entry":
        counts["entries"] += 1
        fold_value(copies[topic], event)
        return None
    if name == "update":
        counts["updates"] += 1
        if event["seq"] != copies[topic]["seq"] + 1:
            raise ValueError(f"seq does not follow {copies[topic]['seq']}: {event}")
        fold_value(copies[topic], event)
    elif name != "end":
        return None
    copies[topic]["seq"] = event["seq"]
    return event["seq"]


def fold_value(copy, event):
    if event.get("key") is None and event["event"] == "entry":  # a member as it is now, or gone
        for key, value in event["value"].items():
            fold_value(copy, {"event": "member", "key": key, "value": value})
    elif event.get("key") is None:
        merge_into(copy["state"], event["value"])
    elif event["value"] is None:
        copy["state"].pop(event["key"], None)
    else:
        copy["state"][event["key"]] = event["value"]
