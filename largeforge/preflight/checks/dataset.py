"""Data files are there, readable, and their first rows are what the method wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import DataError
from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.plan import Stage
    from largeforge.preflight.context import Context

QUICK = True
_ROWS = 20
"""Rows that are looked at; the stage `prepare` reads all."""


def check(context: Context) -> Iterator[Finding]:
    """Read the first rows of each data file that a stage still needs."""
    stages = [stage for stage in context.pending if stage.kind == "prepare"]
    if not stages:
        yield skipped("no data is still to be read")
    seen: set[tuple[str, str, str]] = set()
    for stage in stages:
        dataset = stage.config["dataset"]
        for key in ("path", "heldout_path"):
            identity = (dataset[key], dataset["format"], stage.config["kind"])
            if dataset[key] and identity not in seen:
                seen.add(identity)
                yield _file(stage, dataset, key)


def _file(stage: Stage, dataset: dict[str, Any], key: str) -> Finding:
    path = Path(dataset[key])
    try:
        form, count = _read(path, stage, dataset, max_rows=_ROWS)
    except DataError:
        try:
            form, count = _read(path, stage, dataset, max_rows=dataset["max_rows"])  # to name all that is wrong
        except DataError as fault:
            return error(_one_line(fault), _cure(path, stage, key))
    return ok(f"{path}: the first {count} rows are {form}")


def _read(path: Path, stage: Stage, dataset: dict[str, Any], *, max_rows: int) -> tuple[str, int]:
    """Return the form of a file and how many rows were read; raises DataError for rows that cannot be used."""
    from largeforge.data.checks import CheckedFile

    file = CheckedFile(
        path, form=dataset["format"], kind=stage.config["kind"], system=dataset["system"], max_rows=max_rows
    )
    return file.form, sum(1 for _ in file.rows())


def _one_line(fault: DataError) -> str:
    """Return the message without the list of allowed forms."""
    lines = [line.strip() for line in str(fault).partition("\nAllowed")[0].splitlines()]
    return "; ".join(lines).replace(":;", ":").rstrip(".")


def _cure(path: Path, stage: Stage, key: str) -> str:
    override = f"{'' if '.' not in stage.name else f'jobs.{stage.job}.'}dataset.{key}=FILE"
    return f"head -c 300 {path}; or choose another file with {override}" if path.is_file() else override
