"""From a served answer back to how its model was made: run, recipe, commit, data, gate report, registered versions.

What is traced is always the lock of a run. A clue leads to it: the digest of the lock, or its beginning, as answers
carry it (`x-largeforge-lock`), a registered version, or the id of a request (`x-request-id`). Another kind of clue is
one more function in `CLUES`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.catalog import describe
from largeforge.errors import LargeForgeError, RecipeError, RegistryError, listed
from largeforge.recipe import lock as locks
from largeforge.registry.chain import Link, chain
from largeforge.registry.rollouts import history
from largeforge.runs import LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from largeforge.registry import ModelRegistry
    from largeforge.registry.audit import Entry
    from largeforge.registry.records import VersionSummary

_DIGEST = re.compile("[0-9a-f]{8,64}")
_REQUEST = re.compile("[A-Za-z0-9._-]{1,128}")
_GATEWAY_LOGS = "*/*/serve/work/logs/gateway*.log"
_REPORTS = ("report.html", "*gate/out/evaluation.json", "*evaluate/out/evaluation.json")
"""What a run directory holds of how its models were judged."""


@dataclass(frozen=True)
class Places:
    """Where to look."""

    root: Path
    """Folder of all runs."""
    registry: ModelRegistry


@dataclass(frozen=True)
class Trace:
    """What is known of one lock."""

    lock: str
    """Its digest."""
    clue: str
    """What led to it."""
    runs: list[Path] = field(default_factory=list)
    """Run directories on this machine, the newest first."""
    content: dict[str, Any] = field(default_factory=dict)
    """The lock itself; empty when neither a run nor a version has it."""
    reports: list[Path] = field(default_factory=list)
    versions: list[VersionSummary] = field(default_factory=list)
    chains: list[Link] = field(default_factory=list)
    """The chain of each version."""
    history: list[Entry] = field(default_factory=list)
    """What became of the versions since, the first first: aliases that they got and lost, and why."""
    damage: str = ""
    """What could not be read."""

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        named = self.content.get("recipe", {}).get("name") or next((v.lineage.recipe for v in self.versions), "")
        return str(named)

    @property
    def git(self) -> dict[str, Any]:
        """Commit of the repository that the recipe was in, and whether it had other changes; empty without one."""
        found = (self.content.get("origin") or {}).get("git") or {}
        return dict(found) if isinstance(found, dict) else {}

    @property
    def data(self) -> dict[str, str]:
        """Path, or prepared file, to its sha256."""
        stated = {str(path): str(sha256) for path, sha256 in (self.content.get("datasets") or {}).items()}
        prepared = {name: sha256 for each in self.versions for name, sha256 in each.lineage.data_sha256.items()}
        return {**stated, **prepared}


def trace(text: str, places: Places) -> Trace:
    """Return what is known of the lock that `text` leads to.

    Raises RecipeError when it leads nowhere, or to several.
    """
    found: dict[str, str] = {}
    for what, look in CLUES.items():
        for digest in look(text, places):
            found.setdefault(digest, what)
    if not found:
        kinds = "the digest of a lock (8 characters or more), registry:NAME/3, or the x-request-id of an answer"
        raise RecipeError(f"{text}: no run in {places.root} and no registered version leads there; give {kinds}.")
    if len(found) > 1:
        raise RecipeError(f"{text}: several locks begin so: {listed(each[:16] for each in found)}. Give more of it.")
    digest, clue = next(iter(found.items()))
    return _of(digest, clue, places)


def as_dict(found: Trace) -> dict[str, Any]:
    """Return a trace as plain data."""
    return {
        "lock": found.lock,
        "clue": found.clue,
        "recipe": found.recipe,
        "git": found.git,
        "packs": (found.content.get("origin") or {}).get("packs") or {},
        "data": found.data,
        "models": found.content.get("models") or {},
        "runs": [str(path) for path in found.runs],
        "reports": [str(path) for path in found.reports],
        "versions": [describe.version(version) for version in found.versions],
        "chains": [describe.link(link) for link in found.chains],
        "history": [asdict(entry) for entry in found.history],
        "damage": found.damage,
    }


def _by_lock(text: str, places: Places) -> Iterable[str]:
    """Look for locks whose digest begins so, in runs and in the registry."""
    if not _DIGEST.fullmatch(text):
        return []
    runs = [_digest(path) for path in places.root.glob(f"*/*-{text[:8]}*/{LOCK}")]
    runs += [_digest(path) for path in places.root.glob(f"reproduced/*/*-{text[:8]}*/{LOCK}")]
    return [digest for digest in [*runs, *(version.lock for version in _all(places))] if digest.startswith(text)]


def _by_model(text: str, places: Places) -> Iterable[str]:
    """Look for a registered version."""
    from largeforge.catalog.words import reference

    if not text.startswith("registry:"):
        return []
    version = places.registry.find(reference(text))
    if not version.lock:
        raise RegistryError(
            f"{version.reference} was registered without a lock: python -m largeforge models show {text}"
        )
    return [version.lock]


def _by_request(text: str, places: Places) -> Iterable[str]:
    """Look for the id of a request in what the gateways of runs on this machine have logged, the newest first.

    Raises RecipeError when the model that answered was not made by LargeForge.
    """
    if not _REQUEST.fullmatch(text):
        return []
    wanted = f'"{text}"'
    for log in sorted(places.root.glob(_GATEWAY_LOGS), key=lambda path: path.stat().st_mtime, reverse=True):
        with log.open(encoding="utf-8", errors="replace") as lines:
            line = next((line for line in lines if wanted in line), "")
        if not line:
            continue
        told = json.loads(line)
        if told.get("lock"):
            return [str(told["lock"])]
        answered = f"by {told['model']}" if told.get("model") else f"with status {told.get('status')}"
        raise RecipeError(f"request {text} ({told.get('time')}) was answered {answered}, which has no lock ({log})")
    return []


CLUES: dict[str, Callable[[str, Places], Iterable[str]]] = {
    "lock digest": _by_lock, "registered version": _by_model, "request": _by_request,
}  # fmt: skip
"""What a text may be, to a function that returns the digests of the locks that it leads to."""


def _of(digest: str, clue: str, places: Places) -> Trace:
    pattern = f"*-{digest[:8]}*/{LOCK}"
    found = [*places.root.glob(f"*/{pattern}"), *places.root.glob(f"reproduced/*/{pattern}")]
    runs = sorted((path.parent for path in found if _digest(path) == digest), key=lambda path: path.name, reverse=True)
    versions = [version for version in _all(places) if version.lock == digest]
    content, damage = _content(runs, versions, places.registry)
    reports = [path for run in runs[:1] for pattern in _REPORTS for path in sorted(run.glob(pattern))]
    chains = [chain(places.registry, version) for version in versions]
    return Trace(digest, clue, runs, content, reports, versions, chains, history(places.registry, versions), damage)


def _content(runs: list[Path], versions: list[VersionSummary], registry: ModelRegistry) -> tuple[dict[str, Any], str]:
    """Return the lock from the first place that still has it, and what was wrong with the others."""
    faults = []
    for run in runs:
        try:
            return locks.read(run / LOCK), ""
        except LargeForgeError as error:
            faults.append(str(error))
    for version in versions:
        try:
            if content := registry.lock(version):
                return content, "; ".join(faults)
        except LargeForgeError as error:
            faults.append(str(error))
    return {}, "; ".join(faults)


def _digest(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _all(places: Places) -> list[VersionSummary]:
    return [version for model in places.registry.list_models() for version in model.versions]
