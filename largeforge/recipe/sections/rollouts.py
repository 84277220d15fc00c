"""How a new model of an expert takes over from the one that serves: in which steps, and what sends it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from largeforge.recipe.base import AsGiven, Name, RegistryAlias, Strict

StepShare = Annotated[float, Field(gt=0, le=1)]

COMPARED: dict[str, dict[str, Any]] = {
    "errors": {"tolerance": 0.0005, "rule_out": 0.04, "weight": 0.5, "required": True},
    "latency_p95": {"ratio": 1.5, "tolerance": 0.01, "rule_out": 0.15, "weight": 0.1},
    "latency_p99": {"ratio": 1.5, "tolerance": 0.005, "rule_out": 0.1, "weight": 0.1},
    "ttft_p95": {"ratio": 1.5, "tolerance": 0.01, "rule_out": 0.15, "weight": 0.1},
    "schema_valid": {"tolerance": 0.005, "rule_out": 0.05, "weight": 0.05},
    "agreement": {"floor": 0.8, "weight": 0.02},
    "judge": {"tolerance": 0.01, "rule_out": 0.2, "weight": 0.1},
    "thumbs": {"tolerance": 0.02, "weight": 0.03, "min_samples": 0},
}
"""Defaults by metric, chosen by `scripts/bench rollout`."""


class Compared(Strict):
    """One share of bad requests of the canary beside stable's over the same time. The canary is worse when its share is
    surely above `ratio` times stable's plus `tolerance`."""

    tolerance: float = Field(default=0.01, ge=0, lt=1)
    """By how much the canary's share may exceed stable's, as a share of all requests: 0.01 is one of a hundred. Of
    errors, half of the error budget where this is left at 0.0005 and `slo` promises availability."""
    ratio: float = Field(default=1.0, ge=1)
    """How many times stable's share it may be, before `tolerance` is added."""
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Least share of *good* ones where stable has no such figure over the same time; 0 judges nothing then. Of a
    quality that `slo` promises its objective, where this is 0."""
    weight: float = Field(default=0.1, ge=0)
    """Part that this metric has in the false alarms that `alpha` allows, beside the other weights: more finds it sooner
    and all others later. 0 leaves it out."""
    min_samples: int = Field(default=50, ge=0)
    """Requests of the canary that it is judged on at least before a step is passed."""
    rule_out: float = Field(default=0.0, ge=0, le=1)
    """A step is passed only when the canary's share surely exceeds stable's by no more than this, by a confidence
    sequence; 0 asks for nothing."""
    required: bool = False
    """Whether a step waits for it. Others are waited for only once there is something of it."""


class Triggers(Strict):
    """Limits that send a canary back whatever stable does, unless stable is beyond them as well."""

    error_share: float = Field(default=0.01, ge=0, lt=1)
    """Most of the canary's requests that may fail; 0 sets no limit. Not given, availability in `slo` says it."""
    latency_ms: float = Field(default=500.0, ge=0)
    """Time that all but `latency_share` of the requests are answered within; 0 sets no limit. Not given, a latency in
    `slo` says both."""
    latency_share: float = Field(default=0.01, gt=0, lt=1)
    """Share of the requests that may take longer than `latency_ms`: 0.01 makes that the p99."""
    ttft_ms: float = Field(default=0.0, ge=0)
    """Time that all but `ttft_share` of the first tokens come within; 0 sets no limit. Not given, a time to first token
    in `slo` says both."""
    ttft_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the requests whose first token may take longer than `ttft_ms`."""
    quality: bool = True
    """Whether quality below stable's sends it back; false only reports it."""


class Analysis(Strict):
    """What of a canary is compared with stable, and how surely. Counts of both over the same time are compared at every
    look, by tests that hold up under any number of looks."""

    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """Most of the rollouts of models that are as good as stable that are sent back, over all metrics, looks and steps
    at which both are asked. With all of the traffic a model is held against what stable did before, which is not known
    exactly: each metric adds up to 1 % there."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of what `rule_out` excludes."""
    clustering: float = Field(default=1.0, ge=1)
    """By how much errors of one user come together rather than alone (design effect): 2 asks for twice the evidence."""
    errors: Compared = Compared(**COMPARED["errors"])
    """Requests without a good answer."""
    latency_p95: Compared = Compared(**COMPARED["latency_p95"])
    """Requests that take longer than 95 % of stable's do."""
    latency_p99: Compared = Compared(**COMPARED["latency_p99"])
    """Requests that take longer than 99 % of stable's do."""
    ttft_p95: Compared = Compared(**COMPARED["ttft_p95"])
    """Requests whose first token takes longer than that of 95 % of stable's."""
    schema_valid: Compared = Compared(**COMPARED["schema_valid"])
    """Answers that do not meet the schema that was asked for."""
    agreement: Compared = Compared(**COMPARED["agreement"])
    """Answers that differ from stable's to the same request."""
    judge: Compared = Compared(**COMPARED["judge"])
    """Answers that a judge finds wrong, of a sample."""
    thumbs: Compared = Compared(**COMPARED["thumbs"])
    """Thumbs down, of all thumbs that were given."""
    triggers: Triggers = Triggers()
    """Fixed limits."""

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, given: Any) -> Any:
        """Let a metric that names some of its keys keep its own defaults of the others."""
        if not isinstance(given, dict):
            return given
        return {
            name: {**COMPARED[name], **value} if name in COMPARED and isinstance(value, dict) else value
            for name, value in given.items()
        }

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if not any(self.compared(name).weight for name in COMPARED):
            raise ValueError("nothing is compared: at least one metric needs a weight above 0")
        return self

    def compared(self, name: str) -> Compared:
        """Return the settings of a metric."""
        found: Compared = getattr(self, name)
        return found


class Rolling(Strict):
    """How a new model of one expert takes over; what an expert may have of its own."""

    strategy: Literal["canary", "blue_green", "shadow", "ab", "immediate"] = "canary"
    """`canary` gives the new model more and more of the traffic while nothing is worse; `blue_green` all at once, and
    watches it; `shadow` gives it copies of requests, whose answers nobody sees; `ab` gives it a fixed share for a time
    and reports; `immediate` all at once, and watches nothing."""
    steps: list[StepShare] = Field(default=[0.05, 0.25, 0.5, 1.0], min_length=1, max_length=50)
    """Shares of the traffic that a canary gets one after the other, rising; 1 at the end is added where it is missing.
    The same users are always among them (`topology.sticky`)."""
    bake_s: float = Field(default=600.0, ge=0)
    """How long each step, or the shadow, lasts at least."""
    min_requests: int = Field(default=200, ge=1)
    """Requests that the canary answers in each step at least; until then the step is held."""
    watch_s: float = Field(default=300.0, ge=0)
    """How long the new model is watched when it has all of the traffic, before the old one is given up. There is no
    stable to compare with by then: limits and what stable did before are what it is judged by."""
    give_up_s: float = Field(default=0.0, ge=0)
    """Longest time that a step is held, for want of traffic or of certainty, before all goes back; 0 waits for ever."""
    shadow_share: StepShare = 1.0
    """Share of the requests that `shadow` copies."""
    ab_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the traffic that `ab` gives the new model."""
    ab_s: float = Field(default=86400.0, gt=0)
    """How long `ab` lasts."""
    ab_promote: bool = False
    """Whether `ab` promotes a model that is not worse at its end; otherwise shares stay until a command."""
    look_s: float = Field(default=5.0, gt=0, le=15)
    """Seconds from one look at the counts to the next; 15 at most, since gateways take a canary out by themselves when
    nobody has looked after it for 30 s (`gateway.canary_guard.after_s`)."""
    alias: RegistryAlias | Literal[""] = ""
    """Alias in the registry that a promoted model gets, such as production; empty moves none. Where an expert names its
    model by an alias, that one goes back to the model that serves when the new one is sent back."""
    analysis: Analysis = Analysis()
    """What is compared, and how surely."""

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if self.steps != sorted(set(self.steps)):
            raise ValueError(f"steps: shares must rise from step to step, not {self.steps}")
        return self


class Rollout(Rolling):
    """How a new model of an expert takes over from the one that serves."""

    name: str = ""
    """Name of the choice under `conf/rollout/`."""
    again: bool = False
    """Whether models are tried once more that were sent back before."""
    experts: dict[Name, Annotated[dict[str, Any], AsGiven(Rolling)]] = {}
    """By expert with a server of its own, what differs from the above: `experts.code.steps=[0.1]`,
    `experts.chat.strategy=shadow`."""

    def of(self, expert: str) -> Rollout:
        """Return the settings of one expert."""
        return self._with(self.experts.get(expert, {}))

    def _with(self, other: dict[str, Any]) -> Rollout:
        return Rollout.model_validate(_merged(self.model_dump(exclude={"experts"}, exclude_unset=True), other))

    @model_validator(mode="after")
    def _experts_are_right(self) -> Self:
        """Hold what an expert has of its own against what it has from the section."""
        for expert, other in self.experts.items():
            try:
                self._with(other)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(map(str, ("experts", expert, *first["loc"])))
                raise ValueError(f"{place}: {first['msg']}") from None
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The share that the new model has in each step of the strategy, the last one until it is promoted."""
        if self.strategy == "canary":
            return (*(share for share in self.steps if share < 1), 1.0)
        return {"ab": (self.ab_share,), "shadow": (0.0,)}.get(self.strategy, (1.0,))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what others say in their place, key by key."""
    both = {
        key: _merged(one[key], value) if isinstance(value, Mapping) and isinstance(one.get(key), Mapping) else value
        for key, value in other.items()
    }
    return {**one, **both}
