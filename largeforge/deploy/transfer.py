"""Bring files to a host with rsync; a transfer that broke off continues."""

from __future__ import annotations

import shutil
import subprocess
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
ATTEMPTS = 5
OPTIONS = (
    "--recursive", "--copy-links", "--times", "--partial-dir=.partial", "--delay-updates", "--exclude=.*",
    "--info=progress2", "--no-inc-recursive", "--timeout=60", "--chmod=D755,F644",
)  # fmt: skip


def make_folder(reach: Reach, folder: str) -> None:
    """Make a folder on a host that the account which connects may write to."""
    line = 'mkdir -p "$1" && chown "${SUDO_UID:-0}" "$1"'
    shell.run(reach, ["sh", "-c", line, "sh", folder])


def push(source: Path, folder: str, reach: Reach, *, report: Callable[[str], None]) -> None:
    """Bring a file, or what is in a folder, into a folder of a host; hidden files are left out.

    Raises DeployError when rsync does not get through.
    """
    if shutil.which("rsync") is None:
        raise DeployError("rsync is not on this machine: install it, files are brought with it")
    given = f"{source}/" if source.is_dir() else str(source)
    target = f"{_bracketed(reach.host.address)}:{folder}/"
    for attempt in range(1, ATTEMPTS + 1):
        code, said = _rsync(["--rsh", reach.rsync_shell, *OPTIONS, given, target], report)
        if code == 0:
            return
        if code not in BROKEN_OFF or attempt == ATTEMPTS:
            raise DeployError(f"{reach.name}: bringing {source.name} there failed (rsync {code}): {said}")
        report(f"the transfer broke off, and continues (attempt {attempt + 1} of {ATTEMPTS}): {said}")


def _rsync(words: list[str], report: Callable[[str], None]) -> tuple[int, str]:
    """Run rsync, tell its progress in quarters, and return its exit code and last words."""
    process = subprocess.Popen(
        reaper.command(["rsync", *words], grace_s=2), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    told = 0
    with process:
        for line in process.stdout:  # universal newlines: a carriage return ends a line, too
            found = line.split()
            share = int(found[1][:-1]) if len(found) > 2 and found[1].endswith("%") else 0
            if share >= told + 25 and share < 100:
                told = share // 25 * 25
                report(f"{told} % there, {found[2]}")
        said = [text for text in process.stderr.read().splitlines() if text.strip()]
    return process.returncode, " / ".join(said[-2:])[:400]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
