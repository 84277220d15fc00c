"""Reads a run directory for the report, taking whatever is there.

Files may be missing, cut off, or hold anything; what cannot be read is left out, and nothing that
is read is trusted: escaping is the business of those who write HTML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge import events

if TYPE_CHECKING:
    from pathlib import Path

Mapping = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run directory."""

    run_dir: Path
    events: list[Mapping]
    """Events in the order in which they were written."""
    plan: Mapping
    lock: Mapping
    recipe: str
    """`recipe.yaml` as it stands."""
    manifests: dict[str, Mapping]
    """Manifests by stage."""
    recorded: dict[str, list[Mapping]]
    """By stage, what the stage itself reported; for a reused stage, in the run that it comes from."""


def read(run_dir: Path) -> RunFiles:
    """Return what a run directory holds."""
    manifests = [(path.parent.name, _mapping(path)) for path in sorted(run_dir.glob("*/manifest.json"))]
    return RunFiles(
        run_dir=run_dir,
        events=_events(run_dir / "events.jsonl"),
        plan=_mapping(run_dir / "plan.json"),
        lock=_mapping(run_dir / "lock.json"),
        recipe=_text(run_dir / "recipe.yaml"),
        recorded={path.parent.name: _events(path) for path in sorted(run_dir.glob("*/events.jsonl"))},
        manifests={str(manifest.get("stage") or folder): manifest for folder, manifest in manifests if manifest},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mapping(path: Path) -> Mapping:
    try:
        value = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _events(path: Path) -> list[Mapping]:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return [event for line in lines if (event := _event(line)) is not None]
    except OSError:
        return []


def _event(line: str) -> Mapping | None:
    try:
        return events.decode(line)
    except RecursionError:
        return None


def mapping(value: object) -> Mapping:
    """Return a value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
