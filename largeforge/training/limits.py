"""When a training ends before its last step, and which of its evaluations is the best.

`max_hours` and an order to stop (SIGTERM) are looked at after each step, early stopping and the best evaluation
after each evaluation. The decisions are here, a trainer is told of them in `keeping.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from largeforge.errors import StageError, listed, nearest
from largeforge.signals import STOP_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.recipe.training import TrainingMethod

_SAVING_SHARE = 0.75
"""Share of the time for stopping that saving a checkpoint may take; the rest is for the step that is under way."""


class Stop(IntEnum):
    """Why a training is to end after this step; where processes differ, the highest counts."""

    NO = 0
    TIME = 1
    ORDER = 2
    ORDER_AT_ONCE = 3
    """Saving a checkpoint would take longer than there is."""


@dataclass(frozen=True)
class Judgement:
    """What an evaluation means."""

    is_best: bool
    stops: bool
    """Whether it is the last of too many without improvement."""


@dataclass
class Limits:
    """The limits of one training."""

    method: TrainingMethod
    worse: int = 0
    """Evaluations since the last improvement."""

    @property
    def watches(self) -> bool:
        """Whether evaluations are compared."""
        return self.method.load_best_model_at_end or self.method.early_stopping_patience > 0

    def after_step(self, *, ordered: bool, seconds: float, saving_s: float) -> Stop:
        """Return whether training has to end here; `saving_s`: what the last checkpoint took, 0 before the first."""
        if ordered:
            return Stop.ORDER if saving_s <= STOP_GRACE_S * _SAVING_SHARE else Stop.ORDER_AT_ONCE
        return Stop.TIME if 0 < self.method.max_hours * 3600 <= seconds else Stop.NO

    def after_evaluation(self, metrics: Mapping[str, float], best: float | None) -> Judgement:
        """Compare an evaluation with the best one before it, as transformers' EarlyStoppingCallback does.

        Raises StageError when the metric that was asked for is not among those of the evaluation.
        """
        if not self.watches:
            return Judgement(is_best=False, stops=False)
        value, before = self.value(metrics), self._worst() if best is None else best
        is_best = value > before if self.method.greater_is_better else value < before
        counts = is_best and abs(value - before) > self.method.early_stopping_threshold
        self.worse = 0 if counts else self.worse + 1
        return Judgement(is_best, stops=0 < self.method.early_stopping_patience <= self.worse)

    def value(self, metrics: Mapping[str, float]) -> float:
        """Return the metric that says which evaluation is best."""
        wanted = self.method.metric_for_best_model.removeprefix("eval_")
        known = {name.removeprefix("eval_"): value for name, value in metrics.items() if name.startswith("eval_")}
        if wanted in known:
            return float(known[wanted])
        hint = f"; did you mean {near}?" if (near := nearest(wanted, known)) else ""
        raise StageError(
            f"method.metric_for_best_model = {wanted}: evaluations of method {self.method.name} have no such metric, "
            f"there is {listed(sorted(known))}{hint}"
        )

    def _worst(self) -> float:
        return -math.inf if self.method.greater_is_better else math.inf
