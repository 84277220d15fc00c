"""The process beside a run that carries its events to one tracker.

    python -m largeforge.tracking RUN_DIR < settings

The first line of the standard input is JSON with `config` and `registry`; the input's end says that
the run has ended. What goes wrong is a line on the standard output, and is tried again until then.
Exit code 1: not all was sent.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import IO

from largeforge import events
from largeforge.errors import LargeForgeError
from largeforge.recipe import extensions
from largeforge.secrets import without_passwords
from largeforge.tracking.upload import Upload

POLL_S = 1.0
RETRY_S, MAX_RETRY_S = 5.0, 60.0
NICE = 10


def main(arguments: list[str]) -> int:
    """Follow the run to its end."""
    out = events.take_stdout()
    os.nice(NICE)
    settings = json.loads(sys.stdin.readline())
    config = extensions.load("tracking", settings["config"]["name"]).Config(**settings["config"])
    try:
        Follower(Upload(Path(arguments[0]), config, settings["registry"]), out).run()
    except LargeForgeError as error:
        _tell(out, error)
        return 1
    return 0


class Follower:
    """Sends what a run tells until its standard input ends."""

    def __init__(self, upload: Upload, out: IO[str]):
        self._upload, self._out = upload, out
        self._retry_s = RETRY_S

    def run(self) -> None:
        """Send all events. Raises TrackingError for the last attempt alone."""
        wait_s = 0.0
        while not _has_ended(wait_s):
            wait_s = self._step()
        while self._upload.advance():
            continue
        self._upload.close()

    def _step(self) -> float:
        """Send some events, and return how long to wait until the next."""
        try:
            more = self._upload.advance()
        except LargeForgeError as error:
            _tell(self._out, error)
            wait_s, self._retry_s = self._retry_s, min(2 * self._retry_s, MAX_RETRY_S)
            return wait_s
        self._retry_s = RETRY_S
        return 0.0 if more else POLL_S


def _has_ended(timeout_s: float) -> bool:
    """Tell whether the standard input has ended, waiting a while for it."""
    return bool(select.select([0], [], [], timeout_s)[0])


def _tell(out: IO[str], error: LargeForgeError) -> None:
    words = " ".join(str(without_passwords(str(error))).split())
    print(words, file=sys.stderr)
    out.write(f"{words}\n")
    out.flush()


if __name__ == "__main__":
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(main(sys.argv[1:]))
