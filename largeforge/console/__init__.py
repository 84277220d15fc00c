"""Shows a run as it happens: a live view in a terminal, plain lines everywhere else.

All content comes from events (`largeforge.events`); the console computes nothing about the run
that an event does not say, and prints nothing else. Printing plans and errors of the command
line is `cli.py`'s.
"""

from __future__ import annotations

import os
import sys
from typing import IO

from largeforge.console.base import Console

__all__ = ["Console", "is_capable", "make_console"]


def make_console(stream: IO[str] | None = None, *, plain: bool | None = None) -> Console:
    """Return a console on `stream` (the standard output unless given).

    `plain` None chooses: the live view on a terminal that can move its cursor and where colour is
    wanted (no `NO_COLOR`), plain lines for pipes, files, logs of CI and dumb terminals.
    """
    stream = stream if stream is not None else sys.stdout
    if plain is None:
        plain = not is_capable(stream)
    if plain:
        from largeforge.console.plain import PlainConsole

        return PlainConsole(stream)
    import rich.console

    from largeforge.console.live import LiveConsole

    return LiveConsole(rich.console.Console(file=stream, force_terminal=True, legacy_windows=False))


def is_capable(stream: IO[str]) -> bool:
    """Tell whether a live view can be shown: a terminal that moves its cursor, and colour is not refused."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    return stream.isatty()
