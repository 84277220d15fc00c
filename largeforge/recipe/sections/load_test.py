"""How served models are put under load before anybody uses them, and what they must show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from largeforge.recipe.base import Strict
from largeforge.recipe.sections.judging import Condition

if TYPE_CHECKING:
    from largeforge.recipe.sections.serving import Targets

LATENCIES = ("ttft", "inter_token", "tpot", "e2e")
"""Time to first token, between two tokens, its mean within one answer, and of the whole answer."""
PERCENTILES = (50, 90, 95, 99)
METRICS = (
    *(f"{latency}_p{percentile}_ms" for latency in LATENCIES for percentile in PERCENTILES),
    "sent", "sent_per_s", "completed", "completed_per_s", "failed", "error_share", "goodput_share", "goodput_per_s",
    "prompt_tokens_per_s", "output_tokens_per_s", "sustained_per_s",
)  # fmt: skip
"""What gates may name."""
OF_SLO = ("goodput_share", "goodput_per_s", "sustained_per_s")
"""Metrics that say nothing where there is no objective."""

Rate = Annotated[float, Field(gt=0)]


class Goodput(Strict):
    """What one request must meet to count as goodput; 0 means not asked for. A failed request never counts."""

    ttft_ms: float = Field(default=0, ge=0)
    """Longest time to the first token."""
    inter_token_ms: float = Field(default=0, ge=0)
    """Longest time between two tokens, as the mean over the tokens of the answer after the first."""
    e2e_ms: float = Field(default=0, ge=0)
    """Longest time to the last token."""
    share: float = Field(default=0.9, gt=0, le=1)
    """Share of all requests that must meet it for a rate to count as sustained."""

    @property
    def is_given(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.ttft_ms or self.inter_token_ms or self.e2e_ms)


class LoadTest(Strict):
    """Requests that arrive at given rates whether or not earlier ones are answered (open loop), streamed by chat."""

    expert: str = "auto"
    """Expert that is asked; `auto` leaves the choice to the router."""
    requests_per_second: float = Field(default=0, ge=0)
    """Rate that gates are judged at; 0 means that of `serving.targets`."""
    steps: list[Rate] = []
    """Further rates to measure, to find the highest that is sustained; all are tried from the lowest up."""
    duration_s: float = Field(default=60, gt=0)
    """How long requests arrive at each rate."""
    num_requests: int = Field(default=0, ge=0)
    """Requests at each rate in place of a duration; 0 means as many as arrive in `duration_s`."""
    burstiness: float = Field(default=1.0, gt=0)
    """1 is a Poisson process, less comes in bursts, more is more even (gaps are gamma distributed)."""
    max_concurrency: int = Field(default=0, ge=0)
    """Most requests in flight; further ones wait before they are sent, and their wait counts. 0 is no limit."""
    warm_up_requests: int = Field(default=4, ge=0)
    """Requests sent at once before each rate, which are not counted."""
    path: str = ""
    """JSONL file of rows to ask, with `messages` (an answer at the end is left out) or `prompt`; relative to the
    working directory, or to the recipe with `recipe:`. Empty means random tokens."""
    prompt_tokens: int = Field(default=0, ge=0)
    """Mean length of random prompts without the chat template; 0 means that of `serving.targets`."""
    prompt_tokens_spread: float = Field(default=0, ge=0, lt=1)
    """Random prompts are so much shorter or longer, as a share of their length, each as likely as the other."""
    completion_tokens: int = Field(default=0, ge=0)
    """Length of answers, 0 means that of `serving.targets`: exact to random prompts, the most to rows."""
    completion_tokens_spread: float = Field(default=0, ge=0, lt=1)
    """The same for the length of answers to random prompts."""
    slo: Goodput = Goodput()
    """What counts as goodput."""
    drain_timeout_s: float = Field(default=300, gt=0)
    """How long answers may take after the last request of a rate was sent; then the test is given up."""
    seed: int = Field(default=0, ge=0, lt=2**22)
    """Seed of arrivals and prompts."""
    gates: dict[str, Condition] = {}
    """Metric to condition, such as `ttft_p95_ms: "<= 250"`, judged at `requests_per_second`."""

    def completed(self, targets: Targets) -> LoadTest:
        """Return the section with what it leaves to `serving.targets`."""
        left = {key: getattr(targets, key) for key in TARGETED if not getattr(self, key)}
        return self.model_copy(update=left)

    @property
    def rates(self) -> list[float]:
        """All rates, each once, from the lowest up."""
        return sorted({self.requests_per_second, *self.steps})

    def count(self, rate: float) -> int:
        """Return how many requests are sent at a rate."""
        return self.num_requests or max(1, round(rate * self.duration_s))


TARGETED = ("requests_per_second", "prompt_tokens", "completion_tokens")
"""Fields that `serving.targets` has as well."""
