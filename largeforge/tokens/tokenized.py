"""A prepared file as an Arrow file of token ids: from the store, or made now."""

from __future__ import annotations

import time
from array import array
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge.artifacts import digest, read_manifest
from largeforge.cache import cached_sha256
from largeforge.data import lengths
from largeforge.data.bad_rows import Problems
from largeforge.tokens import pool, store
from largeforge.tokens.engine import FastEngine
from largeforge.tokens.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from largeforge.tokens.engine import Engine
    from largeforge.tokens.parts import Part, Wanted

VERSION = 1
"""Of the way of tokenizing; another one makes earlier entries void."""
GROWTH = 3
"""Bytes of token ids and labels for each byte of text, at most about: 8 for each token."""
QUIET_S = 3.0
"""Time after which progress is reported, and between two reports."""


@dataclass(frozen=True)
class Tokenized:
    """An Arrow file with the columns of its kind (`rows.COLUMNS`)."""

    data: Path
    lengths: lengths.Lengths
    histogram: list[tuple[int, int, int]]
    overhanging: int
    """Rows whose prompt is tokenized differently once the answer follows."""
    key: str


def tokenized(
    path: Path, engine: Engine, wanted: Wanted, *, work: Path, report: Callable[[int, int], None]
) -> Tokenized:
    """Return the tokens of a prepared file.

    `work` is the run's own folder; `report` is told how many rows of about how many are done, when it takes long.
    Raises DataError with the rows that cannot be rendered or are too long, StageError when there is no room.
    """
    kind, learn, limit = wanted.kind, wanted.learn, wanted.limit
    key = {
        "version": VERSION, "file": file_sha256_of(path), "kind": kind, "learn": learn, "engine": engine_key(engine),
    }  # fmt: skip
    folder = work / "tokens"
    if isinstance(engine, FastEngine):  # what another tokenizer does is not known well enough to be found again
        folder = store.store_folder(work, needed_bytes=GROWTH * path.stat().st_size)
    folder.mkdir(parents=True, exist_ok=True)
    found = store.entry(folder, key, lambda file: _write(file, path, engine, wanted, report), into=work / "datasets")
    about = found.about
    described = lengths.Lengths(**about["lengths"])
    if limit and described.max > limit:  # made for a larger limit
        long = (found for part in _reported(path, engine, wanted, report) for found in part.too_long)
        lengths.refuse(long, limit, described.max)
    histogram = [(low, high, rows) for low, high, rows in about["histogram"]]
    return Tokenized(found.data, described, histogram, about["overhanging"], digest(key))


def engine_key(engine: Engine) -> dict[str, str]:
    """Return what identifies how an engine makes tokens."""
    versions = {name: metadata.version(name) for name in ("tokenizers", "jinja2", "transformers")}
    if isinstance(engine, FastEngine):
        return {"largeforge": largeforge.__version__, "spec": digest(asdict(engine.spec)), **versions}
    return {"largeforge": largeforge.__version__, "spec": type(engine).__name__, **versions}


def file_sha256_of(path: Path) -> str:
    """Return the hash of a prepared file: from its stage's manifest, where that is about this very file."""
    manifest = read_manifest(path.parent.parent)
    known = manifest.files.get(path.name) if manifest else None
    if known and known["size"] == path.stat().st_size:
        return str(known["sha256"])
    return cached_sha256(path)


def _write(
    file: store.Hashed, path: Path, engine: Engine, wanted: Wanted, report: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write the Arrow file; return what the entry says of it."""
    import pyarrow

    schema = _schema(wanted)
    measured, overhanging = array("q"), 0
    too_long: list[tuple[str, int]] = []
    bad: list[tuple[str, str]] = []
    with pyarrow.ipc.new_stream(pyarrow.PythonFile(file, mode="w"), schema) as writer:
        for part in _reported(path, engine, wanted, report):
            measured.extend(part.lengths)
            overhanging += part.overhanging
            too_long += part.too_long
            bad += part.bad
            if not (too_long or bad):
                writer.write_batch(_batch(part, schema))
    _refuse(bad)
    lengths.refuse(too_long, wanted.limit, max(measured, default=0))
    described = asdict(lengths.describe(measured))
    return {"lengths": described, "histogram": lengths.histogram(measured), "overhanging": overhanging}


def _reported(path: Path, engine: Engine, wanted: Wanted, report: Callable[[int, int], None]) -> Iterator[Part]:
    size, done, told = max(path.stat().st_size, 1), 0, time.monotonic()
    for part, place in pool.parts(path, engine, wanted, processes=pool.cores()):
        yield part
        done += len(part.lengths) + len(part.bad)
        if time.monotonic() - told >= QUIET_S:
            told = time.monotonic()
            report(done, done if place >= size else round(done * size / place))


def _refuse(bad: list[tuple[str, str]]) -> None:
    problems = Problems()
    for source, reason in bad:
        problems.add(source, reason)
    problems.raise_if_any(
        "cannot be written out as the model reads them",
        "Correct the rows, or give another template in model.chat_template; `largeforge data show` shows the result.",
    )


def _schema(wanted: Wanted) -> Any:
    import pyarrow

    fields = [(name, pyarrow.list_(pyarrow.int32())) for name in COLUMNS[wanted.kind]]
    return pyarrow.schema([*fields, ("label", pyarrow.bool_())] if wanted.kind == "unpaired" else fields)


def _batch(part: Part, schema: Any) -> Any:
    import numpy
    import pyarrow

    found = []
    for ids, sizes in zip(part.columns, part.sizes, strict=True):
        offsets = numpy.zeros(len(sizes) + 1, dtype=numpy.int32)
        numpy.cumsum(numpy.frombuffer(sizes, dtype=numpy.int64), out=offsets[1:])
        values = pyarrow.Array.from_buffers(pyarrow.int32(), len(ids), [None, pyarrow.py_buffer(ids)])
        found.append(pyarrow.ListArray.from_arrays(pyarrow.array(offsets), values))
    if "label" in schema.names:
        found.append(pyarrow.array(numpy.frombuffer(part.flags, dtype=numpy.int8).astype(bool)))
    return pyarrow.RecordBatch.from_arrays(found, schema=schema)
