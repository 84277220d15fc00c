"""What placement is given and what it returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

Labels = Mapping[str, "str | Collection[str]"]
"""Label of a host to the value, or the values, that a rule names."""


@dataclass(frozen=True)
class Gpu:
    """One GPU of a host."""

    index: int
    name: str
    memory_bytes: int
    """All of it, as torch reports it: what vLLM's `gpu_memory_utilization` is a share of."""
    free_bytes: int
    """What is not taken by processes that are not ours."""


@dataclass(frozen=True)
class HostCapacity:
    """What one host has for servers."""

    name: str
    gpus: tuple[Gpu, ...] = ()
    links: tuple[tuple[int, ...], ...] = ()
    """Groups of GPUs, by index, that are linked to each other (NVLink, one switch); others meet over PCIe."""
    memory_bytes: int = 0
    """Memory of the host that servers on its CPU may use."""
    cores: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    """What it is for; one that does not `serve` gets nothing, one without roles is for everything."""


@dataclass(frozen=True)
class Demand:
    """One server that is to run, with as many replicas as it shall have."""

    name: str
    experts: tuple[str, ...] = ()
    replicas: int = 1
    device: Literal["cpu", "cuda"] = "cuda"
    tensor_parallel_size: int = 1
    needed_bytes: int = 0
    """At the least on each of its GPUs, or of the host's memory on a CPU: weights, activations, the KV cache that the
    recipe asks for, and the server's own overhead. `estimate.serving.CONTEXT_BYTES` comes on top on a GPU."""
    wanted_bytes: int = 0
    """With the KV cache that the recipe's `gpu_memory_utilization` would take; what it is given lies between."""
    exclusive: bool = False
    """Whether its GPUs are for it alone; on a CPU it says nothing."""
    labels: Labels = field(default_factory=dict)
    """Labels that its host must have, each with the value or one of the values."""
    avoid: Labels = field(default_factory=dict)
    """Labels that its host must not have with the value or one of the values."""
    spread: Literal["none", "hosts", "hosts!"] = "hosts"
    """Replicas on different hosts: `hosts` where possible, with a warning where not; `hosts!` always."""

    @property
    def full_bytes(self) -> int:
        """What it is given at most."""
        return max(self.needed_bytes, self.wanted_bytes)


@dataclass(frozen=True)
class Seat:
    """Where one replica of a server runs, and what it may take there."""

    server: str
    replica: int
    host: str
    gpus: tuple[int, ...] = ()
    """Indices on the host; empty on a CPU."""
    bytes_each: int = 0
    """Of each of its GPUs, or of the host's memory on a CPU."""
    share: float = 0.0
    """The same as a share of the whole GPU, rounded up: vLLM's `gpu_memory_utilization`."""
    slot: int = 0
    """Number on its host, from 0, for its port."""

    @property
    def title(self) -> str:
        """Name for people, `general#0`."""
        return f"{self.server}#{self.replica}"


@dataclass(frozen=True)
class Change:
    """A change with which everything fits; it was tried."""

    text: str
    override: str = ""
    """What to type; empty where the inventory would have to change."""


@dataclass(frozen=True)
class Refusal:
    """Why not everything fits."""

    servers: tuple[str, ...]
    """Those that do not."""
    reasons: tuple[str, ...]
    """One sentence for each."""
    changes: tuple[Change, ...] = ()
    """The nearest feasible changes, best first, at most three."""
    is_proven: bool = True
    """Whether it is certain; False when the search ended at its bound."""

    def __str__(self) -> str:
        doubt = () if self.is_proven else ("The search ended at its bound: there may be a way all the same.",)
        changes = [f"  - {change.text}{f': {change.override}' if change.override else ''}" for change in self.changes]
        hints = ("What would make it fit:", *changes) if changes else ("No single change that was tried makes it fit.",)
        return "\n".join([*self.reasons, *doubt, *hints])


@dataclass(frozen=True)
class Row:
    """What is on one GPU, or in the memory of a host for servers on its CPU."""

    host: str
    unit: str
    """`GPU 0`, or `memory`."""
    kind: str
    """Name of the GPU; empty for memory."""
    memory_bytes: int
    """All there is."""
    usable_bytes: int
    """What servers may take: without other processes and the reserve."""
    given_bytes: int
    """What they take, contexts included."""
    servers: tuple[tuple[str, int], ...] = ()
    """Each server, `general#0`, with what it is given."""


@dataclass(frozen=True)
class Placing:
    """The seats of all servers, or why there are none."""

    seats: tuple[Seat, ...] = ()
    """By server and replica; empty when refused."""
    warnings: tuple[str, ...] = ()
    refused: Refusal | None = None
    moved: tuple[tuple[Seat, Seat], ...] = ()
    """Where a server was and where it is now, for those that could not stay."""
    hosts: tuple[HostCapacity, ...] = field(default=(), repr=False)

    def rows(self) -> tuple[Row, ...]:
        """Return what is on each GPU of each host, and in the memory of hosts that may have servers on their CPU."""
        from largeforge.placing.rows import rows

        return rows(self.seats, self.hosts)
