"""Forecast every stage of a plan, and refuse a plan that cannot run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import FitError
from largeforge.forecast import judging, quantizing, serving, training
from largeforge.forecast.candidates import (
    evaluation_candidates,
    judging_candidates,
    merging_candidates,
    quantizing_candidates,
    training_candidates,
)
from largeforge.forecast.fixes import Change, changed, ranked
from largeforge.forecast.models import Models
from largeforge.forecast.text import fixes_text, gib
from largeforge.hardware import machine
from largeforge.recipe.profiles import profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from largeforge.forecast.stage import Forecast
    from largeforge.hardware import Machine
    from largeforge.plan import Plan, Stage
    from largeforge.recipe.schema import Recipe

SERVER = "/"
"""Between `serve` and the expert in the name of one server's forecast."""


BY_KIND = {
    "train": training.forecast, "evaluate": judging.evaluation, "merge": training.merging,
    "quantize": quantizing.forecast, "parity": judging.parity,
}  # fmt: skip
"""Kind of stage to what forecasts it; servers are forecast together."""
IN_HOST_MEMORY = ("merge", "quantize")
"""Kinds of stages whose need is of the host's memory, also where there is a GPU."""
MOST_EXPLAINED = 8
"""Stages for which fixes are worked out; more are only named."""


def with_forecasts(plan: Plan) -> Plan:
    """Return the plan with a forecast for each stage that needs memory or time worth a word."""
    forecaster = Forecaster(plan.recipe, plan.machine)
    found: dict[str, Forecast] = {}
    for stage in plan.stages:
        found.update(forecaster.of(stage))
    return replace(plan, forecasts=found)


def refuse_what_does_not_fit(plan: Plan, *, done: Collection[str] = ()) -> None:
    """Raise FitError when a stage that is not done does not fit, with what would help, best first."""
    if explained := what_does_not_fit(plan, done=done):
        raise FitError(explained)


def what_does_not_fit(plan: Plan, *, done: Collection[str] = ()) -> str:
    """Return why stages do not fit and what would help, best first; empty when all but those that are done fit."""
    waiting = {name: found for name, found in plan.forecasts.items() if name.partition(SERVER)[0] not in done}
    plan = replace(plan, forecasts=waiting)
    texts: list[str] = []
    found: list[Change] = []
    groups = _together(plan)
    for names in groups[:MOST_EXPLAINED]:
        text, changes = _explained(plan, names, found)
        texts, found = [*texts, text], [*found, *changes]
    if rest := [name for names in groups[MOST_EXPLAINED:] for name in names]:
        texts.append(f"Nor do {', '.join(rest)} fit; what would help them is worked out once those above fit.")
    if not texts and (side_by_side := _side_by_side(plan)):
        texts.append(side_by_side)
    return "\n".join(texts)


class Forecaster:
    """Forecasts the stages of one recipe on one machine."""

    def __init__(self, recipe: Recipe, found: Machine, models: Models | None = None):
        self.recipe, self.machine = recipe, found
        self.models = models or Models(recipe)

    def of(self, stage: Stage) -> dict[str, Forecast]:
        """Return the forecast of a stage under its name; of a serving stage one for each server."""
        if stage.kind == "serve":
            found = serving.servers(self.recipe, self.machine, self.models)
            return {f"{stage.name}{SERVER}{expert}": forecast for expert, forecast in found.items()}
        compute = BY_KIND.get(stage.kind)
        share = self.machine.share(stage.threads)
        return {stage.name: compute(self.recipe, stage.job, share, self.models)} if compute else {}


def _together(plan: Plan) -> list[list[str]]:
    """Return the names of what does not fit; servers that refuse each other are one entry."""
    groups: dict[str, list[str]] = {}
    for name, forecast in plan.forecasts.items():
        if forecast.verdict == "too big":
            stage = name.partition(SERVER)[0]
            groups.setdefault(f"{stage}: {forecast.refusal}" if forecast.refusal else name, []).append(name)
    return list(groups.values())


def _explained(plan: Plan, names: list[str], earlier: list[Change]) -> tuple[str, list[Change]]:
    """Return why a stage does not fit and what to paste, and the changes with which it fits.

    `earlier` are such changes of the stages before; one that cures this stage, too, is all that is said.
    """
    name, forecast = names[0], plan.forecasts[names[0]]
    stage = next(stage for stage in plan.stages if stage.name == name.partition(SERVER)[0])
    models = Models(plan.recipe)

    def measure(recipe: Recipe) -> Forecast:
        found = Forecaster(recipe, plan.machine, models).of(stage)
        before = [other for other in found if other in names or plan.forecasts[other].verdict != "too big"]
        return next((found[other] for other in before if found[other].verdict == "too big"), found[name])

    does = "does" if len(names) == 1 else "do"
    lines = [f"{' and '.join(names)} {does} not fit: {_reason(plan, stage, forecast)}."]
    near = [change for change in earlier if _concerns(plan, change, stage)]
    if cure := next((change for change in near if _cures(plan, change, measure)), None):
        return "\n".join([*lines, f"With {cure} it fits, too."]), []
    found = ranked(plan.recipe, forecast, candidates(plan, stage, forecast), measure)
    if found:
        enough = "" if any(fix.fits for fix in found) else ", though none is enough"
        lines += [f"Overrides that help, each recomputed{enough}:", fixes_text(found)]
    if larger := _larger_hardware(plan, stage, name, models):
        lines.append(f"As it is, it would fit on {larger}.")
    return "\n".join(lines), [fix.change for fix in found if fix.fits]


def _concerns(plan: Plan, change: Change, stage: Stage) -> bool:
    """Whether a change touches a stage's own job, or what all jobs share."""
    own = f"jobs.{stage.job}."
    return not plan.recipe.jobs or all(
        key.startswith(own) or not key.startswith("jobs.") for key, _ in change.overrides
    )


def _cures(plan: Plan, change: Change, measure: Callable[[Recipe], Forecast]) -> bool:
    recipe = changed(plan.recipe, change)
    return recipe is not None and measure(recipe).verdict in ("fits", "tight")


def _reason(plan: Plan, stage: Stage, forecast: Forecast) -> str:
    if forecast.refusal or forecast.memory is None:
        return forecast.refusal
    parts = ", ".join(f"{part.replace('_', ' ')} {gib(size)}" for part, size in forecast.memory.parts.items())
    what = f"{gib(forecast.memory.total)} GiB at its peak ({parts})"
    where = "this machine" if plan.machine.device == "cpu" or stage.kind in IN_HOST_MEMORY else plan.machine.gpu
    return f"it needs {what}, and {where} has {gib(forecast.usable_bytes)} GiB that can be used"


def candidates(plan: Plan, stage: Stage, forecast: Forecast) -> list[list[Change]]:
    """Return kinds of changes that may make a stage fit."""
    if stage.kind == "serve":
        return serving.candidates(plan.recipe, plan.machine, forecast)
    if stage.kind in ("evaluate", "parity"):
        own = evaluation_candidates(plan.recipe, stage.job)
        if not forecast.serving:
            return own
        without = judging_candidates(plan.recipe, stage.job, stage.kind)
        return [*serving.candidates(plan.recipe, plan.machine, forecast), *without, *own]
    if stage.kind == "merge":
        return merging_candidates(plan.recipe, stage.job)
    if stage.kind == "quantize":
        return [quantizing_candidates(plan.recipe, stage.job)]
    return training_candidates(plan.recipe, stage.job, plan.machine)


def _larger_hardware(plan: Plan, stage: Stage, name: str, models: Models) -> str:
    """Return the smallest profiles on which the stage would fit unchanged, as overrides; empty when none is known."""
    if plan.machine.device == "cpu" or stage.kind in IN_HOST_MEMORY:
        return ""
    fitting = []
    for profile in profiles():
        if profile.device == "cuda" and profile.memory_gib > plan.machine.memory_gib:
            there = machine(profile.model_copy(update={"num_gpus": plan.machine.num_gpus}))
            if Forecaster(plan.recipe, there, models).of(stage)[name].verdict == "fits":
                fitting.append((profile.memory_gib, profile.name))
    return " or ".join(f"hardware={profile}" for _, profile in sorted(fitting)[:2])


def _side_by_side(plan: Plan) -> str:
    """Return why the stages that run at the same time on a CPU do not fit together; empty when they do."""
    if plan.machine.device != "cpu":
        return ""
    known = {
        stage.name: forecast.memory.total
        for stage in plan.stages
        if stage.threads and (forecast := plan.forecasts.get(stage.name)) and forecast.memory
    }
    trains = [stage for stage in plan.stages if stage.kind == "train" and stage.name in known]
    beside = max((plan.machine.cores // max(1, stage.threads) for stage in trains), default=1)
    largest = sorted((known[stage.name] for stage in trains), reverse=True)[:beside]
    if sum(largest) <= plan.machine.usable_bytes:
        return ""
    needs = " + ".join(gib(size) for size in largest)
    return (
        f"{len(largest)} trainings run side by side and need {needs} GiB together, and this machine has "
        f"{gib(plan.machine.usable_bytes)} GiB that can be used.\nhardware.cores=1 runs one after the other."
    )
