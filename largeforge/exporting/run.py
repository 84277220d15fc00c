"""Export a plan: forecast its servers where they will run, render, write, and say what to do next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import FitError, Problem, RecipeError
from largeforge.exporting import checks, files
from largeforge.exporting.system import system
from largeforge.forecast.plan import Forecaster, what_does_not_fit
from largeforge.recipe import extensions
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from largeforge.exporting.files import Written
    from largeforge.exporting.rendered import Rendered
    from largeforge.forecast.stage import Forecast
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Recipe

FOLDER = "exports"


@dataclass(frozen=True)
class Export:
    """What was written, and what to do with it."""

    written: Written
    steps: tuple[str, ...]
    notes: tuple[str, ...]


def export(plan: Plan) -> Export:
    """Write the files that the recipe asks for.

    Raises RecipeError with everything that cannot be exported or written, FitError when a server would not fit.
    """
    found = rendered(plan)
    name = plan.recipe.export.name
    folder = Path(getattr(plan.recipe.export, "folder", "") or Path(FOLDER) / plan.recipe.name / name).expanduser()
    written = files.write(folder, found.files)
    steps = tuple(step.replace("{folder}", str(folder)) for step in found.steps)
    return Export(written, steps, found.notes)


def rendered(plan: Plan) -> Rendered:
    """Return the files of an export, which write nothing."""
    recipe = plan.recipe
    if problems := list(checks.check(recipe)):
        raise RecipeError(problems)
    module: Any = extensions.load("export", recipe.export.name)
    forecasts, shortages = _forecasts(plan, own_gpus=module.OWN_GPUS)
    notes = []
    if shortages and recipe.memory_check == "refuse":
        raise FitError("\n".join(shortages))
    notes += shortages
    known = plan.lock.get("resolved", {}).get("models", {})
    revisions = {reference: found["revision"] for reference, found in known.items() if found.get("revision")}
    found: Rendered = module.render(recipe.export, system(recipe, plan.machine, forecasts, revisions))
    for name, text in found.files.items():
        if without_passwords(text) != text:
            rule = (
                f"the recipe has a password, and {name} would have it, too; give secrets to the cluster by reference."
            )
            raise RecipeError([Problem("export", rule)])
    return replace(found, notes=(*found.notes, *notes))


def _forecasts(plan: Plan, *, own_gpus: bool) -> tuple[dict[str, Forecast], list[str]]:
    """Return what each server needs, by the expert whose model it loads, and why some do not fit.

    Where each server has GPUs, or a node's memory, for itself, it is looked at as if there were no other.
    """
    recipe = plan.recipe
    assert recipe.topology is not None
    bases = [name for name, expert in recipe.topology.experts.items() if not expert.adapter_on]
    wanted = sum(recipe.topology.experts[name].replicas for name in bases) * recipe.serving.tensor_parallel_size
    own_gpus = own_gpus or (plan.machine.device == "cuda" and wanted <= plan.machine.num_gpus)
    groups = [_with_only(recipe, name) for name in bases] if own_gpus else [recipe]
    stage = next(stage for stage in plan.stages if stage.kind == "serve")
    found: dict[str, Forecast] = {}
    shortages = []
    for one in groups:
        forecasts = Forecaster(one, plan.machine).of(stage)
        found |= {name.partition("/")[2]: forecast for name, forecast in forecasts.items()}
        if short := what_does_not_fit(replace(plan, recipe=one, stages=(stage,), forecasts=forecasts)):
            shortages.append(short)
    return {name: found[name] for name in bases}, shortages


def _with_only(recipe: Recipe, base: str) -> Recipe:
    """Return a recipe that serves one expert and its adapters, once."""
    assert recipe.topology is not None
    experts = {
        name: expert.model_copy(update={"replicas": 1})
        for name, expert in recipe.topology.experts.items()
        if base in (name, expert.adapter_on)
    }
    return recipe.model_copy(update={"topology": recipe.topology.model_copy(update={"experts": experts})})
