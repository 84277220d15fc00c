"""How `-m` searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from largeforge.recipe.base import Strict


class Sweep(Strict):
    """How `-m` searches over values; a run without it takes no notice of this section."""

    name: Literal["grid", "optuna"] = "grid"
    """`grid` runs every combination; `optuna` chooses `n_trials` of them, from intervals too."""
    objective: str = ""
    """Metric that ranks the trials: `exact_match`, `vs_base.loss`, `train.loss`, or `<job>.<metric>` where there
    are several jobs; empty means that of the job's first gate, else its first evaluation's, else `train.loss`."""
    direction: Literal["auto", "minimize", "maximize"] = "auto"
    """Which values of the objective are better; `auto` minimizes losses and times and maximizes the rest."""
    jobs: int = Field(default=0, ge=0)
    """Trials at a time; 0 means as many as the hardware allows."""
    n_trials: int = Field(default=20, gt=0)
    """Trials in all, those of earlier invocations included (`optuna`)."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's sampler; `tpe` learns from the trials before, after ten random ones."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the sampler; the trials' own seed is the recipe's `seed`."""
    params: dict[str, str | list[str | int | float]] = {}
    """Key to what `-m` gives it: a list of values, or for example `tag(log, interval(1e-4, 1e-2))`; the words of
    the command line come first."""
    trial: bool = False
    """Set by a sweep for each of its trials: nothing is registered or served."""
