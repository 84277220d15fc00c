"""How much a GPU or a host can give, what a server takes of it, and whether a host may have it at all.

vLLM's share of a GPU is what it takes beside its own CUDA context, which is there before it counts what is free
(vllm/v1/worker/utils.py, `request_memory`): so each server costs what it is given and a context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.estimate.overhead import FRAGMENTATION
from largeforge.estimate.serving import CONTEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.placing.model import Demand, Gpu, HostCapacity, Labels

CONTEXT = int(CONTEXT_BYTES)
"""What a server takes of a GPU beside its share."""
RESERVE_SHARE = FRAGMENTATION
"""Share of what a GPU has free that is given to nobody."""
ROLE = "serve"
"""Role of hosts that take servers."""


def usable_bytes(gpu: Gpu) -> int:
    """Return what all servers together may take of a GPU."""
    return max(0, int(min(gpu.memory_bytes, gpu.free_bytes) * (1 - RESERVE_SHARE)))


def context_bytes(demand: Demand) -> int:
    """Return what a replica takes beside what it is given."""
    return CONTEXT if demand.device == "cuda" else 0


def allows(host: HostCapacity, demand: Demand) -> bool:
    """Return whether roles and labels of a host let it have a server."""
    return serves(host) and not misses(host.labels, demand.labels) and not meets(host.labels, demand.avoid)


def serves(host: HostCapacity) -> bool:
    """Return whether a host takes servers."""
    return not host.roles or ROLE in host.roles


def misses(labels: Mapping[str, str], required: Labels) -> list[str]:
    """Return the names of required labels that are not there with a value that is allowed."""
    return sorted(name for name, values in required.items() if labels.get(name) not in allowed_values(values))


def meets(labels: Mapping[str, str], avoided: Labels) -> list[str]:
    """Return the names of labels that are there with a value that is to be avoided."""
    return sorted(name for name, values in avoided.items() if labels.get(name) in allowed_values(values))


def allowed_values(values: object) -> tuple[str, ...]:
    """Return the values of a rule for a label, in order."""
    return (values,) if isinstance(values, str) else tuple(sorted(values))  # type: ignore[call-overload]
