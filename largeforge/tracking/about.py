"""What trackers are told of a run, from the files of its directory."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from largeforge import events
from largeforge.errors import TrackingError
from largeforge.recipe.tracking import About, File
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from largeforge.recipe.tracking import Value

_SECRET = re.compile(
    r"(^|[._-])(api[_-]?key|access[_-]?key|token|secret|password|passwd|credentials?)s?$", re.IGNORECASE
)
_MAX_TEXT = 5000


def about(run_dir: Path) -> About:
    """Return what the run is.

    Raises TrackingError for a folder that holds no run.
    """
    lock, plan = _read(run_dir / "lock.json"), _read(run_dir / "plan.json")
    recipe = lock.get("recipe") or {}
    stages = [stage for stage in plan.get("stages") or [] if isinstance(stage, dict)]
    return About(
        run=run_dir.name,
        recipe=str(recipe.get("name") or run_dir.parent.name),
        description=str(recipe.get("description") or ""),
        lock=str(lock.get("digest") or ""),
        params=dict(flat(without_passwords(recipe))),
        trainings={str(stage["name"]): str(stage["job"]) for stage in stages if stage.get("kind") == "train"},
        started=_began(run_dir / "events.jsonl"),
    )


def files(run_dir: Path, known: About) -> list[File]:
    """Return the files that are kept with the tracked runs: the report, and the card of each model."""
    found = [File("", run_dir / "report.html")]
    found += [File(stage, run_dir / stage / "out" / "README.md") for stage in known.trainings]
    return [file for file in found if file.path.is_file()]


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield the leaves of nested data with their paths; what is empty, or named like a secret, is left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        if value:
            yield prefix, json.dumps(value, ensure_ascii=False)[:_MAX_TEXT]
    elif isinstance(value, int | float):
        yield prefix, value
    elif value and not _SECRET.search(prefix):
        yield prefix, str(value)[:_MAX_TEXT]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrackingError(f"{path.parent} cannot be tracked: {path.name} cannot be read ({error})") from error
    return found if isinstance(found, dict) else {}


def _began(path: Path) -> float:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = events.decode(next(lines, ""))
    except OSError:
        return 0.0
    time = (first or {}).get("time")
    return float(time) if isinstance(time, int | float) else 0.0
