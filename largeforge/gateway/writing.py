"""Write what one turn of the event loop has to say to all connections at its end, rather than in between.

uvloop hands each write to the kernel at once. A peer on the same machine that sleeps is woken by each of them; woken by
the first of many that follow each other closely, it is awake for the rest. Where turns have but one thing to say, as
with little traffic, waiting for their ends only takes time: then most writes go at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

ALONE = 8
"""Turns with one thing to say that must follow each other before writes go at once."""
AT_ONCE = 32
"""Writes that go at once before it is looked again whether several could go together."""

LINGER_S = 10.0
"""How long the peer of a closed connection may take nothing of what was written before."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


class Turn:
    """What waits for the end of the present turn of an event loop."""

    def __init__(self) -> None:
        self.num_at_once = 0
        """Writes that are not to wait."""
        self._waiting: list[Joined] = []
        self._num_alone = 0
        """Turns in a row that had but one connection to write to."""

    def add(self, transport: Joined) -> None:
        """Let a transport write at the end of the turn."""
        if not self._waiting:
            transport.loop.call_soon(self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._num_alone = self._num_alone + 1 if len(waiting) == 1 else 0
        if self._num_alone >= ALONE:
            self.num_at_once = AT_ONCE
        for transport in waiting:
            try:
                transport.flush()
            except Exception as error:  # those after it are to have their words all the same
                context = {"message": "a connection could not be written to", "exception": error}
                transport.loop.call_exception_handler(context)
                transport.abort()


class Joined:
    """A transport whose writes may wait for the end of the turn; closing it lets them out, aborting it does not."""

    __slots__ = (
        "_pieces", "_transport", "_turn", "abort", "get_extra_info", "is_closing", "loop", "pause_reading",
        "resume_reading", "set_protocol",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        turn = _turns.get(loop)
        if turn is None:
            turn = _turns[loop] = Turn()
        self.loop = loop
        self._turn = turn
        self._transport = transport
        self._pieces: list[bytes] = []
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        """Write, now or at the end of the turn."""
        if self._goes_now():
            self._transport.write(data)
        else:
            self._pieces.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Write several pieces, now or at the end of the turn."""
        if self._goes_now():
            self._transport.writelines(pieces)
        else:
            self._pieces.extend(pieces)

    def flush(self) -> None:
        """Write what waits."""
        pieces, self._pieces = self._pieces, []
        if not pieces or self._transport.is_closing():
            return
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def close(self) -> None:
        """Write what waits, then close; a peer that takes nothing of it is not waited for any longer."""
        self.flush()
        self._transport.close()
        if left := self._transport.get_write_buffer_size():
            self.loop.call_later(LINGER_S, self._linger, left)

    def _linger(self, before: int) -> None:
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self._transport.abort()
        elif left:
            self.loop.call_later(LINGER_S, self._linger, left)

    def _goes_now(self) -> bool:
        if self._pieces:
            return False
        if self._turn.num_at_once and not self._transport.is_closing():
            self._turn.num_at_once -= 1
            return True
        self._turn.add(self)
        return False
