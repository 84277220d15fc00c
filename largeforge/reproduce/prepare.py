"""From a lock to a plan: the locked recipe with its references pinned, and the stages that make the result."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import identity, runs
from largeforge.errors import LargeForgeError, Problem, RecipeError
from largeforge.planning import make_plan
from largeforge.recipe import folders, model_ref, sources
from largeforge.recipe.compose import Composition
from largeforge.recipe.packs import installed
from largeforge.recipe.places import Places
from largeforge.recipe.schema import Registry
from largeforge.recipe.validate import validate
from largeforge.reproduce import overrides
from largeforge.reproduce.matches import Match, matches, used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.plan import Plan
    from largeforge.recorded import Recorded

ROOT = "runs/reproduced"
"""Where reproductions are written: apart from other runs, so that none is continued or reused by mistake."""

PUBLISHING = ("register", "serve")
"""Kinds of stages that a reproduction leaves out: it must not move an alias or take a port."""


@dataclass(frozen=True)
class Reproduction:
    """What will be run again, and how well it matches."""

    recorded: Recorded
    plan: Plan
    matches: list[Match]
    mode: str

    @property
    def refused(self) -> list[Match]:
        """What differs and was not allowed to."""
        return [match for match in self.matches if match.blocks]

    def check(self) -> None:
        """Raise RecipeError when data or a model is not what it was, unless that was allowed."""
        if self.refused:
            raise RecipeError([Problem(match.what, match.rule, given=match.here) for match in self.refused])


def prepare(recorded: Recorded, words: Sequence[str]) -> Reproduction:
    """Return the plan that runs a lock again.

    Raises RecipeError when a word is wrong, the lock's recipe is not valid here, or it trained nothing.
    """
    asked = overrides.parse(words)
    folder = str(_recipe_folder())
    recipe = {**copy.deepcopy(recorded.lock["recipe"]), "runs": {"root": ROOT}, "mode": asked.mode}
    overrides.apply(recipe, asked)
    composition = Composition(recipe, Places(tuple(words), recorded.path), folder)
    validate(composition)
    _pin_models(recipe, recorded.lock)
    if not any(key.startswith("hardware") for key in asked.values):
        _pin_hardware(recipe, recorded.lock["hardware"])
    packs = {name: pack for name, pack in _packs().items() if name in recorded.lock["origin"].get("packs", {})}
    plan = make_plan(validate(composition), recipe_folder=folder, packs=packs)
    origin = {**plan.lock["origin"], "reproduces": recorded.digest}
    plan = replace(plan, stages=_wanted(plan, recorded), lock={**plan.lock, "origin": origin})
    if "runs.resume" not in asked.values:
        plan = _afresh(plan)
    return Reproduction(recorded, plan, matches(recorded.lock, plan, allow=asked.allow), asked.mode)


def _pin_models(recipe: dict[str, Any], lock: dict[str, Any]) -> None:
    """Write out each reference that would mean another model today than it did then.

    Where all still mean the same, the recipe stays as it was, so that the digest does too. A
    reference that was overridden stays as it is.
    """
    registry = Registry(**recipe.get("registry", {}))
    locked = lock["recipe"]
    jobs = {"": (recipe, locked), **{name: (job, (locked.get("jobs") or {}).get(name)) for name, job in _jobs(recipe)}}
    for name, (section, before) in jobs.items():
        model = section.get("model")
        if model and before and model["ref"] == (before.get("model") or {}).get("ref"):
            model["ref"] = _pinned(model["ref"], lock, registry, name)


def _jobs(recipe: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list((recipe.get("jobs") or {}).items())


def _pinned(text: str, lock: dict[str, Any], registry: Registry, job: str) -> str:
    ref = model_ref.parse(text)
    before, now = used(text, lock, job), identity.of_model(ref, registry)
    if ref.scheme == "hub" and before.get("revision") and before["revision"] != now.get("revision"):
        return str(replace(ref, selector=before["revision"]))
    version = before.get("reference", "")
    if ref.scheme == "registry" and version.startswith("registry:") and version != now.get("reference"):
        return version
    return text


def _pin_hardware(recipe: dict[str, Any], locked: dict[str, Any]) -> None:
    """Ask for the locked device and number of cores: sums depend on both, and threads can be had on any machine."""
    from largeforge.hardware import machine
    from largeforge.recipe.profiles import completed
    from largeforge.recipe.schema import Hardware

    here = machine(completed(Hardware(**recipe["hardware"]))).as_dict()
    for key in ("device", "cores"):
        if here[key] != locked.get(key, here[key]):
            recipe["hardware"][key] = locked[key]


def _packs() -> dict[str, dict[str, str]]:
    """Return commit and hash of the packs that are installed here."""
    found = {name: pack.pinned for name, pack in installed.packs().items()}
    return {name: {"commit": pin.commit, "sha256": pin.sha256} for name, pin in found.items() if pin}


def _recipe_folder() -> Path:
    """Return the folder that `recipe:` paths are looked up in: the working directory's recipes, or the shipped ones."""
    folder = Path.cwd() / folders.GROUP_FOLDERS["recipe"]
    return folder if folder.is_dir() else sources.recipe_folder(None)


def _afresh(plan: Plan) -> Plan:
    """Return the plan that continues an interrupted reproduction, but reuses nothing of a finished one."""
    stages = tuple(replace(stage, reusable=False) for stage in plan.stages)
    before = [runs.Run(path, path.parents[1]) for path in runs.existing(plan)[:1]]
    resume = any(not run.finished(stage, hashes=False) for run in before for stage in stages)
    recipe = plan.recipe.model_copy(update={"runs": plan.recipe.runs.model_copy(update={"resume": resume})})
    return replace(plan, recipe=recipe, stages=stages)


def _wanted(plan: Plan, recorded: Recorded) -> tuple[Any, ...]:
    """Return the stages that make the result: all but publishing ones, or what one registered model needs."""
    stages = {stage.name: stage for stage in plan.stages if stage.kind not in PUBLISHING}
    if not stages:
        raise RecipeError(f"{recorded.label}: it trained nothing, so there is nothing to reproduce; serve it again.")
    if not recorded.target:
        return tuple(stages.values())
    if recorded.target not in stages:
        raise LargeForgeError(f"{recorded.label}: its lock has no stage {recorded.target}")
    job = stages[recorded.target].job
    wanted = {name for name, stage in stages.items() if stage.job == job and stage.kind in ("evaluate", "gate")}
    waiting = [recorded.target, *wanted]
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting += [need for need in stages[name].needs if need not in wanted]
    return tuple(stage for stage in stages.values() if stage.name in wanted)
