"""What a load test found at all rates, and what gates make of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from largeforge.judging.verdict import Verdict, decide
from largeforge.recipe.evaluation import parse_condition

if TYPE_CHECKING:
    from largeforge.loadtest.result import Step
    from largeforge.recipe.schema import LoadTest

TITLE = "Load test (latencies in ms)"
PREFIX = "load_test."
"""Before the names of metrics in manifests and gates."""
_COLUMNS = {
    "sent_per_s": "sent/s", "sent": "requests", "failed": "failed", "ttft_p50_ms": "ttft p50",
    "ttft_p95_ms": "ttft p95", "inter_token_p95_ms": "inter-token p95", "e2e_p95_ms": "e2e p95",
    "output_tokens_per_s": "tokens/s", "goodput_share": "goodput",
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All steps of a load test, from the lowest rate up."""

    section: LoadTest
    steps: tuple[Step, ...]

    @property
    def judged(self) -> Step:
        """The step that gates are judged at."""
        rate = self.section.requests_per_second
        return next(step for step in self.steps if step.requests_per_second == rate)

    @property
    def sustained_per_s(self) -> float:
        """The highest rate at which enough requests met the objective; 0 where none did."""
        share = self.section.slo.share
        kept = [step for step in self.steps if (step.metrics["goodput_share"] or 0) >= share and step.keeps_rate]
        return max((step.requests_per_second for step in kept), default=0.0)

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured at the rate that gates are judged at, without what no request has."""
        known = {name: value for name, value in self.judged.metrics.items() if value is not None}
        return {**known, "sustained_per_s": self.sustained_per_s}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "load_test": self.section.model_dump(exclude={"gates"}),
            "metrics": self.metrics,
            "steps": [{**asdict(step), "keeps_rate": step.keeps_rate} for step in self.steps],
        }


def verdicts(report: Report, gates: dict[str, str]) -> list[Verdict]:
    """Return what each gate decides; a latency that no request has is refused."""
    return [
        decide(PREFIX + metric, parse_condition(text), report.metrics.get(metric), None, by_interval=False)
        for metric, text in gates.items()
    ]


def table(report: Report) -> dict[str, Any]:
    """Return the fields of a `table` event: a row for each rate, and as `load_test` all that was measured."""
    rows = [
        [step.requests_per_second, *(_cell(name, step.metrics[name]) for name in _COLUMNS)] for step in report.steps
    ]
    steps = [{"requests_per_second": step.requests_per_second, **step.metrics} for step in report.steps]
    return {"title": TITLE, "columns": ["requests/s", *_COLUMNS.values()], "rows": rows, "load_test": steps}


def _cell(name: str, value: float | None) -> float | int | str:
    if value is None:
        return "–"
    return int(value) if name in ("sent", "failed") else value
