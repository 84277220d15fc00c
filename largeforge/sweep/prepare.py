"""Compose, validate and plan a trial in this process: a wrong one is found before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import LargeForgeError, Problem, RecipeError
from largeforge.forecast.plan import refuse_what_does_not_fit, with_forecasts
from largeforge.os_errors import explain_run_error
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from largeforge.estimate.ranges import Range
    from largeforge.plan import Plan
    from largeforge.recipe.schema import Recipe
    from largeforge.sweep.request import Request

TRIAL = "sweep.trial=true"
"""The word that tells a run that it is a trial: nothing is registered or served."""


@dataclass(frozen=True)
class Planned:
    """A combination of values with its plan, or with what is wrong with it."""

    number: int
    values: dict[str, str]
    words: tuple[str, ...]
    plan: Plan | None = field(repr=False, default=None)
    problem: str = ""
    heavy: dict[str, str] = field(default_factory=dict)
    """Fingerprints of the stages that keep cores busy and that an equal stage may stand in for."""

    @property
    def recipe(self) -> Recipe | None:
        """The validated recipe; None for an invalid trial."""
        return self.plan.recipe if self.plan else None

    @property
    def digest(self) -> str:
        """Digest of the lock; empty for an invalid trial."""
        return self.plan.digest if self.plan else ""

    @property
    def peak_gib(self) -> float:
        """Estimated peak of the largest stage on its device; 0 where it is not known."""
        forecasts = self.plan.forecasts.values() if self.plan else ()
        return max((found.memory.total for found in forecasts if found.memory), default=0.0) / 2**30

    @property
    def hours(self) -> Range | None:
        """Estimated time of all stages together; None where it is not known."""
        return _sum(found.hours for found in self.plan.forecasts.values()) if self.plan else None

    @property
    def cost(self) -> Range | None:
        """Estimated price of these hours, in US dollars; None where it is not known."""
        return _sum(found.cost for found in self.plan.forecasts.values()) if self.plan else None


def plan_trial(request: Request, number: int, values: dict[str, str], *, share: Sequence[str] = ()) -> Planned:
    """Return the trial of a combination of values; `share` holds it to its part of the hardware."""
    words = (*request.trial_words(values), *share)
    try:
        composition = compose([*words, TRIAL])
        recipe = validate(composition)
        plan = make_plan(recipe, recipe_folder=composition.recipe_folder, packs=composition.packs)
        if not plan.stages:
            raise RecipeError([Problem("-m", "there is nothing to sweep: the recipe trains no model.")])
        plan = with_forecasts(plan)
        if recipe.memory_check == "refuse":
            refuse_what_does_not_fit(plan)
    except LargeForgeError as error:
        return Planned(number, values, words, problem=str(error))
    except OSError as error:
        return Planned(number, values, words, problem=explain_run_error(error, Path()))
    heavy = {stage.name: stage.fingerprint for stage in plan.stages if stage.threads and stage.reusable}
    return Planned(number, values, words, plan, heavy=heavy)


def _sum(ranges: Iterable[Range | None]) -> Range | None:
    known = [found for found in ranges if found is not None]
    return sum(known[1:], known[0]) if known else None
