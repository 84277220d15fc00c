"""Run this machine's pip: nothing of it outlives its caller, and what it complains of is told without passwords."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from largeforge import reaper
from largeforge.errors import BuildError
from largeforge.secrets import without_passwords

_NOISE = re.compile(r"\s*(WARNING|DEPRECATION|\[notice\])")
_CONNECTION = re.compile(r"connection broken|Could not fetch URL|No space left|certificate")
_SHOWN_LINES = 15
_KEPT_LINES = 400


class PipError(BuildError):
    """pip failed; the message is what it complained of."""


Running = set[subprocess.Popen[str]]
"""Processes of pip that go on in threads."""


def run(arguments: Sequence[str], *, environ: Mapping[str, str] | None = None, running: Running | None = None) -> None:
    """Run pip to its end; whoever runs it in a thread finds its process in `running` and may terminate it.

    Raises PipError with its last words when it fails.
    """
    if find_spec("pip") is None:
        raise PipError(f"{sys.executable} has no pip; python -m ensurepip, or install pip")
    argv = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    added = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", **(environ or {})}
    with subprocess.Popen(
        reaper.command(argv, grace_s=2),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **added},
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        running = set() if running is None else running
        running.add(process)
        try:
            errors = deque(process.stderr, maxlen=_KEPT_LINES)
        except BaseException:
            process.terminate()
            raise
        code = process.wait()
        running.discard(process)
    if code:
        raise PipError(complaints("".join(errors)) or f"pip ended with {code}")


def complaints(text: str) -> str:
    """Return the last of what pip wrote on its standard error, without notices, and without passwords."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not _NOISE.match(line) or _CONNECTION.search(line)] or lines
    return str(without_passwords("\n".join(list(dict.fromkeys(kept))[-_SHOWN_LINES:])))
