"""What the registry knows of a version, and its form in MLflow's tags and in the manifest.

Everything is in the tags of the version, so that listing reads no files; the manifest beside
the files repeats it, so that a folder that was copied away still says what it is. A seal over
what never changes tells when somebody changed it all the same; tags and notes of people may.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from largeforge import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_Parsed = TypeVar("_Parsed")
_Record = TypeVar("_Record", "GateResult", "Step", "Lineage")

Kind = Literal["model", "adapter"]

OWN = "largeforge."
"""How the tags that LargeForge writes begin; all of them are written once."""
DIGEST_TAG = f"{OWN}digest"
"""Tag with the digest of kind and files; a version without it was not registered by LargeForge."""
SEAL_TAG = f"{OWN}seal"
LOCK_TAG = f"{OWN}lock_sha256"
MAX_TAG = 5000
MAX_NOTES = 5000
"""Characters that every database of MLflow's keeps."""

_PLAIN = ("recipe", "recipe_digest", "lock", "run_dir", "stage", "fingerprint", "chat_template", "origin")


@dataclass(frozen=True)
class GateResult:
    """One gate of the recipe, as it was judged."""

    metric: str
    condition: str
    value: float | None
    passed: bool
    note: str = ""
    """What there is to say beyond yes or no, such as that there was no champion to compare with."""


@dataclass(frozen=True)
class Step:
    """A stage of a run that led to a version."""

    stage: str
    kind: str
    fingerprint: str


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
    parent_digests: dict[str, str] = field(default_factory=dict)
    """Reference of a parent to the digest of its files, where the registry knew it: what it means elsewhere."""
    steps: list[Step] = field(default_factory=list)
    """Stages of the run from data to these files, the first one first."""
    origin: str = ""
    """Where it was taken from when it was not made here: another registry's version, or a commit of the hub."""


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
    tags: dict[str, str] = field(default_factory=dict, kw_only=True)
    """Words of people; they may change."""
    notes: str = field(default="", kw_only=True)
    """Text of people; it may change."""
    created: float = field(default=0.0, kw_only=True)
    """When it was registered, in seconds since 1970."""
    seal: str = field(default="", kw_only=True)
    """Digest of all that never changes; empty for a version from before there were seals."""
    lock_sha256: str = field(default="", kw_only=True)
    """Digest of the whole lock beside the files, with what its own digest does not cover."""

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


def to_tags(
    kind: Kind, digest: str, lineage: Lineage, metrics: Mapping[str, float], lock: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return the tags of a version; the plain ones are there for people and for MLflow's search."""
    plain = {f"{OWN}{key}": str(getattr(lineage, key)) for key in _PLAIN if getattr(lineage, key)}
    found = {
        **plain,
        DIGEST_TAG: digest,
        f"{OWN}kind": kind,
        f"{OWN}lineage": json.dumps(lineage_json(lineage), ensure_ascii=False),
        f"{OWN}metrics": json.dumps(metrics_json(metrics), ensure_ascii=False),
        LOCK_TAG: lock_digest(lock) if lock else "",
    }
    return {**found, SEAL_TAG: seal_of(found)}


def lock_digest(lock: Mapping[str, Any]) -> str:
    """Return the digest of a lock with all that stands beside its own one."""
    return artifacts.digest(dict(lock))


def seal_of(tags: Mapping[str, str]) -> str:
    """Return the seal that these tags must have."""
    parts = {name: json.loads(tags[f"{OWN}{name}"]) for name in ("lineage", "metrics")}
    plain = {name: tags.get(name, "") for name in (DIGEST_TAG, f"{OWN}kind", LOCK_TAG)}
    return artifacts.digest({**parts, **plain})


def changed(tags: Mapping[str, str]) -> str:
    """Return what is wrong with tags that somebody changed after they were sealed; empty for sound ones."""
    try:
        if SEAL_TAG not in tags or tags[SEAL_TAG] == seal_of(tags):
            return ""
    except (KeyError, ValueError):
        pass
    return "its lineage, metrics or lock in the database were changed after it was registered"


def from_tags(
    *,
    name: str,
    version: int,
    tags: Mapping[str, str],
    aliases: tuple[str, ...],
    run_id: str,
    source: str,
    notes: str = "",
    created: float = 0.0,
) -> VersionSummary:
    """Return the version that these tags describe; what somebody spoilt there is left out, and breaks the seal."""
    return VersionSummary(
        name=name,
        version=version,
        kind="adapter" if tags.get(f"{OWN}kind") == "adapter" else "model",
        metrics=_parsed(tags, "metrics", metrics_from) or {},
        lineage=_parsed(tags, "lineage", lineage_from) or Lineage("", "", ""),
        aliases=aliases,
        digest=tags[DIGEST_TAG],
        run_id=run_id,
        source=source,
        tags={key: value for key, value in tags.items() if not key.startswith((OWN, "mlflow."))},
        notes=notes,
        created=created,
        seal=tags.get(SEAL_TAG, ""),
        lock_sha256=tags.get(LOCK_TAG, ""),
    )


def lineage_json(lineage: Lineage) -> dict[str, Any]:
    """Return the lineage as strict JSON values."""
    gates = [{**asdict(gate), "value": _number(gate.value)} for gate in lineage.gates]
    return {**asdict(lineage), "gates": gates}


def metrics_json(metrics: Mapping[str, float]) -> dict[str, float | str | None]:
    """Return the metrics as strict JSON values; NaN and infinities become strings."""
    return {key: _number(value) for key, value in metrics.items()}


def metrics_from(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that `metrics_json` wrote."""
    return {key: float(value) for key, value in found.items()}


def lineage_from(found: Mapping[str, Any]) -> Lineage:
    """Return the lineage that `lineage_json` wrote; what a later LargeForge added is left out."""
    gates = [
        _made(GateResult, {**gate, "value": None if gate["value"] is None else float(gate["value"])})
        for gate in found.get("gates", [])
    ]
    steps = [_made(Step, step) for step in found.get("steps", [])]
    return _made(Lineage, {**found, "gates": gates, "steps": steps})


def _parsed(tags: Mapping[str, str], name: str, made: Callable[[dict[str, Any]], _Parsed]) -> _Parsed | None:
    try:
        return made(json.loads(tags[f"{OWN}{name}"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _made(kind: type[_Record], found: Mapping[str, Any]) -> _Record:
    known = {item.name for item in fields(kind)}
    return kind(**{key: value for key, value in found.items() if key in known})


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
