"""What a gate decides: pass, fail, or that there are too few rows to tell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from largeforge.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.recipe.evaluation import Condition

Outcome = Literal["pass", "fail", "not enough data"]
_MOST_ROWS = 1_000_000
"""More rows than this are not advised: the figure is as good as on the threshold."""


@dataclass(frozen=True)
class Verdict:
    """One gate, as it was decided."""

    metric: str
    condition: str
    value: float | None
    outcome: Outcome
    low: float | None = None
    high: float | None = None
    rows: int = 0
    needed: int = 0
    """About how many rows would decide, 0 where that is not known."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the model may go on."""
        return self.outcome == "pass"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data, without what is not known."""
        known = {key: value for key, value in asdict(self).items() if value not in (None, 0, "") or key == "value"}
        return {**known, "passed": self.passed}

    def __str__(self) -> str:
        shown = "unknown" if self.value is None or math.isnan(self.value) else f"{self.value:.4g}"
        between = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        text = f"{self.metric} is {shown}{between}, must be {self.condition}"
        if self.outcome == "not enough data":
            advice = f"about {self.needed} would decide" if self.needed else "more would decide"
            text += f": {self.rows} rows are not enough to be sure, {advice}"
        return f"{text} ({self.note})" if self.note else text


def decide(
    metric: str, condition: Condition, value: float | None, interval: Mapping[str, Any] | None, *, by_interval: bool
) -> Verdict:
    """Decide one gate.

    It fails where the value does not meet the condition. Where it does, but the interval reaches beyond the
    threshold, the rows are not enough to be sure, unless the gate goes by the value alone. A metric without an
    interval, such as a latency, is judged by its value.
    """
    told = str(condition)
    if value is None or not condition.holds(value):
        return Verdict(metric, told, value, "fail", **_bounds(interval))
    bounds = _bounds(interval)
    sure = interval is None or all(condition.holds(interval[bound]) for bound in ("low", "high"))
    if sure or not by_interval or interval is None:
        return Verdict(metric, told, value, "pass", **bounds)
    needed = _needed(condition, value, interval)
    return Verdict(metric, told, value, "not enough data", **bounds, needed=needed)


def require(verdicts: Sequence[Verdict], *, subject: str, more: str, key: str, so: str = "") -> None:
    """Let a run go on when all gates passed.

    `subject` is what is judged, `more` what would decide an undecided gate, `key` the setting that has gates go by
    their value, and `so` what follows from a refusal. Raises GateError that lists every gate that refused, or could not
    be decided.
    """
    refused = [str(verdict) for verdict in verdicts if verdict.outcome == "fail"]
    undecided = [str(verdict) for verdict in verdicts if verdict.outcome == "not enough data"]
    if refused:
        told = f"gate refused {subject}{f', {so}' if so else ''}"
        raise GateError(f"{told}: {'; '.join([*refused, *undecided])}")
    if undecided:
        advice = f"give {more}, or set {key}=value to go by the value alone"
        raise GateError(f"not enough data to let {subject} pass: {'; '.join(undecided)}; {advice}")


def _bounds(interval: Mapping[str, Any] | None) -> dict[str, Any]:
    if interval is None:
        return {}
    low, high = (bound if math.isfinite(bound) else None for bound in (interval["low"], interval["high"]))
    return {"low": low, "high": high, "rows": interval["rows"]}


def _needed(condition: Condition, value: float, interval: Mapping[str, Any]) -> int:
    """Return about how many rows would decide: an interval shrinks with the square root of its rows."""
    reach = max(abs(bound - value) for bound in (interval["low"], interval["high"]) if not condition.holds(bound))
    distance = abs(value - condition.threshold)
    if not math.isfinite(reach) or not distance:
        return 0
    needed = math.ceil(interval["rows"] * (reach / distance) ** 2)
    return needed if needed <= _MOST_ROWS else 0
