"""Rollouts and canaries for Prometheus: what is in force, what controllers told last, and the counts of both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from largeforge.gateway.admin.rollout_view import share_in_force
from largeforge.monitoring import names
from largeforge.rollout.state import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.arms import Arms

PHASES: tuple[Phase, ...] = get_args(Phase)


class RolloutCollector:
    """Reads the state and the counts whenever it is asked."""

    def __init__(self, registry: CollectorRegistry, controls: Controls, arms: Arms):
        self._controls, self._arms = controls, arms
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering does not collect."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield from _told(self._controls.now)
        requests = CounterMetricFamily(
            names.ARM_REQUESTS, "Requests of experts with a canary, by who was asked first; copies count as well.",
            labels=["expert", "arm"],
        )  # fmt: skip
        errors = CounterMetricFamily(
            names.ARM_ERRORS, "Those without a good answer, also where another one answered in its place.",
            labels=["expert", "arm"],
        )  # fmt: skip
        for expert, arm, tally in self._arms.tallies():
            requests.add_metric([expert, arm], tally.requests)
            errors.add_metric([expert, arm], tally.errors)
        yield from (requests, errors)


def _told(state: State) -> Iterator[Metric]:
    share = GaugeMetricFamily(
        names.ROLLOUT_SHARE, "Share of an expert's requests that its new model answers.", labels=["expert"]
    )
    phase = GaugeMetricFamily(names.ROLLOUT_PHASE, "1 for the phase of a rollout.", labels=["expert", "phase"])
    changed = GaugeMetricFamily(
        names.ROLLOUT_CHANGED, "When a rollout came to its phase or its step.", labels=["expert", "phase"]
    )
    seen = GaugeMetricFamily(names.ROLLOUT_SEEN, "When a controller looked at a rollout last.", labels=["expert"])
    guarded = GaugeMetricFamily(
        names.CANARY_GUARDED, "1 where the gateway itself took a canary out.", labels=["expert"]
    )
    for expert in sorted(state.canaries.keys() | state.rollouts.keys()):
        share.add_metric([expert], share_in_force(state, expert))
    for expert, view in state.rollouts.items():
        for name in PHASES:
            phase.add_metric([expert, name], float(view.phase == name))
        changed.add_metric([expert, view.phase], view.changed)
        seen.add_metric([expert], view.seen)
    for expert in state.guarded:
        guarded.add_metric([expert], 1.0)
    yield from (share, phase, changed, seen, guarded)
