"""Rows of a file as the requests of a load test: what each conversation asks, without its answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_text
from largeforge.data import messages
from largeforge.data.faults import Fault, RowError
from largeforge.data.readers import read
from largeforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Request = dict[str, Any]


def requests(path: str) -> list[Request]:
    """Return what the rows of a file ask.

    Raises DataError with file and line of the first row that asks nothing, and for a file without rows.
    """
    found = []
    for line, row in read(Path(path)):
        try:
            if isinstance(row, Fault):
                raise RowError(f"cannot be read: {row}")
            found.append(_request(row))
        except RowError as error:
            raise DataError(f"{path}:{line}: {error}") from None
    if not found:
        raise DataError(f"{path} has no rows to ask")
    return found


def write(given: Sequence[Request], path: Path, *, count: int, seed: int) -> None:
    """Write `count` requests in an order of chance, all of them before any comes again."""
    chance = random.Random(seed)
    chosen: list[Request] = []
    while len(chosen) < count:
        chosen += chance.sample(given, min(len(given), count - len(chosen)))
    write_text(path, "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in chosen))


def _request(row: Mapping[str, Any]) -> Request:
    given = row.get("messages", row.get("prompt"))
    if given is None:
        raise RowError("a row has `messages` or `prompt`")
    if isinstance(given, str):
        given = [{"role": "user", "content": messages.text(given, "prompt")}]
    found = messages.normalise(given, "messages" if "messages" in row else "prompt")
    while len(found) > 1 and found[-1]["role"] == "assistant":
        found.pop()
    if found[-1]["role"] == "assistant":
        raise RowError("messages are an answer, and no question comes before it")
    return {"messages": found, **({"tools": row["tools"]} if row.get("tools") else {})}
