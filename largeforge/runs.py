"""Run directories: found again or made new, held by one process at a time, stages shared between them.

runs/<recipe>/<time>-<digest>/    recipe.yaml lock.json plan.json events.jsonl report.html
    <stage>/                      stage.json log.txt out/ work/ manifest.json
runs/.finished/<fingerprint>      path of a finished stage with that fingerprint
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from largeforge import artifacts
from largeforge.errors import StageError
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from largeforge.artifacts import Manifest
    from largeforge.plan import Plan, Stage

LOCK = "lock.json"
RESOLVED = "resolved"
"""Key of a stage's `info`, and of the lock, with what references turned out to mean."""
_INDEX = ".finished"


class Run:
    """One run directory."""

    def __init__(self, path: Path, root: Path):
        self.path, self.root = path, root

    def stage_dir(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.path / name

    def finished(self, stage: Stage, *, hashes: bool = True) -> Manifest | None:
        """Return the manifest of a stage that is finished here and intact; None for one that is done each time."""
        if stage.is_repeated:
            return None
        folder = self.stage_dir(stage.name)
        manifest = artifacts.read_manifest(folder)
        if manifest is None or manifest.fingerprint != stage.fingerprint:
            return None
        return manifest if artifacts.is_intact(manifest, folder / "out", hashes=hashes) else None

    def finished_elsewhere(self, stage: Stage, *, hashes: bool = True) -> Path | None:
        """Return the folder of an equal, intact stage of another run."""
        if not stage.reusable:
            return None
        with suppress(OSError):
            folder = self.root / (self.root / _INDEX / stage.fingerprint).read_text(encoding="utf-8").strip()
            manifest = artifacts.read_manifest(folder)
            if manifest and artifacts.is_intact(manifest, folder / "out", hashes=hashes):
                return folder
        return None

    def reuse(self, stage: Stage, source: Path) -> Manifest:
        """Take over the artifact of an equal stage."""
        folder = self.stage_dir(stage.name)
        artifacts.link_or_copy(source / "out", folder / "out")
        with suppress(FileNotFoundError):
            shutil.copy2(source / "events.jsonl", folder / "events.jsonl")
        manifest = artifacts.read_manifest(source)
        if manifest is None:
            raise StageError(f"{source} vanished while it was being reused; run again")
        manifest = replace(manifest, stage=stage.name, reused_from=str(source.relative_to(self.root)))
        self._note_resolved(manifest)
        manifest.write(folder)
        return manifest

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest of a finished stage and let other runs find it."""
        folder = self.stage_dir(manifest.stage)
        self._note_resolved(manifest)
        manifest.write(folder)
        artifacts.write_text(self.root / _INDEX / manifest.fingerprint, str(folder.relative_to(self.root)) + "\n")

    def _note_resolved(self, manifest: Manifest) -> None:
        """Add to the lock what floating references meant in a stage."""
        found = manifest.info.get(RESOLVED)
        locked = _read_lock(self.path)
        if found and locked:
            stages = {**locked.get(RESOLVED, {}).get("stages", {}), manifest.stage: found}
            locked[RESOLVED] = {**locked.get(RESOLVED, {}), "stages": stages}
            artifacts.write_json(self.path / LOCK, locked)

    def is_held(self) -> bool:
        """Tell whether a process runs it now."""
        try:
            with (self.path / ".lock").open() as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run against other processes.

        Raises BlockingIOError when another process holds it.
        """
        with (self.path / ".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


@contextmanager
def opened(plan: Plan) -> Iterator[Run]:
    """Continue the newest run with the plan's digest that no other process holds, or begin a new one."""
    root = Path(plan.recipe.runs.root).expanduser().absolute()
    folder = root / plan.recipe.name
    with ExitStack() as stack:
        for run in _candidates(folder, root, plan):
            try:
                stack.enter_context(run.held())
            except BlockingIOError:  # another process was quicker, even to a directory that we made
                continue
            yield run
            return


def _candidates(folder: Path, root: Path, plan: Plan) -> Iterator[Run]:
    """Return the runs that may be continued, newest first, then new ones without end."""
    for path in existing(plan) if plan.recipe.runs.resume else []:
        yield Run(path, root)
    while True:
        yield Run(_new(folder, plan), root)


def existing(plan: Plan) -> list[Path]:
    """Return the run directories with the plan's digest, newest first."""
    folder = Path(plan.recipe.runs.root).expanduser().absolute() / plan.recipe.name
    return sorted((path for path in folder.glob(f"*-{plan.digest[:8]}*") if path.is_dir()), reverse=True)


def statuses(plan: Plan) -> dict[str, str]:
    """Return, for each stage that would not run again, `done` or `reusable`; files are not hashed."""
    root = Path(plan.recipe.runs.root).expanduser().absolute()
    paths = existing(plan) if plan.recipe.runs.resume else []
    run = Run(paths[0] if paths else root / "none", root)
    found = {}
    for stage in plan.stages:
        if run.finished(stage, hashes=False):
            found[stage.name] = "done"
        elif plan.recipe.runs.resume and run.finished_elsewhere(stage, hashes=False):
            found[stage.name] = "reusable"
    return found


def _new(folder: Path, plan: Plan) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for attempt in range(100):
        suffix = f"-{attempt}" if attempt else ""
        path = folder / f"{stamp}-{plan.digest[:8]}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        describe(path, plan)
        return path
    raise StageError(f"could not make a run directory in {folder}: too many runs in one second")


def describe(path: Path, plan: Plan) -> None:
    """Write what the run is: resolved recipe, lock, plan."""
    recipe: Any = plan.lock["recipe"]
    artifacts.write_text(path / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    artifacts.write_json(path / LOCK, _continued(plan.lock, _read_lock(path)))
    artifacts.write_json(path / "plan.json", without_passwords(plan.as_dict()))


def _continued(lock: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return a lock with what stands beside its digest as it was when the run began."""
    if before.get("digest") != lock["digest"]:
        return lock
    resolved = {**lock.get(RESOLVED, {}), **before.get(RESOLVED, {})}
    return {**lock, "origin": before.get("origin", {}), RESOLVED: resolved}


def _read_lock(path: Path) -> dict[str, Any]:
    """Return the lock of a run directory; empty when there is none yet."""
    try:
        found = json.loads((path / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def relative(path: Path) -> str:
    """Return a path as a person in the working directory would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
