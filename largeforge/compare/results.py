"""What two runs came to, stage by stage: the same weights or not, metrics side by side, durations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.recorded import Recorded, StageResult

_EFFORT = ("_seconds", "_ms", "_s", "_per_s", "_gib")
"""Endings of metrics that tell how fast something was or how much it took: they differ between any two runs."""


@dataclass(frozen=True)
class Metric:
    """One number of two stages; None where only the other has it."""

    name: str
    a: float | None
    b: float | None

    @property
    def same(self) -> bool:
        """Whether both are there and equal; NaN equals NaN."""
        if self.a is None or self.b is None:
            return False
        return self.a == self.b or (math.isnan(self.a) and math.isnan(self.b))

    @property
    def delta(self) -> float | None:
        """How much more the second one is."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def percent(self) -> float | None:
        """How much more the second one is, in percent of the first."""
        return None if self.delta is None or not self.a else 100 * self.delta / abs(self.a)


@dataclass(frozen=True)
class StagePair:
    """One stage of both sides."""

    name: str
    kind: str
    weights: bool | None
    """Whether all files with weights have equal bytes; None where the stage makes none."""
    metrics: list[Metric] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)
    """How long the stage took; 0 where it is not known."""

    @property
    def same(self) -> bool:
        """Whether weights and metrics are equal."""
        return self.weights is not False and all(metric.same for metric in self.metrics)


def pairs(a: Recorded, b: Recorded) -> list[StagePair]:
    """Return the stages that both sides have finished, in their order in the first."""
    return [pair(name, a.stages[name], b.stages[name]) for name in a.stages if name in b.stages]


def pair(name: str, a: StageResult, b: StageResult) -> StagePair:
    """Compare two results of one stage; a side that kept no metrics at all has none to compare."""
    names = list(dict.fromkeys([*a.metrics, *b.metrics])) if a.metrics and b.metrics else []
    metrics = [Metric(each, a.metrics.get(each), b.metrics.get(each)) for each in names if not is_effort(each)]
    weights = a.weights == b.weights if a.weights and b.weights else None
    return StagePair(name, a.kind, weights, metrics, (a.seconds, b.seconds))


def is_effort(metric: str) -> bool:
    """Tell whether a metric is a time, a rate or an amount of memory rather than a result."""
    return metric.endswith(_EFFORT)
