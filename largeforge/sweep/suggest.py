"""Choose the values of a trial with Optuna, as a pure function of the trials before it.

Nothing of Optuna is stored: the study is built anew from the recorded trials each time, and the
sampler is seeded by the sweep's seed and the trial's number. A sweep that was killed therefore
goes on exactly as one that was not, as far as the same trials are known at that point.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError
from largeforge.sweep.space import grid, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.schema import Sweep
    from largeforge.sweep.space import Space

_RETRIES = 30
"""How often values that a trial had before are asked for again, before any others are taken."""


@dataclass(frozen=True)
class Seen:
    """A trial that was chosen before: its values, and what came of it."""

    values: dict[str, str]
    objective: float | None
    """None while it runs, and for one that failed."""
    is_running: bool = False


def suggest(
    spaces: Sequence[Space], history: Sequence[Seen], settings: Sweep, number: int, *, direction: str
) -> dict[str, str]:
    """Return the values of trial `number`; never those of an earlier trial while there are others.

    Raises RecipeError when Optuna is not installed.
    """
    optuna = _optuna()
    distributions = {space.key: _distribution(optuna, space) for space in spaces}
    known = [frozen for seen in history if (frozen := _frozen(optuna, seen, spaces, distributions)) is not None]
    taken = [seen.values for seen in history]
    values: dict[str, str] = {}
    for attempt in range(_RETRIES):
        seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {number} {attempt}".encode()).digest()[:4])
        study = optuna.create_study(direction=direction, sampler=_sampler(optuna, settings.sampler, seed))
        study.add_trials(known)
        chosen = study.ask(fixed_distributions=distributions).params
        values = {space.key: _text(space, chosen[space.key]) for space in spaces}
        if values not in taken:
            return values
    left = () if any(space.is_interval for space in spaces) else grid(spaces)
    return next((other for other in left if other not in taken), values)


def count(spaces: Sequence[Space], n_trials: int) -> int:
    """Return how many trials there will be: no more than there are combinations."""
    combinations = 1
    for space in spaces:
        combinations *= n_trials if space.is_interval else len(space.values)
    return min(n_trials, combinations)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        rule = "needs Optuna: pip install 'largeforge[sweep]'."
        raise RecipeError([Problem("sweep", rule, given="'optuna'")]) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar: trials that still run count as bad, so that those beside each other differ
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)


def _distribution(optuna: Any, space: Space) -> Any:
    """Return a range as the index into its values, which keeps their order; a list as unordered categories."""
    kinds = optuna.distributions
    if not space.is_interval:
        if space.is_ordered:
            return kinds.IntDistribution(0, len(space.values) - 1)
        return kinds.CategoricalDistribution(space.values)
    if space.is_integer:
        return kinds.IntDistribution(int(space.low), int(space.high), log=space.is_log)
    return kinds.FloatDistribution(space.low, space.high, log=space.is_log)


def _text(space: Space, chosen: Any) -> str:
    if space.is_interval:
        return space.text(chosen)
    return space.values[chosen] if space.is_ordered else str(chosen)


def _frozen(optuna: Any, seen: Seen, spaces: Sequence[Space], distributions: dict[str, Any]) -> Any:
    """Return an earlier trial as Optuna keeps it, or None for one whose values are of another search."""
    params = {space.key: _param(space, seen.values.get(space.key, "")) for space in spaces}
    if any(param is None for param in params.values()):
        return None
    states = optuna.trial.TrialState
    state = states.COMPLETE if seen.objective is not None else states.RUNNING if seen.is_running else states.FAIL
    return optuna.trial.create_trial(params=params, distributions=distributions, state=state, value=seen.objective)


def _param(space: Space, text: str) -> Any:
    if not space.is_interval:
        if text not in space.values:
            return None
        return space.values.index(text) if space.is_ordered else text
    number = number_of(text)
    if number is None or not space.low <= number <= space.high:
        return None
    return int(number) if space.is_integer else number
