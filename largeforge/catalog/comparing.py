"""Two versions side by side: lineage, data, metrics, gates, files, and what differs in their locks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from largeforge.catalog import describe
from largeforge.compare.differences import Comparison, compare
from largeforge.compare.view import as_dict as lock_dict
from largeforge.recorded import Recorded, StageResult
from largeforge.registry import files
from largeforge.registry.records import metrics_json

if TYPE_CHECKING:
    from largeforge.registry import ModelRegistry
    from largeforge.registry.records import VersionSummary

_LINEAGE = ("recipe", "recipe_digest", "lock", "stage", "fingerprint", "chat_template", "origin")


@dataclass(frozen=True)
class Row:
    """One thing that differs; None where one side does not have it."""

    section: str
    """lineage, data, metrics, gates or files."""
    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class VersionDifference:
    """Two versions compared."""

    a: VersionSummary
    b: VersionSummary
    rows: list[Row]
    lock: Comparison | None
    """What differs in the locks; None where a version has none."""

    @property
    def same_files(self) -> bool:
        """Whether they are the same model, byte for byte."""
        return self.a.digest == self.b.digest

    @property
    def same(self) -> bool:
        """Whether nothing differs that says what they are; run directories are places and do not count."""
        return not self.rows and (self.lock is None or self.lock.same)


def difference(registry: ModelRegistry, a: VersionSummary, b: VersionSummary) -> VersionDifference:
    """Compare two versions.

    Raises RegistryError when a manifest or a lock is damaged.
    """
    left, right = _sheet(registry, a), _sheet(registry, b)
    rows = [
        *_rows("lineage", _lineage(a), _lineage(b)),
        *_rows("data", a.lineage.data_sha256, b.lineage.data_sha256),
        *_rows("metrics", metrics_json(a.metrics), metrics_json(b.metrics)),
        *_rows("gates", _gates(a), _gates(b)),
        *_rows("files", left, right),
    ]
    locked_a, locked_b = registry.lock(a), registry.lock(b)
    lock = None
    if locked_a and locked_b:
        lock = compare(_recorded(a, locked_a, left), _recorded(b, locked_b, right))
    return VersionDifference(a, b, rows, lock)


def as_dict(found: VersionDifference) -> dict[str, Any]:
    """Return the comparison as plain data."""
    return {
        "same": found.same,
        "same_files": found.same_files,
        "a": found.a.reference,
        "b": found.b.reference,
        "differences": [asdict(row) for row in found.rows],
        "lock": lock_dict(found.lock) if found.lock else None,
    }


def _rows(section: str, a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    keys = dict.fromkeys([*a, *b])
    return [Row(section, key, a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)]


def _lineage(version: VersionSummary) -> dict[str, Any]:
    plain = {key: getattr(version.lineage, key) for key in _LINEAGE if getattr(version.lineage, key)}
    parents = {"parents": ", ".join(version.lineage.parents)} if version.lineage.parents else {}
    return {"kind": version.kind, **plain, **parents}


def _gates(version: VersionSummary) -> dict[str, Any]:
    return {
        f"{gate.metric} {gate.condition}": " ".join(
            ([] if gate.value is None else [f"{gate.value:.6g}"]) + [describe.gate(gate)]
        )
        for gate in version.lineage.gates
    }


def _sheet(registry: ModelRegistry, version: VersionSummary) -> dict[str, str]:
    """Return the sha256 of each file of a version, by its name."""
    with registry.database.reading() as client:
        content = registry.storage.read(client, version, files.MANIFEST)
    sheet = files.parse_sheet(content or b"", source=files.MANIFEST, reference=version.reference)
    return {name: entry.sha256 for name, entry in sheet.files.items()}


def _recorded(version: VersionSummary, lock: dict[str, Any], hashes: dict[str, str]) -> Recorded:
    name = version.lineage.stage
    job, _, kind = name.rpartition(".")
    judge = f"{job}.evaluate" if job else "evaluate"
    stages = {name: StageResult(kind, hashes, {}), judge: StageResult("evaluate", {}, version.metrics)}
    return Recorded(version.reference, json.loads(json.dumps(lock)), None, stages, name)
