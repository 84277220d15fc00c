"""A process that tokenizes parts of a file: `python -m largeforge.tokens.worker SPEC FILE`.

Reads `start end` (bytes) from standard input, one part a line, and writes each part to standard output as its size
in 8 bytes and a pickle of it. Ends with its input, so with whoever started it. Imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from largeforge.tokens.engine import FastEngine, Spec
from largeforge.tokens.parts import Wanted, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_BYTES = 8


def main(spec: str, path: str) -> None:
    """Answer requests until there are no more."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr
    given = json.loads(Path(spec).read_text(encoding="utf-8"))
    engine, wanted = FastEngine(Spec(**given["engine"])), Wanted(**given["wanted"])
    with Path(path).open("rb") as file:
        for request in sys.stdin.buffer:
            start, end = map(int, request.split())
            answer = pickle.dumps(tokenize(lines(file, start, end), engine, wanted), protocol=5)
            out.write(len(answer).to_bytes(SIZE_BYTES, "big") + answer)
            out.flush()


def lines(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield the lines between two places of a file."""
    file.seek(start)
    while start < end:
        line = file.readline()
        start += len(line)
        yield line


if __name__ == "__main__":
    main(*sys.argv[1:])
