"""What a stage is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from largeforge.events import Events


@dataclass(frozen=True)
class Context:
    """The surroundings of one stage in its own process."""

    stage: str
    """Name of the stage in its run, for example `mapper.train`."""
    inputs: dict[str, Path]
    """Finished artifacts that this stage reads: input name to folder."""
    out: Path
    """Empty folder for the artifact; hashed and sealed by the runner when the stage succeeds."""
    work: Path
    """Folder that survives an interruption, for checkpoints."""
    events: Events
    lock: str
    """Digest of the run's lock."""
    recorded: Mapping[str, int] = field(default_factory=dict)
    """Kind of event (`progress`, `eval`) to the last step for which an earlier attempt told one."""


@dataclass(frozen=True)
class Result:
    """What a finished stage says of its artifact; both parts end in its manifest."""

    metrics: dict[str, float] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
