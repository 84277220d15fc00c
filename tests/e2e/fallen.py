"""A worker whose accelerate falls back as 1.15 does by itself: no sharding on a CPU, and no mixed precision.

Run as `python -m tests.e2e.fallen SPEC`, in the place of `python -m largeforge.stages SPEC`.
"""

from __future__ import annotations

import sys
from typing import Any

from largeforge.stages.__main__ import main
from largeforge.training import distributed


def fall_back(launcher: str) -> None:
    """Leave accelerate as it is, but for the precision that it is asked for."""
    from accelerate import state

    original = state.AcceleratorState.__init__

    def initialize(self: Any, mixed_precision: str | None = None, *given: Any, **named: Any) -> None:
        original(self, "no", *given, **named)

    state.AcceleratorState.__init__ = initialize


if __name__ == "__main__":
    distributed._let_cpu = fall_back
    sys.exit(main(sys.argv[1:]))
