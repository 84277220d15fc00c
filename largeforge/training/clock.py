"""The time that a training has had, in all its attempts."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.artifacts import write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERY_S = 2.0
"""Seconds between two writes: what a killed attempt loses of its time."""


@dataclass
class Clock:
    """Counts the seconds of all attempts and the step that they came to; both are kept in a small file."""

    path: Path
    now: Callable[[], float] = time.monotonic
    earlier_s: float = 0.0
    """Seconds of the attempts before this one."""
    earlier_step: int = 0
    """The furthest step of the attempts before this one."""
    _started: float = field(init=False)
    _noted: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._noted = self.now()
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.earlier_s, self.earlier_step = float(kept["seconds"]), int(kept["step"])

    def seconds(self) -> float:
        """Return the seconds of all attempts so far."""
        return self.earlier_s + self.now() - self._started

    def note(self, step: int, *, at_once: bool = False) -> None:
        """Keep time and step, when it is a while since that was done or when it must be done at once."""
        if at_once or self.now() - self._noted >= EVERY_S:
            self._noted = self.now()
            write_json(self.path, {"seconds": round(self.seconds(), 3), "step": max(step, self.earlier_step)})
