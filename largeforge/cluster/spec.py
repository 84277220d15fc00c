"""What a training on several machines is made of, as text: a file, or one word of a command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """What one of several hosts does in a training."""

    host: str
    """Its name, one of those of `addresses`."""
    addresses: dict[str, str]
    """Names of all hosts to where the others reach them; they meet at the first one, which has the first process."""
    argv: tuple[str, ...]
    """What starts the processes of this host; the port of torch's rendezvous is in the environment."""
    port: int
    """Where the first host listens."""
    key: str
    """By which the hosts of one attempt know each other."""
    connect_timeout_s: float
    lost_after_s: float

    @property
    def first(self) -> str:
        """Name of the first host."""
        return next(iter(self.addresses))

    @property
    def peers(self) -> list[str]:
        """Where the other hosts are."""
        return [address for name, address in self.addresses.items() if name != self.host]

    def encode(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Part:
        """Read what `encode` wrote."""
        found = json.loads(text)
        return cls(**{**found, "argv": tuple(found["argv"])})


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
