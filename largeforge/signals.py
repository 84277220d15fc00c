"""Notice SIGINT and SIGTERM instead of dying of them, and leave a process quickly."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any, NoReturn

STOP_GRACE_S = 20.0
"""Seconds between telling a stage to stop and killing it: a training saves a checkpoint meanwhile."""


class Signals:
    """Counts SIGINT and SIGTERM inside its `with` block; the handlers before it stand again afterwards."""

    def __init__(self) -> None:
        self.count = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.count += 1


def leave(code: int) -> NoReturn:
    """End this process at once: Python would take a second to take torch apart."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
