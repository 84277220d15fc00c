"""Waiting for a host's lock can be interrupted: the command ends at once, not when the host would have been late."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
from largeforge.deploy.shell import Locks

class Silent:
    name, sudo = "h1", []

    def command(self, argv, *, root):
        return ["sh", "-c", "echo asked >&2; sleep 60"]

locks = Locks({"h1": Silent()}, "shop")
with locks.asked():
    locks._held["h1"].stderr.readline()
    print("waits", flush=True)
    locks.confirm()
"""


def test_a_host_that_says_nothing_of_its_lock_holds_no_interrupted_command_back() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=20)[1]
    finally:
        process.kill()
        process.communicate()
    assert "KeyboardInterrupt" in said, said
