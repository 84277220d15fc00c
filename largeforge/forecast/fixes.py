"""What to change in a recipe so that a stage fits: overrides to paste, each one recomputed.

A candidate is only a proposal; what it saves is what the forecast of the changed recipe says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.recipe import extensions
from largeforge.recipe.checks import check

if TYPE_CHECKING:
    from largeforge.forecast.stage import Forecast
    from largeforge.recipe.schema import Recipe

WORTH_SHARE = 0.05
"""Share of the memory that a change must save to be worth a line where it is not enough."""


@dataclass(frozen=True)
class Change:
    """Overrides that may help, and what else they change."""

    overrides: tuple[tuple[str, Any], ...]
    """Key and value, as they would be typed."""
    effect: str = ""
    """What a user gives for the memory; empty for nothing worth a word."""

    def __add__(self, other: Change) -> Change:
        effects = [effect for effect in (self.effect, other.effect) if effect]
        return Change(self.overrides + other.overrides, "; ".join(effects))

    def __str__(self) -> str:
        return " ".join(
            f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in self.overrides
        )


@dataclass(frozen=True)
class Fix:
    """A change with what it does to the peak."""

    change: Change
    saves_bytes: float
    forecast: Forecast

    @property
    def fits(self) -> bool:
        """Whether the stage fits with this change alone."""
        return self.forecast.verdict in ("fits", "tight")


def ranked(
    recipe: Recipe, now: Forecast, kinds: Sequence[Sequence[Change]], measure: Callable[[Recipe], Forecast]
) -> list[Fix]:
    """Return the changes that help: those that make it fit, in the order given, then by what they save.

    `kinds` are ways to save memory, what costs the user least first; each has its changes from the mildest
    to the strongest. Where no change is enough alone, the mildest combination that is comes first. What saves
    memory and is not enough is left out where memory is not what is missing.
    """
    fixes: list[Fix] = []
    for kind in kinds:
        found = [fix for change in kind if (fix := _measured(recipe, now, change, measure))]
        fitting = [fix for fix in found if fix.fits]
        fixes += fitting[:1] or found[-1:]
    if not any(fix.fits for fix in fixes) and (together := _together(recipe, now, kinds, measure)):
        fixes.append(together)
    missing = now.needed_bytes > now.usable_bytes
    worth = [fix for fix in fixes if fix.fits or (missing and fix.saves_bytes > WORTH_SHARE * now.needed_bytes)]
    return sorted(worth, key=lambda fix: (not fix.fits, 0.0 if fix.fits else -fix.saves_bytes))


def changed(recipe: Recipe, change: Change) -> Recipe | None:
    """Return the recipe with the overrides of a change, or None when it is no valid recipe then."""
    values = recipe.model_dump()
    for key, value in change.overrides:
        *parents, last = key.split(".")
        section = values
        for name in parents:
            section = section[name]
        if isinstance(section.get(last), dict) and isinstance(value, str):
            known = extensions.load(last, value).Config.model_fields
            section[last] = {name: kept for name, kept in section[last].items() if name in known} | {"name": value}
        else:
            section[last] = value
    try:
        new = type(recipe).model_validate(values)
    except ValidationError:
        return None
    return None if check(new) else new


def _measured(recipe: Recipe, now: Forecast, change: Change, measure: Callable[[Recipe], Forecast]) -> Fix | None:
    """Return what a change does, or None when the recipe does not allow it or nothing is gained."""
    new = changed(recipe, change)
    after = measure(new) if new is not None else None
    if after is None or after.memory is None or now.memory is None:
        return None
    fix = Fix(change, now.needed_bytes - after.needed_bytes, after)
    helps = fix.saves_bytes > 0 or after.usable_bytes > now.usable_bytes or (now.refusal and fix.fits)
    return fix if helps else None


def _together(
    recipe: Recipe, now: Forecast, kinds: Sequence[Sequence[Change]], measure: Callable[[Recipe], Forecast]
) -> Fix | None:
    """Return the mildest combination that fits: kinds are added at their strongest until it fits, then eased."""
    chosen: list[Change] = []
    best = now
    for place, kind in enumerate(kinds):
        for change in reversed(kind):
            fix = _measured(recipe, now, sum([*chosen, change], Change(())), measure)
            if fix and fix.forecast.needed_bytes < best.needed_bytes:
                chosen, best = [*chosen, change], fix.forecast
                break
        if best.verdict in ("fits", "tight"):
            return _eased(recipe, now, chosen, kinds[: place + 1], measure)
    return None


def _eased(
    recipe: Recipe,
    now: Forecast,
    chosen: list[Change],
    kinds: Sequence[Sequence[Change]],
    measure: Callable[[Recipe], Forecast],
) -> Fix | None:
    """Return the combination with each change left out, or else the mildest of its kind with which it still fits."""
    for place, change in enumerate(chosen):
        kind = next(kind for kind in kinds if change in kind)
        for milder in (Change(()), *kind[: list(kind).index(change)]):
            fix = _measured(recipe, now, sum([*chosen[:place], milder, *chosen[place + 1 :]], Change(())), measure)
            if fix and fix.fits:
                chosen[place] = milder
                break
    return _measured(recipe, now, sum(chosen, Change(())), measure)
