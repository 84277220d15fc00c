"""What the registry knows of a version, and its form in MLflow's tags and in the manifest.

Everything is in the tags of the version, so that listing reads no files; the manifest beside
the files repeats it, so that a folder that was copied away still says what it is.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Kind = Literal["model", "adapter"]

DIGEST_TAG = "largeforge.digest"
"""Tag with the digest of kind and files; a version without it was not registered by LargeForge."""

_PLAIN = ("recipe", "recipe_digest", "lock", "run_dir", "stage", "fingerprint", "chat_template")


@dataclass(frozen=True)
class GateResult:
    """One gate of the recipe, as it was judged."""

    metric: str
    condition: str
    value: float | None
    passed: bool


@dataclass(frozen=True)
class Lineage:
    """Where a version came from."""

    recipe: str
    recipe_digest: str
    lock: str
    data_sha256: dict[str, str] = field(default_factory=dict)
    """Name of a data file to its sha256."""
    parents: list[str] = field(default_factory=list)
    """References of the models it was made from, such as `registry:quickstart-general/1`."""
    run_dir: str = ""
    stage: str = ""
    fingerprint: str = ""
    chat_template: str = ""
    """sha256 of the chat template's text; empty for a model without one."""
    gates: list[GateResult] = field(default_factory=list)


@dataclass(frozen=True)
class VersionSummary:
    """A registered version without its files."""

    name: str
    version: int
    kind: Kind
    metrics: dict[str, float]
    lineage: Lineage
    aliases: tuple[str, ...]
    digest: str
    """Digest of kind and files: two versions with the same digest are the same model."""
    run_id: str
    """MLflow run that holds the metrics and, as its artifact `model`, the files."""
    source: str
    """URI of the files as MLflow records it."""

    @property
    def reference(self) -> str:
        """The model reference that means this version for ever."""
        return f"registry:{self.name}/{self.version}"

    @property
    def lock(self) -> str:
        """Digest of the lock of the run that made it."""
        return self.lineage.lock


@dataclass(frozen=True)
class ModelVersion(VersionSummary):
    """A registered version with its files."""

    path: Path
    """Folder on this machine whose files matched their sha256."""


@dataclass(frozen=True)
class RegisteredModel:
    """A name in the registry with its versions, oldest first."""

    name: str
    versions: list[VersionSummary]

    @property
    def aliases(self) -> dict[str, int]:
        """Alias to version."""
        return {alias: version.version for version in self.versions for alias in version.aliases}


def to_tags(kind: Kind, digest: str, lineage: Lineage, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the tags of a version; the plain ones are there for people and for MLflow's search."""
    plain = {f"largeforge.{key}": str(getattr(lineage, key)) for key in _PLAIN if getattr(lineage, key)}
    return {
        **plain,
        DIGEST_TAG: digest,
        "largeforge.kind": kind,
        "largeforge.lineage": json.dumps(lineage_json(lineage), ensure_ascii=False),
        "largeforge.metrics": json.dumps(metrics_json(metrics), ensure_ascii=False),
    }


def from_tags(
    *, name: str, version: int, tags: Mapping[str, str], aliases: tuple[str, ...], run_id: str, source: str
) -> VersionSummary:
    """Return the version that these tags describe."""
    return VersionSummary(
        name=name,
        version=version,
        kind="adapter" if tags["largeforge.kind"] == "adapter" else "model",
        metrics={key: float(value) for key, value in json.loads(tags["largeforge.metrics"]).items()},
        lineage=_lineage(json.loads(tags["largeforge.lineage"])),
        aliases=aliases,
        digest=tags[DIGEST_TAG],
        run_id=run_id,
        source=source,
    )


def lineage_json(lineage: Lineage) -> dict[str, Any]:
    """Return the lineage as strict JSON values."""
    gates = [{**asdict(gate), "value": _number(gate.value)} for gate in lineage.gates]
    return {**asdict(lineage), "gates": gates}


def metrics_json(metrics: Mapping[str, float]) -> dict[str, float | str | None]:
    """Return the metrics as strict JSON values; NaN and infinities become strings."""
    return {key: _number(value) for key, value in metrics.items()}


def _lineage(found: dict[str, Any]) -> Lineage:
    known = {item.name for item in fields(Lineage)}
    gates = [
        GateResult(
            gate["metric"], gate["condition"], None if gate["value"] is None else float(gate["value"]), gate["passed"]
        )
        for gate in found.get("gates", [])
    ]
    return Lineage(**{key: value for key, value in found.items() if key in known} | {"gates": gates})


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
