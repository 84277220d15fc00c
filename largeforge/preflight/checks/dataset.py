"""Data files are there, readable, and their first rows are what the method wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import DataError
from largeforge.files import content, remote
from largeforge.files.paths import is_remote
from largeforge.os_errors import mebibytes
from largeforge.preflight.finding import Finding, error, ok, skipped, warning
from largeforge.recipe.schema import Dataset, Source

if TYPE_CHECKING:
    from largeforge.data.formats import Kind
    from largeforge.files.paths import DataFile
    from largeforge.plan import Stage
    from largeforge.preflight.context import Context

QUICK = True
_ROWS = 20
"""Rows that are looked at in a file; the stage `prepare` reads all."""
_FILES = 16
"""Files of a source that are looked into."""


def check(context: Context) -> Iterator[Finding]:
    """Read the first rows of each data file that a stage still needs."""
    stages = [stage for stage in context.pending if stage.kind == "prepare"]
    if not stages:
        yield skipped("no data is still to be read")
    seen: list[tuple[Source, str]] = []
    for stage in stages:
        dataset, kind = Dataset.model_validate(stage.config["dataset"]), stage.config["kind"]
        sources = {f"mix.{name}.path" if name else "path": source for name, source in dataset.sources.items()}
        if dataset.heldout_source:
            sources["heldout_path"] = dataset.heldout_source
        for key, source in sources.items():
            if (source, kind) not in seen:
                seen.append((source, kind))
                yield from _source(stage, source, key, skip=dataset.on_error == "skip")


def _source(stage: Stage, source: Source, key: str, *, skip: bool) -> Iterator[Finding]:
    for address in filter(is_remote, content.as_list(source.path)):
        yield _address(stage, address, key)
    local = [path for path in content.as_list(source.path) if not is_remote(path)]
    if not local:
        return
    try:
        files = content.local_files(local) or []
    except DataError as fault:
        yield error(str(fault), _cure(Path(local[0]), stage, key))
        return
    step = -(-len(files) // _FILES)
    findings = [_file(stage, source, file, key, skip=skip) for file in files[::step]]
    bad = [finding for finding in findings if finding.level == "error"]
    if bad or len(files) == 1:
        yield from bad or findings
        return
    yield ok(f"{', '.join(local)}: {len(files)} files, the first rows of {len(findings)} can be used")


def _address(stage: Stage, address: str, key: str) -> Finding:
    try:
        version = remote.version_of(address)
        files = content.local_files(address)
        size = mebibytes(content.size_bytes(address))
    except DataError as fault:
        return error(_one_line(fault), f"{_override(stage, key)}; credentials stand in the environment")
    if files is None and version.fault:
        return error(f"{version.fault}, and there is no whole copy here", _override(stage, key))
    if version.fault:
        return warning(f"{version.fault}; the copy that is here will be used", "try again once it can be reached")
    return ok(f"{address}: {'a copy is here' if files else f'{size} will be downloaded'}")


def _file(stage: Stage, source: Source, file: DataFile, key: str, *, skip: bool) -> Finding:
    kind: Kind = stage.config["kind"]
    try:
        form, count, bad = _read(file, source, kind, max_rows=_ROWS, skip=skip)
    except DataError:
        try:
            form, count, bad = _read(
                file, source, kind, max_rows=source.max_rows, skip=skip
            )  # to name all that is wrong
        except DataError as fault:
            return error(_one_line(fault), _cure(file.path, stage, key))
    some = f", {bad} others will be skipped" if bad else ""
    return ok(f"{file.path}: the first {count} rows are {form}{some}")


def _read(file: DataFile, source: Source, kind: Kind, *, max_rows: int, skip: bool) -> tuple[str, int, int]:
    """Return form, good and bad rows of a file's beginning; raises DataError for rows that cannot be used."""
    from largeforge.data.bad_rows import Counted, Refused
    from largeforge.data.checks import CheckedSource

    bad = Counted() if skip else Refused()
    limited = source.model_copy(update={"max_rows": max_rows, "path": str(file.path)})
    checked = CheckedSource(limited, [file], kind, bad=bad)
    count = sum(1 for _ in checked.rows())
    return checked.form, count, bad.count


def _one_line(fault: DataError) -> str:
    """Return the message without the list of allowed forms."""
    lines = [line.strip() for line in str(fault).partition("\nAllowed")[0].splitlines()]
    return "; ".join(lines).replace(":;", ":").rstrip(".")


def _cure(path: Path, stage: Stage, key: str) -> str:
    override = _override(stage, key)
    return f"head -c 300 {path}; or choose another file with {override}" if path.is_file() else override


def _override(stage: Stage, key: str) -> str:
    return f"{'' if '.' not in stage.name else f'jobs.{stage.job}.'}dataset.{key}=FILE"
