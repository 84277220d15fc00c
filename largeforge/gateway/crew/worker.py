"""What a worker knows of the gateway that it is part of, and what it shares with the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from largeforge.gateway.crew.counts import Counts

if TYPE_CHECKING:
    from largeforge.gateway.backend import Backend


@dataclass(frozen=True)
class Place:
    """The place of one worker."""

    folder: Path
    """Where workers meet; only this user may look into it."""
    worker: int
    """Its number, from 0."""
    workers: int
    port: int
    """Port that all workers listen on."""
    config: Path
    """File that the gateway was started with."""
    state: Path
    """File of what operators have set."""
    listener: int = -1
    """Descriptor of the socket that all accept from; -1 where each has its own on the port."""
    beat_s: float = 0.0
    """How often the parent asks for a sign of life; 0 for never."""
    counts: Counts | None = field(default=None, compare=False)

    @property
    def in_force(self) -> Path:
        """The gateway file in force."""
        return self.folder / "in_force.json"

    def as_argument(self) -> str:
        """Return the place as a word of a command line."""
        return orjson.dumps({**asdict(self), "counts": None}, default=str).decode()

    @classmethod
    def from_argument(cls, text: str) -> Place:
        """Return the place that a word of the command line tells."""
        values: dict[str, Any] = orjson.loads(text)
        values |= {key: Path(values[key]) for key in ("folder", "config", "state")}
        counts = Counts(values["folder"], worker=values["worker"], workers=values["workers"])
        counts.clear()
        return cls(**{**values, "counts": counts})

    def count(self, backend: Backend) -> None:
        """Have a server's requests counted together with those of the other workers."""
        assert self.counts is not None
        backend.count = self.counts.of(backend.url)
