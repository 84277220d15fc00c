"""What the tool has written of one rate, as a measured step.

Everything is computed from the single requests. The tool's own sums leave three things out: percentiles are 0 where no
request was answered, goodput knows no share, and a wait for `max_concurrency` does not count as latency.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.errors import LoadTestError
from largeforge.recipe.sections.load_test import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.recipe.schema import Goodput

_MOST_REASONS = 20
_UNKNOWN = "no reason given"


@dataclass(frozen=True)
class Step:
    """One rate, as it was measured."""

    requests_per_second: float
    """Rate that was asked for."""
    duration_s: float
    """From the beginning of arrivals to the end of the last answer."""
    metrics: dict[str, float | None]
    """By the names that gates know; None is a latency that no request has."""
    errors: dict[str, int] = field(default_factory=dict)
    """Why requests failed, and how many."""
    prompt_tokens: int = 0
    """Tokens of all prompts that were answered, as the server counts them, the chat template included."""
    output_tokens: int = 0
    lag: float = 1.0
    """Time from the first to the last request, as a part of what it may take at the rate."""

    @property
    def keeps_rate(self) -> bool:
        """Whether requests were sent as fast as asked; where not, this machine was too slow, not the server."""
        return self.lag <= 1.1


@dataclass(frozen=True)
class _Answer:
    """One answered request, in milliseconds."""

    ttft: float
    tpot: float
    e2e: float
    gaps: list[float]


def step(found: Mapping[str, Any], *, slo: Goodput) -> Step:
    """Return the step that the tool's result with details tells of.

    Raises LoadTestError when the result contradicts itself.
    """
    failed = Counter(
        _reason(error) for error, is_good in zip(found["errors"], _answered(found), strict=True) if not is_good
    )
    answers = [_answer(found, place) for place, is_good in enumerate(_answered(found)) if is_good]
    total = len(found["errors"])
    if (len(answers), total) != (found["completed"], found["completed"] + found["failed"]):
        raise LoadTestError(
            f"the tool counts {found['completed']} answers and {found['failed']} failures, and tells of {len(answers)} "
            f"among {total} requests"
        )
    asked = float(found["request_rate"])
    arrivals = [sent - waited for sent, waited in zip(found["start_times"], found["queue_times"], strict=True)]
    span_s = max(arrivals) - min(arrivals)
    metrics = {**_percentiles(answers), **_sums(found, len(answers), good=sum(_is_good(one, slo) for one in answers))}
    return Step(
        asked, float(found["duration"]), {**metrics, "sent_per_s": (total - 1) / span_s if span_s > 0 else None},
        dict(failed.most_common(_MOST_REASONS)), prompt_tokens=found["total_input_tokens"],
        output_tokens=found["total_output_tokens"], lag=span_s * asked / total,
    )  # fmt: skip


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile of sorted values, linear between two of them as numpy's default; None without any."""
    if not values:
        return None
    place = (len(values) - 1) * percent / 100
    below, part = math.floor(place), place % 1
    return values[below] + part * (values[min(below + 1, len(values) - 1)] - values[below])


def _sums(found: Mapping[str, Any], completed: int, *, good: int) -> dict[str, float]:
    """Return counts and rates of all requests, of which `good` met the objective."""
    total, duration_s = len(found["errors"]), float(found["duration"])
    return {
        "sent": float(total),
        "completed": float(completed),
        "completed_per_s": completed / duration_s,
        "failed": float(total - completed),
        "error_share": (total - completed) / total,
        "goodput_share": good / total,
        "goodput_per_s": good / duration_s,
        "prompt_tokens_per_s": found["total_input_tokens"] / duration_s,
        "output_tokens_per_s": found["total_output_tokens"] / duration_s,
    }


def _answered(found: Mapping[str, Any]) -> list[bool]:
    """Tell of each request whether it was answered to the end: a failed one has an error, or no first token."""
    return [not error and ttft > 0 for error, ttft in zip(found["errors"], found["ttfts"], strict=True)]


def _answer(found: Mapping[str, Any], place: int) -> _Answer:
    waited, ttft, gaps = found["queue_times"][place], found["ttfts"][place], found["itls"][place]
    tokens, generating = found["output_lens"][place], sum(gaps)
    return _Answer(
        ttft=1000 * (waited + ttft),
        tpot=1000 * generating / (tokens - 1) if tokens > 1 else 0.0,
        e2e=1000 * (waited + ttft + generating),
        gaps=[1000 * gap for gap in gaps],
    )


def _is_good(answer: _Answer, slo: Goodput) -> bool:
    limits = ((answer.ttft, slo.ttft_ms), (answer.tpot, slo.inter_token_ms), (answer.e2e, slo.e2e_ms))
    return all(value <= limit for value, limit in limits if limit)


def _percentiles(answers: Sequence[_Answer]) -> dict[str, float | None]:
    values = {
        "ttft": sorted(answer.ttft for answer in answers),
        "inter_token": sorted(gap for answer in answers for gap in answer.gaps),
        "tpot": sorted(answer.tpot for answer in answers if answer.gaps),
        "e2e": sorted(answer.e2e for answer in answers),
    }
    return {
        f"{name}_p{percent}_ms": percentile(known, percent) for name, known in values.items() for percent in PERCENTILES
    }


def _reason(error: str) -> str:
    """Return why a request failed in one line: of a traceback the last."""
    lines = error.strip().splitlines()
    return lines[-1][:200] if lines else _UNKNOWN
