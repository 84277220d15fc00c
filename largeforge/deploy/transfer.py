"""Files to a host and back, with rsync over the ssh of the inventory; what broke off continues."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from largeforge import reaper
from largeforge.deploy import shell
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.deploy.connection import Reach

BROKEN_OFF = (10, 12, 20, 30, 35, 255)
"""Exit codes of rsync and ssh after which another attempt continues: the connection broke."""
ATTEMPTS = 10
PAUSE_S = 3.0
QUIET_S = 5.0
"""Progress of what takes less is not told."""
OPTIONS = (
    "--recursive", "--copy-links", "--times", "--partial-dir=.partial", "--info=progress2", "--no-inc-recursive",
    "--timeout=60", "--delete",
)  # fmt: skip


def make_folder(reach: Reach, folder: str) -> None:
    """Make a folder on a host that the account which connects may write to."""
    line = 'mkdir -p "$1" && chown "${SUDO_UID:-0}" "$1"'
    shell.run(reach, ["sh", "-c", line, "sh", folder])


def push(source: Path, folder: str, reach: Reach, *, report: Callable[[str], None], hidden: bool = False) -> None:
    """Bring a file, or what is in a folder, into a folder of a host; hidden files only when `hidden` is given.

    Raises DeployError when it does not get there.
    """
    left_out = [] if hidden else ["--exclude=.*"]
    given = f"{source}/" if source.is_dir() else str(source)
    _carry(reach, [*left_out, given, f"{_bracketed(reach.host.address)}:{folder}/"], report)


def fetch(source: str, folder: Path, reach: Reach, *, report: Callable[[str], None]) -> None:
    """Bring what is in a folder of a host home.

    Raises DeployError when it does not get here.
    """
    _carry(reach, [f"{_bracketed(reach.host.address)}:{source}/", f"{folder}/"], report)


def _carry(reach: Reach, words: list[str], report: Callable[[str], None]) -> None:
    if shutil.which("rsync") is None:
        raise DeployError("rsync is not on this machine: install it, files are brought with it")
    for attempt in range(1, ATTEMPTS + 1):
        code, said = _rsync(["--rsh", reach.rsync_shell, *OPTIONS, *words], report)
        if code == 0:
            return
        if "No space left on device" in said:
            raise DeployError(f"{reach.name}: a disk is full while files are brought: {said}")
        if code not in BROKEN_OFF or attempt == ATTEMPTS:
            raise DeployError(f"{reach.name}: files could not be brought (rsync {code}): {said}")
        report(f"the transfer broke off, and continues (attempt {attempt + 1} of {ATTEMPTS}): {said}")
        time.sleep(PAUSE_S)


def _rsync(words: list[str], report: Callable[[str], None]) -> tuple[int, str]:
    """Run rsync, tell its progress in quarters, and return its exit code and last words."""
    process = subprocess.Popen(
        reaper.command(["rsync", *words], grace_s=2), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    told, began = 0, time.monotonic()
    try:
        for line in process.stdout:  # universal newlines: a carriage return ends a line, too
            cells = line.split()
            share = int(cells[1][:-1]) if len(cells) > 2 and cells[1].endswith("%") and cells[1][:-1].isdigit() else 0
            if told + 25 <= share < 100 and time.monotonic() - began > QUIET_S:
                told = share // 25 * 25
                report(f"{told} % there, {cells[2]}")
        said = [text for text in process.stderr.read().splitlines() if text.strip()]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    return process.returncode, " / ".join(said[-2:])[:400]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
