"""What replicas of an expert are meant for, from its settings and from what `slo` promises: one number changes all.

Both `largeforge autoscale` and the autoscalers of exports read this. That the largest need of several metrics wins is
how Kubernetes' HorizontalPodAutoscaler decides
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/, "Algorithm details"). Queues as
what leads and latency as what guards follows AWS's guidance for vLLM
(https://docs.aws.amazon.com/eks/latest/userguide/ml-inference-autoscaling-hpa-keda.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from largeforge.recipe.sections.slos import LATENCIES

if TYPE_CHECKING:
    from largeforge.recipe.sections.autoscaling import Scaling
    from largeforge.recipe.sections.slos import Indicator, Slo

Kind = Literal["waiting", "in_flight", "latency", "cache_use", "gpu_use"]


@dataclass(frozen=True)
class Target:
    """One number that decides."""

    name: str
    kind: Kind
    value: float
    """Requests for each replica, milliseconds, or a share."""
    indicator: Indicator | None = None
    """Of a latency, what is measured."""
    percentile: float = 0.0
    """Of a latency: 0.95 is p95."""

    @property
    def is_per_replica(self) -> bool:
        """Whether it is a number for each replica; else it is as it is for all of them, such as a latency."""
        return self.kind in ("waiting", "in_flight")


def targets(scaling: Scaling, slo: Slo, *, max_num_seqs: int) -> list[Target]:
    """Return what decides on an expert's replicas.

    Requests that wait at the gateway are what people notice. Without those in flight a full replica that just about
    keeps up would be taken away. Latencies that are promised are a guard: there are more replicas before the promise is
    broken for long.
    """
    found = [
        Target("waiting", "waiting", scaling.waiting),
        Target("in_flight", "in_flight", max(1, int(scaling.in_flight * max_num_seqs))),
    ]
    if scaling.latency:
        found += [
            Target(f"slo-{name}", "latency", one.threshold_ms, indicator=one.indicator, percentile=one.objective)
            for name, one in slo.objectives.items()
            if one.indicator in LATENCIES
        ]
    shares: tuple[tuple[Kind, float], ...] = (("cache_use", scaling.cache_use), ("gpu_use", scaling.gpu_use))
    return [*found, *(Target(kind, kind, share) for kind, share in shares if share)]
