"""Watch a run from another terminal: the same view, from the events that the run writes.

RUN is a run directory, the digest of a run or latest:RECIPE; the run that told something last unless given.
A run that goes on is followed to its end, one that has ended is shown again. Ctrl-C ends the watching only.

  python -m largeforge watch
  python -m largeforge watch latest:my_expert
  ssh gpu-box 'cd project && python -m largeforge watch --plain'

The exit code is the run's: 0 done, 1 failed or gone without a word, 3 a gate refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.3
SILENCE_S = 5.0
"""How long nothing must come before it is asked whether the run's process is still there."""
_ENDS = ("run_finished", "run_failed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", nargs="?", default="", metavar="RUN", help="a run; the newest unless given")
    parser.add_argument("--root", default="runs", help="folder of all runs (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")


def run(arguments: argparse.Namespace) -> int:
    """Show the run; return its exit code."""
    from largeforge.console import make_console
    from largeforge.recorded import run_folder
    from largeforge.runs import Run

    root = Path(arguments.root).expanduser().absolute()
    folder = run_folder(arguments.run, root=root)
    watched = Run(folder, root)
    try:
        with make_console(plain=True if arguments.plain else None) as console:
            end = follow(folder / "events.jsonl", console.show, is_running=watched.is_held)
    except KeyboardInterrupt:
        return 0
    if end:
        return int(end.get("exit_code") or 0)
    print(f"\n{folder.name} ended without a word; to continue it, run its command again: {_command(folder)}")
    return 1


def follow(
    path: Path,
    show: Callable[[dict[str, Any]], None],
    *,
    is_running: Callable[[], bool],
    wait: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Show the events of the newest sitting, and those that come until it ends.

    Return the event that it ended with; empty when its process is gone without one.
    """
    end: dict[str, Any] = {}
    offset, silent_s = _sitting(path), math.inf  # of a run that is over, nothing is waited for
    while True:
        found, offset = _lines(path, offset)
        for event in found:
            end = event if event["kind"] in _ENDS else {} if event["kind"] == "run_started" else end
            silent_s = 0.0 if math.isfinite(silent_s) else silent_s
            show(event)
        if found:
            continue
        if end or silent_s >= SILENCE_S:
            if not is_running():
                return end
            silent_s = 0.0
        wait(POLL_S)
        silent_s += POLL_S


def _sitting(path: Path) -> int:
    """Return where the newest sitting begins: runs that continue write to the same file."""
    begin, place = 0, 0
    with path.open("rb") as stream:
        for line in stream:
            if b'"kind":"run_started"' in line:
                begin = place
            place += len(line)
    return begin


def _lines(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole events after an offset, and where they end."""
    from largeforge import events

    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read()
    whole = data[: data.rfind(b"\n") + 1]
    found = (events.decode(line) for line in whole.decode("utf-8", "replace").splitlines())
    return [event for event in found if event is not None], offset + len(whole)


def _command(folder: Path) -> str:
    found, _ = _lines(folder / "events.jsonl", _sitting(folder / "events.jsonl"))
    return next((str(event["command"]) for event in found if event.get("command")), "")
