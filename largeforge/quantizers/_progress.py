"""Progress bars of the tools, as events: they know how far they are, and say so through tqdm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.events import Events

_EVERY_S = 2.0


def report(told: Events) -> None:
    """Make every progress bar of this process tell how far it is, instead of drawing itself."""
    from tqdm import tqdm

    last = 0.0

    def display(bar: Any, *arguments: Any, **options: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S and bar.total:
            last = time.monotonic()
            told.emit("progress", step=bar.n, total=bar.total, unit=str(bar.desc or "steps").strip().rstrip(":"))

    tqdm.display = display
