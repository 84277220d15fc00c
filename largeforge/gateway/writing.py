"""Write what one turn of the event loop has to say to all connections at its end, rather than in between.

uvloop hands each write to the kernel at once. A peer on the same machine that sleeps is woken by each of them; woken by
the first of many that follow each other closely, it is awake for the rest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


class Turn:
    """What waits for the end of the present turn of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.num_answers = 0
        """Answers in progress; what there is to say for the only one need not wait."""
        self._loop = loop
        self._waiting: list[Joined] = []

    def add(self, transport: Joined) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()


class Joined:
    """A transport whose writes wait for the end of the turn; closing it lets them out, aborting it does not."""

    __slots__ = (
        "_pieces", "_transport", "abort", "get_extra_info", "is_closing", "pause_reading", "resume_reading",
        "set_protocol", "turn",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        turn = _turns.get(loop)
        if turn is None:
            turn = _turns[loop] = Turn(loop)
        self.turn = turn
        self._transport = transport
        self._pieces: list[bytes] = []
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        """Write later."""
        if not self._pieces:
            if self.turn.num_answers == 1:
                self._transport.write(data)
                return
            self.turn.add(self)
        self._pieces.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Write several pieces later."""
        if not self._pieces:
            if self.turn.num_answers == 1:
                self._transport.writelines(pieces)
                return
            self.turn.add(self)
        self._pieces.extend(pieces)

    def flush(self) -> None:
        """Write what waits."""
        pieces = self._pieces
        if not pieces:
            return
        if not self._transport.is_closing():
            if len(pieces) == 1:
                self._transport.write(pieces[0])
            else:
                self._transport.writelines(pieces)
        pieces.clear()

    def close(self) -> None:
        """Write what waits, then close."""
        self.flush()
        self._transport.close()
