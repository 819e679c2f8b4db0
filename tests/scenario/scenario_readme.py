"""What README.md tells a newcomer to paste does what it says."""

import os
import re
import subprocess

from harness import BINARY, ROOT, WAIT, Broker, wait_until


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def run_in_shell(broker, script):
    environment = {**os.environ, "PATH": f"{BINARY.parent}:{os.environ['PATH']}", "WEIR_URL": broker.tcp,
                   "WEIR_ADMIN": broker.admin}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True,
                          timeout=6 * WAIT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_tour_prints_what_its_comments_say():
    tour = blocks("sh")[0]
    expected = re.findall(r"# -> (.*)", tour)
    assert len(expected) >= 4, "the tour has lost its expectations"
    # Each expectation is checked on its own line's output, which a marker sets apart.
    marked = re.sub(r"^(.*?)\s+# -> .*$", r"echo '<<<'; \1; echo '>>>'", tour, flags=re.M)
    with Broker() as broker:
        output = run_in_shell(broker, marked + "\nwait || true\n")
    # The subscriber in the background may print between the markers.
    for text, part in zip(expected, re.findall(r"<<<\n(.*?)>>>", output, re.S)):
        assert text in part.splitlines(), f"expected {text!r}, got {part!r}"


def test_one_line_of_nngcat_publishes():
    with Broker() as broker:
        run_in_shell(broker, blocks("sh")[1].replace("tcp://127.0.0.1:7450", broker.tcp))
        wait_until(lambda: "dim" in broker.cli("get", "lights/kitchen", expect=None).stdout, what="the record")
