"""Run the environment's pip: quietly, with progress, and with its errors in full."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from scripts.environment.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SECONDS_BETWEEN_LINES = 20


class PipError(RuntimeError):
    """pip failed; the message is what it wrote, without its warnings."""


def pip(venv: Path, arguments: Sequence[str], *, total: int = 0) -> None:
    """Run pip; `total` is how many packages the progress lines count up to.

    Raises PipError with everything that pip complained of.
    """
    temporary = venv / "tmp"  # on the disk that was found large enough: /tmp may be small
    temporary.mkdir(exist_ok=True)
    environ = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "TMPDIR": str(temporary)}
    argv = [str(venv / "bin" / "python"), "-m", "pip", "--no-input", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", env=environ, cwd=venv
        ) as process:
            assert process.stdout is not None
            try:
                _report(process.stdout, total)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            errors.seek(0)
            raise PipError(complaints(errors.read()))


def install(venv: Path, arguments: Sequence[str], *, total: int = 0) -> None:
    """Run `pip install` for a complete list: no dependencies, no isolated builds."""
    options = ["--no-deps", "--no-build-isolation", "--use-pep517", "--no-compile", "--progress-bar", "off"]
    pip(venv, ["install", *options, "--no-warn-script-location", *arguments], total=total)


def complaints(text: str) -> str:
    """Return what pip wrote on its standard error, without notices and warnings but those of a lost connection."""
    noise = re.compile(r"(WARNING|DEPRECATION|\[notice\])")
    connection = re.compile(r"connection broken|Could not fetch URL|No space left")
    kept = [line for line in text.splitlines() if not noise.match(line.strip()) or connection.search(line)]
    return "\n".join(dict.fromkeys(kept)).strip() or text.strip()


def _report(lines: Iterable[str], total: int) -> None:
    """Read pip's output to the end and say now and then how far it is."""
    collected, last = 0, time.monotonic()
    for line in lines:
        collected += bool(re.match(r"(Collecting|Processing|Requirement already satisfied)", line))
        if line.startswith("Installing collected packages") and total > 1:
            say(f"  unpacking {line.count(',') + 1} packages")
        elif total > 1 and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"  fetched {collected} of {total}")
