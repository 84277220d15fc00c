"""Ask the other workers of a gateway: one line goes there over a Unix socket, an answer comes back, and that is all.

A line is a word, and what is asked about, which has no line break.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    Answer = Callable[[bytes], Awaitable[bytes]]
    """Makes the answer to a question from what is asked about."""

ANSWER_TIMEOUT_S = 2.0
"""A worker that is slower than this is left out."""


class Peers:
    """This worker's end; enter it to answer the others."""

    def __init__(self, folder: Path, worker: int, answers: Mapping[str, Answer]):
        """Take the folder of all sockets, the number of this worker, and what makes each answer by its question."""
        self._folder = folder
        self._worker = worker
        self._answers = answers
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        path = _socket(self._folder, self._worker)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        _socket(self._folder, self._worker).unlink(missing_ok=True)

    async def ask(self, question: str, about: bytes = b"") -> dict[int, bytes]:
        """Return what all workers answer, this one included, by their numbers."""
        others = [int(path.stem) for path in self._folder.glob("*.sock") if int(path.stem) != self._worker]
        found = await asyncio.gather(*(_ask(_socket(self._folder, number), question, about) for number in others))
        answered = {number: answer for number, answer in zip(others, found, strict=True) if answer}
        return dict(sorted({self._worker: await self._answers[question](about), **answered}.items()))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                word, _, about = (await reader.readline()).rstrip(b"\n").partition(b" ")
                if (question := word.decode()) in self._answers:
                    writer.write(await self._answers[question](about))
                    await writer.drain()
        writer.close()


async def _ask(path: Path, question: str, about: bytes) -> bytes:
    """Return a worker's answer, empty when it gives none."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"%b %b\n" % (question.encode(), about))
                return await reader.read()
            finally:
                writer.close()
    return b""


def _socket(folder: Path, worker: int) -> Path:
    return folder / f"{worker}.sock"
