"""Tokenize a prepared file on all cores that this process may use, in bounded memory, in the order of its rows.

Rendering a chat template is Python, so that threads would wait for each other: each core gets a process of its own
(`worker.py`), which reads its parts of the file itself. Small files are done in this process.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

import largeforge
from largeforge.errors import StageError
from largeforge.tokens.engine import FastEngine
from largeforge.tokens.parts import Part, Wanted, tokenize
from largeforge.tokens.worker import SIZE_BYTES, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.tokens.engine import Engine

PART_BYTES = 2**20
"""Text of one part: about a thousand rows of a conversation, a quarter of a second."""
ALONE_BYTES = 4 * PART_BYTES
"""A file up to that size is done here: starting processes would take as long."""
WAITING = 2
"""Parts that wait for their turn, for each process: what bounds the memory."""


def parts(path: Path, engine: Engine, wanted: Wanted, *, processes: int) -> Iterator[tuple[Part, int]]:
    """Yield the parts of a file in order, each with how many bytes of the file are done.

    Raises StageError when a process was killed.
    """
    size = path.stat().st_size
    if size <= ALONE_BYTES or processes < 2 or not isinstance(engine, FastEngine):
        with path.open("rb") as file:
            for start, end in _places(path, size):
                yield tokenize(lines(file, start, end), engine, wanted), end
        return
    yield from _side_by_side(path, engine, wanted, processes=min(processes, -(-size // PART_BYTES)))


def cores() -> int:
    """Return the cores that this process may use: those that the runner gave to all processes of the stage."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    allowed = len(os.sched_getaffinity(0))
    each = int(given) if given.isdecimal() and int(given) else allowed
    return min(each * int(os.environ.get("LOCAL_WORLD_SIZE", "1")), allowed)


def _side_by_side(path: Path, engine: FastEngine, wanted: Wanted, *, processes: int) -> Iterator[tuple[Part, int]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="largeforge-tokens-")))
        spec = folder / "spec.json"
        spec.write_text(json.dumps({"engine": asdict(engine.spec), "wanted": asdict(wanted)}), encoding="utf-8")
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(_Worker(spec, path)))
        threads = stack.enter_context(ThreadPoolExecutor(processes))
        waiting: deque[tuple[Future[Part], int]] = deque()
        for start, end in _places(path, path.stat().st_size):
            waiting.append((threads.submit(_ask, idle, start, end), end))
            if len(waiting) >= WAITING * processes:
                done, place = waiting.popleft()
                yield done.result(), place
        for done, place in waiting:
            yield done.result(), place


def _ask(idle: SimpleQueue[_Worker], start: int, end: int) -> Part:
    worker = idle.get()
    try:
        return worker.ask(start, end)
    finally:
        idle.put(worker)


class _Worker:
    """One process."""

    def __init__(self, spec: Path, path: Path):
        search = [str(Path(largeforge.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "largeforge.tokens.worker", str(spec), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={
                **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search)),
                "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
            },
        )  # fmt: skip

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, start: int, end: int) -> Part:
        """Return one part."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{start} {end}\n".encode())
            self._process.stdin.flush()
            size = int.from_bytes(_read(self._process.stdout, SIZE_BYTES), "big")
            part: Part = pickle.loads(_read(self._process.stdout, size))
        except (OSError, EOFError) as error:
            raise StageError(
                f"a process that tokenizes ended with exit code {self._process.wait()}; the log says why, and "
                "-9 is a kill, mostly for want of memory"
            ) from error
        return part


def _read(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _places(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Yield where parts begin and end: after a line break each."""
    start = 0
    with path.open("rb") as file:
        while start < size:
            file.seek(min(start + PART_BYTES, size))
            file.readline()
            yield start, file.tell()
            start = file.tell()
