"""Stage `prepare`: read a dataset, check every row, split off what is held out, write both.

Leaves `train.jsonl` and `heldout.jsonl`: normalised rows, each with its `source` (`file:line`).
No tokenizer is involved; lengths in tokens are checked where the model is (`data/lengths.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.data.checks import CheckedFile
from largeforge.data.formats import Kind
from largeforge.data.overlap import EarlierTurns, GivenHeldout
from largeforge.data.splits import Splitter
from largeforge.data.writers import RowWriter, rewrite_without
from largeforge.errors import DataError
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Dataset
from largeforge.stages.context import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.data.formats import Row
    from largeforge.stages.context import Context

PROGRESS_ROWS = 20_000
"""Rows between two progress events: about half a second."""


class Config(Strict):
    """What to prepare, and for which kind of method."""

    dataset: Dataset
    """The recipe's dataset with absolute paths."""
    kind: Kind
    """What the method trains on, `DATA_KIND` of its module."""
    judged: bool = False
    """Whether the model is judged on the held-out rows, so that there must be some."""


@dataclass(frozen=True)
class Output:
    """The two files that the stage writes."""

    train: RowWriter
    heldout: RowWriter


def run(config: Config, context: Context) -> Result:
    """Write the prepared rows.

    Raises DataError with all bad rows of a file, StageError when the rows cannot be written.
    """
    dataset = config.dataset
    train_file = _open(config, dataset.path, max_rows=dataset.max_rows)
    heldout_file = _open(config, dataset.heldout_path) if dataset.heldout_path else None
    splitter = Splitter(dataset.heldout_fraction, system=dataset.system)
    needed_bytes = sum(file.path.stat().st_size for file in (train_file, heldout_file) if file)
    leaks: set[int] = set()
    with (
        RowWriter(context.out / "train.jsonl", needed_bytes=needed_bytes) as train,
        RowWriter(context.out / "heldout.jsonl", needed_bytes=needed_bytes) as heldout,
    ):
        output = Output(train, heldout)
        if heldout_file:
            _copy(train_file, heldout_file, output, splitter=splitter, context=context)
        else:
            leaks = _split(train_file, output, splitter=splitter, context=context)
    if leaks:
        output = Output(rewrite_without(train, leaks), heldout)
    _check_size(config, output)
    for text in _notes(config, train_file.form, output, removed=len(leaks)):
        context.events.emit("note", text=text)
    return _result(train_file.form, output)


def _open(config: Config, path: str, *, max_rows: int = 0) -> CheckedFile:
    dataset = config.dataset
    return CheckedFile(Path(path), form=dataset.format, kind=config.kind, system=dataset.system, max_rows=max_rows)


def _split(file: CheckedFile, output: Output, *, splitter: Splitter, context: Context) -> set[int]:
    """Part a file by the hash of the prompt; return the training rows that leak a held-out prompt."""
    turns = EarlierTurns(splitter)
    for source, row in _with_progress(file, context):
        keys = splitter.keys(row)
        if splitter.is_heldout(keys.prompt):
            turns.add_heldout(keys)
            output.heldout.write(row, source)
        else:
            turns.add_train(output.train.rows, keys)
            output.train.write(row, source)
    return turns.leaks()


def _copy(
    train_file: CheckedFile, heldout_file: CheckedFile, output: Output, *, splitter: Splitter, context: Context
) -> None:
    """Copy two given files whole; raise DataError when a training row leaks a held-out prompt."""
    given = GivenHeldout(heldout_file.path)
    for source, row in _with_progress(heldout_file, context):
        given.add(source, splitter.keys(row))
        output.heldout.write(row, source)
    for source, row in _with_progress(train_file, context):
        given.check(source, splitter.keys(row))
        output.train.write(row, source)
    given.raise_if_any(train_file.path)
    if given.earlier_turns:
        text = f"rows of {train_file.path.name} with a held-out prompt in an earlier turn: {given.earlier_turns} "
        context.events.emit("note", text=text + "(held-out results flatter a method that learns earlier turns)")


def _with_progress(file: CheckedFile, context: Context) -> Iterator[tuple[str, Row]]:
    """Pass the rows on and emit progress; the rows of a small file are never counted."""
    total = 0
    for step, item in enumerate(file.rows(), start=1):
        if step % PROGRESS_ROWS == 0:
            total = total or file.count_rows()
            context.events.emit("progress", step=step, total=total, unit="rows")
        yield item


def _check_size(config: Config, output: Output) -> None:
    if not output.train.rows:
        raise DataError(
            f"{config.dataset.path}: no rows are left to train on, since {output.heldout.rows} are held out at "
            f"dataset.heldout_fraction = {config.dataset.heldout_fraction}; add rows, or set it to 0"
        )
    if config.judged and not output.heldout.rows:
        total = output.train.rows
        raise DataError(
            f"{config.dataset.path}: none of its {total} rows is held out at dataset.heldout_fraction = "
            f"{config.dataset.heldout_fraction}, and the model is to be judged on held-out rows; add rows, give "
            "dataset.heldout_path, or hold out more, such as dataset.heldout_fraction=0.3"
        )


def _notes(config: Config, form: str, output: Output, *, removed: int) -> Iterator[str]:
    name, train, heldout = Path(config.dataset.path).name, output.train, output.heldout
    yield (
        f"{name} ({form}): {train.rows} rows to train on ({train.characters} characters), "
        f"{heldout.rows} held out ({heldout.characters} characters)"
    )
    if removed:
        yield f"rows of {name} with a held-out prompt in an earlier turn, removed from training: {removed}"
    fraction = config.dataset.heldout_fraction
    if not heldout.rows and fraction > 0:
        yield f"no row of {name} is held out: {train.rows} rows are too few for heldout_fraction = {fraction}"


def _result(form: str, output: Output) -> Result:
    metrics = {
        "train_rows": float(output.train.rows),
        "heldout_rows": float(output.heldout.rows),
        "train_characters": float(output.train.characters),
        "heldout_characters": float(output.heldout.characters),
    }
    digests = {writer.path.name: writer.sha256 for writer in (output.train, output.heldout)}
    return Result(metrics=metrics, info={"sha256": digests, "format": form})
