"""Run a program of `remote/` on a host that has nothing of ours yet: its source goes along in the command line."""

from __future__ import annotations

import base64
import shlex
import zlib
from functools import cache
from pathlib import Path

REMOTE = Path(__file__).resolve().parent / "remote"
_RUN = "import sys,zlib,base64;exec(compile(zlib.decompress(base64.b64decode(sys.argv.pop(1))),{name!r},'exec'))"


@cache
def source(name: str) -> str:
    """Return the text of a program."""
    return (REMOTE / f"{name}.py").read_text(encoding="utf-8")


def argv(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a program there with these arguments."""
    return packed(name, source(name), *arguments)


def packed(name: str, text: str, *arguments: str) -> list[str]:
    """Return the command that runs a program, given as its text, with these arguments."""
    small = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return ["python3", "-c", _RUN.format(name=f"{name}.py"), small, *arguments]


def line(name: str, *arguments: str) -> str:
    """Return the same as one line for a shell."""
    return shlex.join(argv(name, *arguments))
