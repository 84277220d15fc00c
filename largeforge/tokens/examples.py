"""Prepared rows in trl's own columns, for trainers that render conversations themselves.

Messages are stored as JSON, one by one: a table would give every tool call the arguments of all others, as nulls that
a chat template writes out.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from largeforge.tokens import rows, store
from largeforge.tokens.tokenized import file_sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.data.formats import Row

VERSION = 1
BATCH_ROWS = 1000
MESSAGES = ("messages", "prompt", "completion", "chosen", "rejected")


def written(path: Path, *, work: Path) -> Path:
    """Return the Arrow file with the rows of a prepared file, without where they came from."""
    key = {"version": VERSION, "file": file_sha256_of(path), "kind": "examples"}
    folder = store.store_folder(work, needed_bytes=2 * path.stat().st_size)
    return store.entry(folder, key, lambda file: _write(file, path), into=work / "datasets").data


def _write(file: store.Hashed, path: Path) -> dict[str, Any]:
    import pyarrow

    features = _features(path)
    schema = features.arrow_schema
    with (
        path.open(encoding="utf-8") as lines,
        pyarrow.ipc.new_stream(pyarrow.PythonFile(file, mode="w"), schema) as writer,
    ):
        stored = (_stored(rows.plain(json.loads(line)), schema.names) for line in lines)
        for batch in iter(lambda: list(islice(stored, BATCH_ROWS)), []):
            columns = [[row[name] for row in batch] for name in schema.names]
            arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
    return {}


def _features(path: Path) -> Any:
    """Return the columns of a file, by its first row; all its rows are of one kind."""
    from datasets import Features, Json, List, Value

    has_tools = False
    with path.open("rb") as lines:
        first: Row = json.loads(lines.readline())
        has_tools = "tools" in first or any(b'"tools":' in line for line in lines)
    found: dict[str, Any] = {}
    for name, value in rows.plain(first).items():
        if name in MESSAGES:
            found[name] = List(Json())
        elif name != "tools":
            found[name] = Value("bool" if isinstance(value, bool) else "string")
    return Features(found | ({"tools": Json()} if has_tools else {}))


def _stored(row: Row, names: list[str]) -> Row:
    found = {name: row.get(name) for name in names}
    for name in MESSAGES:
        if name in found:
            found[name] = [_json(message) for message in found[name] or []]
    if found.get("tools") is not None:
        found["tools"] = _json(found["tools"])
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _array(column: list[Any], kind: Any) -> Any:
    """Return a column as Arrow; JSON is text under another name, also within lists."""
    import pyarrow

    if isinstance(kind, pyarrow.ExtensionType):
        return pyarrow.ExtensionArray.from_storage(kind, pyarrow.array(column, kind.storage_type))
    if pyarrow.types.is_list(kind):
        sizes = [0]
        for items in column:
            sizes.append(sizes[-1] + len(items))
        values = _array([item for items in column for item in items], kind.value_type)
        return pyarrow.ListArray.from_arrays(pyarrow.array(sizes, pyarrow.int32()), values)
    return pyarrow.array(column, kind)


def first_rows(path: Path, count: int) -> Iterator[Row]:
    """Yield the first rows of a prepared file."""
    with path.open(encoding="utf-8") as lines:
        for line in islice(lines, count):
            yield json.loads(line)
