"""The other end of the connection: what it is told, and whether anybody is there."""

from __future__ import annotations

import json
import os
import select
import time


def tell(**fields):
    """Print one line."""
    print(json.dumps(fields), flush=True)


class Leash:
    """The input, as long as somebody is at its other end."""

    def __init__(self, silence_s):
        self.silence_s, self.heard, self.buffer = silence_s, time.monotonic(), b""

    def lines(self, timeout_s):
        """Return the lines that come within a time; ends this process when nobody is there any more."""
        if select.select([0], [], [], timeout_s)[0]:
            data = os.read(0, 1 << 20)
            if not data:
                raise SystemExit(0)
            self.heard = time.monotonic()
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            return [line.decode() for line in lines]
        if time.monotonic() - self.heard > self.silence_s:
            raise SystemExit(0)
        return []
