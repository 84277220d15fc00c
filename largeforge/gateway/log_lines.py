"""Write the log lines of requests: many, in as few writes as possible, and never waiting for who reads them.

A file takes whole turns of the event loop at once. A pipe takes as much as it has room for, in pieces that the kernel
keeps whole (PIPE_BUF), so that the lines of several workers do not mix; what a reader that is too slow leaves behind is
dropped and counted, since requests matter more than their lines.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_WAITING_BYTES = 2**20
"""Lines that wait for a slow reader."""
LOOK_AGAIN_S = 0.05


class Lines:
    """Writes the lines of one logger to a descriptor."""

    def __init__(self, descriptor: int, logger: str):
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptor = descriptor
        self._logger = logger
        self._waiting: list[bytes] = []
        self._second = 0
        self._stamp = b""
        self._rests: dict[str, bytes] = {}
        """What follows the time, by message."""
        self._room: select.poll | None = None
        self._num_dropped = 0
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            self._room = select.poll()
            self._room.register(descriptor, select.POLLOUT)

    def __call__(self, message: str, fields: Mapping[str, Any]) -> None:
        """Add a line, as `logs.JsonFormatter` would write it; call on the event loop."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)
        self._waiting.append(self._line(message, fields))

    def _line(self, message: str, fields: Mapping[str, Any]) -> bytes:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        rest = self._rests.get(message)
        if rest is None:
            told = orjson.dumps({"level": "info", "logger": self._logger, "message": message})
            rest = self._rests[message] = told[1:-1]
        said = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)[1:]
        comma = b"," if fields else b""
        return b'{"time":"%b.%03dZ",%b%b%b' % (self._stamp, int((now - second) * 1000), rest, comma, said)

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        with suppress(OSError):  # nobody reads the log any more, which is no reason not to serve
            if self._room is None:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            else:
                self._keep(self._written(data, self._room))

    def _written(self, data: bytes, room: select.poll) -> bytes:
        """Write what there is room for, and return the rest."""
        while data and room.poll(0):
            end = len(data) if len(data) <= select.PIPE_BUF else data.rfind(b"\n", 0, select.PIPE_BUF) + 1
            data = data[os.write(self._descriptor, data[: end or select.PIPE_BUF]) :]
        if not data and self._num_dropped:
            self._waiting.append(self._line("lines dropped", {"count": self._num_dropped}))
            self._num_dropped = 0
        return data

    def _keep(self, rest: bytes) -> None:
        """Try again soon with what is left of the lines, the oldest of them."""
        if len(rest) > MOST_WAITING_BYTES:
            end = rest.rfind(b"\n", 0, MOST_WAITING_BYTES) + 1
            self._num_dropped += rest.count(b"\n", end)
            rest = rest[:end]
        if rest:
            self._waiting.append(rest)
        if self._waiting and self._loop is not None:
            self._loop.call_later(LOOK_AGAIN_S, self._flush)
