"""Boot one test host, and again whenever it asks for a reboot, for as long as its parent lives.

A program of its own (`supervisor.py LOG COMMAND...`): the parent puts it into the host's control groups, then
writes a line to its standard input. When that input ends, so does the host.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

ASKED_FOR_REBOOT = 133
"""Exit code of systemd-nspawn --keep-unit."""


def main() -> int:
    """Boot until the host is off."""
    if not sys.stdin.readline():
        return 1  # the parent is gone: this process may not be in any group yet
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log, *command = sys.argv[1:]
    while True:
        with open(log, "ab") as output:  # noqa: PTH123
            argv = ["setpriv", "--pdeathsig", "KILL", *command]
            code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
        if code != ASKED_FOR_REBOOT:
            return 0


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
