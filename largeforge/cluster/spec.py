"""What a training on several hosts is made of, as one word of a command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """One host and what it runs."""

    name: str
    address: str
    reached_at: str
    """Address for the other hosts."""
    argv: tuple[str, ...]
    gpus: int
    python: str
    workdir: str = ""
    user: str = ""
    port: int = 0


@dataclass(frozen=True)
class Spec:
    """A training on several hosts."""

    folder: str
    """Folder of the stage, the same on all hosts."""
    nodes: tuple[Node, ...]
    connect_timeout_s: float = 60.0
    lost_after_s: float = 30.0
    ssh_config: str = ""

    def encode(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Spec:
        """Read what `encode` wrote."""
        found = json.loads(text)
        nodes = tuple(Node(**{**node, "argv": tuple(node["argv"])}) for node in found.pop("nodes"))
        return cls(nodes=nodes, **found)


@dataclass(frozen=True)
class JobSpec:
    """A training as a job of a cluster."""

    folder: str
    """Folder of the stage, the same on all nodes."""
    cluster: str
    """Executor of submitit: `slurm`, or `local` for a job without a cluster on this machine."""
    python: str
    module: tuple[str, ...]
    """What each process runs, after `python -m`."""
    nodes: int
    processes: int
    """Processes on each node."""
    parameters: dict[str, Any]
    """What submitit is asked for."""
    max_requeues: int
    poll_s: float = 1.0

    def encode(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> JobSpec:
        """Read what `encode` wrote."""
        found = json.loads(text)
        return cls(**{**found, "module": tuple(found["module"])})


@dataclass(frozen=True)
class RaySpec:
    """A training on the nodes of a Ray cluster."""

    folder: str
    """Folder of the stage, the same on all nodes."""
    address: str
    module: tuple[str, ...]
    """What each process runs, after `python -m`."""
    nodes: int
    processes: int
    """Processes on each node."""
    cpus: float
    """CPUs that each process reserves."""
    gpus: int
    """GPUs that each process reserves."""
    placement: str
    queue_timeout_s: float
    lost_after_s: float
    workdir: str = ""
    meets: bool = True
    """Whether the processes form a group, even of one; False for one process that knows of no others."""

    @property
    def bundle(self) -> dict[str, float]:
        """What the processes of one node reserve together, in Ray's words."""
        needs = {"CPU": self.cpus * self.processes, "GPU": float(self.gpus * self.processes)}
        return {name: amount for name, amount in needs.items() if amount}

    def encode(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> RaySpec:
        """Read what `encode` wrote."""
        found = json.loads(text)
        return cls(**{**found, "module": tuple(found["module"])})
