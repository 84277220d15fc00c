"""What a stage is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    recorded_step: int = 0
    """The last step that an earlier attempt told of; steps after it that are not done again are told again."""


@dataclass(frozen=True)
class Result:
    """What a finished stage says of its artifact; both parts end in its manifest."""

    metrics: dict[str, float] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
