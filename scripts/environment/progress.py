"""Short timed lines on the standard error that say what the set-up does."""

from __future__ import annotations

import os
import sys
import time

_STARTED = time.monotonic()


def say(text: str, *, important: bool = False) -> None:
    """Print one line with the seconds since the start; `LARGEFORGE_QUIET=1` leaves only important ones."""
    if important or os.environ.get("LARGEFORGE_QUIET") != "1":
        print(f"setup {time.monotonic() - _STARTED:6.1f} s  {text}", file=sys.stderr, flush=True)
