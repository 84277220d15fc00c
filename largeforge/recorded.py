"""What an earlier run, or a registered model, recorded: its lock, and what each stage left.

runs/quickstart/20260101T120000-ab12cd34    a run directory
ab12cd34                                    the digest of a run, or its beginning
latest:quickstart                           the newest run of a recipe
registry:support-bot@champion               a registered model, by alias or version
some/lock.json                              a lock by itself
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import read_manifest
from largeforge.errors import RecipeError, RegistryError, listed, nearest
from largeforge.recipe import lock as locks
from largeforge.recipe import model_ref, renamed
from largeforge.recipe.sections.machines import Registry
from largeforge.runs import LOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.registry import ModelVersion

EVENTS = "events.jsonl"
LATEST = "latest:"
_DIGEST = re.compile("[0-9a-f]{4,64}")
_SHOWN = 5


@dataclass(frozen=True)
class StageResult:
    """What a finished stage left."""

    kind: str
    files: dict[str, str]
    """Name of each file to its sha256."""
    metrics: dict[str, float]
    seconds: float = 0.0

    @property
    def weights(self) -> dict[str, str]:
        """The files that hold weights."""
        return {name: sha256 for name, sha256 in self.files.items() if name.endswith(".safetensors")}


@dataclass(frozen=True)
class Recorded:
    """A lock, and what is known of what came of it."""

    label: str
    """How a person would name it."""
    lock: dict[str, Any]
    """The lock, its recipe in the keys of today; `digest` is that of the file."""
    path: Path | None = None
    """File of the lock."""
    stages: dict[str, StageResult] = field(default_factory=dict)
    """The finished stages, by name."""
    target: str = ""
    """Stage that made a registered model; empty for a whole run."""

    @property
    def digest(self) -> str:
        """Digest of the lock."""
        return str(self.lock["digest"])


def find(text: str, *, root: Path, registry: Registry) -> Recorded:
    """Return what `text` names; see the head of this file. `root` is the folder of all runs.

    Raises RecipeError when there is no such thing, or several; RegistryError for a registered model
    that is missing or damaged.
    """
    if text.startswith("registry:"):
        return of_model(text, registry)
    if text.startswith(LATEST):
        return of_run(_latest(text.removeprefix(LATEST), root))
    path = Path(text).expanduser()
    if path.is_dir():
        return of_run(path)
    if path.is_file():
        return Recorded(text, renamed.lock(locks.read(path)), path)
    if _DIGEST.fullmatch(text):
        return of_run(_by_digest(text, root))
    allowed = "a run directory, the digest of a run, latest:RECIPE, registry:NAME@ALIAS or a lock.json"
    near = nearest(text, _recipes(root))
    hint = f" Did you mean '{LATEST}{near}'?" if near else ""
    raise RecipeError(f"{text}: there is no such run, model or lock; give {allowed}.{hint}")


def run_folder(text: str, *, root: Path) -> Path:
    """Return the directory of the run that `text` names, or of the run that told something last for an empty text.

    Raises RecipeError when there is no such run.
    """
    if text and (Path(text).expanduser() / EVENTS).is_file():
        return Path(text).expanduser()
    if text:
        if text.startswith("registry:"):
            raise RecipeError(f"{text} is a model; give a run directory, the digest of a run or {LATEST}RECIPE.")
        found = find(text, root=root, registry=Registry())
        return (found.path or root).parent
    told = list(root.glob(f"*/*/{EVENTS}"))
    if not told:
        raise RecipeError(f"there is no run in {root}; run a recipe first, or give --root=FOLDER.")
    return max(told, key=lambda path: path.stat().st_mtime).parent


def of_run(path: Path) -> Recorded:
    """Return what a run directory holds.

    Raises RecipeError when it is none.
    """
    if not (path / LOCK).is_file():
        runs = sorted(found.parent.name for found in path.glob(f"*/{LOCK}"))
        hint = f"; it holds {listed(runs[-_SHOWN:])}" if runs else ""
        raise RecipeError(f"{path} is no run directory: it has no {LOCK}{hint}")
    found = [manifest for folder in sorted(path.iterdir()) if (manifest := read_manifest(folder))]
    found.sort(key=lambda manifest: manifest.started)
    stages = {
        manifest.stage: StageResult(manifest.kind, _hashes(manifest.files), manifest.metrics, manifest.seconds)
        for manifest in found
    }
    return Recorded(str(path), renamed.lock(locks.read(path / LOCK)), path / LOCK, stages)


def of_model(text: str, registry: Registry) -> Recorded:
    """Return what the registry holds of the run that made a model.

    Raises RegistryError when there is no such version, or none with a lock; RecipeError for a malformed name.
    """
    try:
        ref = model_ref.parse(text)
    except ValueError as error:
        raise RecipeError(f"{text}: {error}") from None
    from largeforge.registry import ModelRegistry

    models = ModelRegistry(registry)
    version = models.resolve(ref)
    locked = models.lock(version)
    run = Path(version.lineage.run_dir)
    if not locked and not (run / LOCK).is_file():
        rule = "it was registered without a lock, and its run is not on this machine"
        raise RegistryError(f"{version.reference}: {rule} ({run}).")
    stages = _stages_of(version)
    locked = renamed.lock(locked or locks.read(run / LOCK))
    return Recorded(version.reference, locked, run / LOCK, stages, version.lineage.stage)


def focused(recorded: Recorded) -> Recorded:
    """Return what is recorded of a registered model as if its job had been the only one of its recipe.

    So the models of two jobs can be compared, of one recipe or of two; anything else is returned as it is.
    """
    job = recorded.target.rpartition(".")[0]
    recipe = recorded.lock["recipe"]
    if not job or job not in (recipe.get("jobs") or {}):
        return recorded
    own = {key: value for key, value in recipe["jobs"][job].items() if value is not None}
    alone = {**{key: value for key, value in recipe.items() if key not in ("jobs", "name", "description")}, **own}
    stages = {name.removeprefix(f"{job}."): result for name, result in recorded.stages.items()}
    return replace(recorded, lock={**recorded.lock, "recipe": alone}, stages=stages)


def rows(recorded: Recorded) -> dict[str, int]:
    """Return the number of rows that each job prepared, by the job's name; empty for a single job."""
    return {
        name.removesuffix("prepare").removesuffix("."): round(
            stage.metrics.get("train_rows", 0) + stage.metrics.get("heldout_rows", 0)
        )
        for name, stage in recorded.stages.items()
        if stage.kind == "prepare"
    }


def _stages_of(version: ModelVersion) -> dict[str, StageResult]:
    """Return the stage that made a version, and the one that judged it, as the registry knows them."""
    manifest = json.loads((version.path / "largeforge.json").read_text(encoding="utf-8"))
    name = version.lineage.stage
    job, _, kind = name.rpartition(".")
    judge = f"{job}.evaluate" if job else "evaluate"
    return {
        name: StageResult(kind, _hashes(manifest["files"]), {}),
        **({judge: StageResult("evaluate", {}, version.metrics)} if version.metrics else {}),
    }


def _hashes(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: str(entry["sha256"]) for name, entry in files.items()}


def _latest(recipe: str, root: Path) -> Path:
    runs = sorted(path.parent for path in (root / recipe).glob(f"*/{LOCK}")) if recipe else []
    if not runs:
        near = nearest(recipe, _recipes(root))
        hint = f" Did you mean '{LATEST}{near}'?" if near else ""
        raise RecipeError(f"{LATEST}{recipe}: there is no run of it in {root}; of: {listed(_recipes(root))}.{hint}")
    return runs[-1]


def _by_digest(text: str, root: Path) -> Path:
    """Return the newest run whose digest begins with `text`; the name of a run has its first 8 digits."""
    found: dict[str, Path] = {}
    for path in sorted(root.glob(f"*/*-{text[:8]}*/{LOCK}"), key=lambda path: path.parent.name):
        digest = str(locks.read(path)["digest"])
        if digest.startswith(text):
            found[digest] = path.parent
    if not found:
        raise RecipeError(f"{text}: no run in {root} has a digest that begins so.")
    if len(found) > 1:
        several = listed(f"{digest[:12]} ({path})" for digest, path in found.items())
        raise RecipeError(f"{text}: several runs have a digest that begins so: {several}. Give more of it.")
    return next(iter(found.values()))


def _recipes(root: Path) -> list[str]:
    return sorted({path.parent.parent.name for path in root.glob(f"*/*/{LOCK}")})
