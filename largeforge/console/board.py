"""What the console knows of a run so far, gathered from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from largeforge.console.measured import figures, heldout_metrics, own_metrics
from largeforge.console.text import clean, finite, number

_MAX_LOSSES = 2000


@dataclass
class Stage:
    """A stage from its first event to its last."""

    name: str
    since: float
    """Time of its first event, in seconds since the epoch."""
    title: str = ""
    seen: float = 0.0
    """Time of its last progress event."""
    step: float | None = None
    total: float | None = None
    unit: str = "step"
    loss: str = ""
    losses: list[float] = field(default_factory=list)
    """Finite losses so far, evenly thinned."""
    tokens_per_s: float | None = None
    seconds_left: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """The newest of each number that a training tells (`figures.figures`)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest of each figure of the method itself."""
    heldout: dict[str, float] = field(default_factory=dict)
    """Held-out metrics of the last evaluation during a training."""
    heldout_step: float = 0.0
    checkpoint: float | None = None
    """Step of the last checkpoint."""
    best_checkpoint: float | None = None
    """Step of the best checkpoint, where checkpoints are compared."""
    outcome: list[str] = field(default_factory=list)
    """What came out: a few names with their values."""
    _stride: int = 1
    _skipped: int = 0

    def advance(self, event: dict[str, Any]) -> None:
        """Take a progress event."""
        self.seen = event_time(event)
        self.step = finite(event.get("step"))
        self.total = finite(event.get("total"))
        self.unit = clean(event.get("unit") or "step")
        self.tokens_per_s = finite(event.get("tokens_per_s"))
        self.seconds_left = finite(event.get("seconds_left"))
        self.figures |= figures(event)
        self.metrics |= own_metrics(event.get("metrics"))
        if event.get("loss") is not None:
            self.loss = number(event["loss"])
            self._remember(finite(event["loss"]))

    def judge(self, event: dict[str, Any]) -> None:
        """Take an evaluation during a training."""
        self.heldout = heldout_metrics(event.get("metrics"))
        self.heldout_step = finite(event.get("step")) or 0.0

    def save(self, event: dict[str, Any]) -> None:
        """Take a checkpoint."""
        self.checkpoint = finite(event.get("step"))
        if event.get("best") is True:
            self.best_checkpoint = self.checkpoint

    @property
    def is_training(self) -> bool:
        """Whether it has told a loss."""
        return bool(self.loss)

    def _remember(self, loss: float | None) -> None:
        self._skipped += 1
        if loss is None or self._skipped < self._stride:
            return
        self._skipped = 0
        self.losses.append(loss)
        if len(self.losses) > _MAX_LOSSES:
            self.losses = self.losses[::2]
            self._stride *= 2

    @property
    def steps(self) -> str:
        """Position as 100/500, or 100 when the end is not known."""
        if self.step is None:
            return ""
        return f"{self.step:g}/{self.total:g}" if self.total else f"{self.step:g}"

    def left(self, now: float) -> float | None:
        """Seconds until the last step, as the stage says or at the pace so far."""
        if self.seconds_left is not None:
            return max(0.0, self.seconds_left - (now - self.seen))
        if not self.step or not self.total or self.seen <= self.since:
            return None
        pace = (self.seen - self.since) / self.step
        return max(0.0, pace * (self.total - self.step) - (now - self.seen))


@dataclass
class Board:
    """All stages of a run."""

    names: list[str] = field(default_factory=list)
    """Stages of the plan, in order."""
    running: dict[str, Stage] = field(default_factory=dict)
    num_done: int = 0
    began: float | None = None
    """Time of the run's first event."""
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Stage and message of each failure shown."""

    def take(self, event: dict[str, Any]) -> Stage:
        """Take an event and return the stage that it is about."""
        kind, name, now = event.get("kind"), clean(event.get("stage", "")), event_time(event)
        self.began = now if self.began is None else self.began
        if kind == "run_started":
            stages = event.get("stages")
            self.names = [clean(item) for item in stages] if isinstance(stages, list) else []
        stage = self.running.get(name) or Stage(name, since=now, seen=now)
        if kind == "started":
            stage = Stage(name, since=now, seen=now, title=clean(event.get("title") or ""))
            self.running[name] = stage
        elif kind == "progress":
            stage.advance(event)
            self.running[name] = stage
        elif kind == "eval":
            stage.judge(event)
        elif kind == "checkpoint":
            stage.save(event)
        elif kind == "result":
            stage.outcome = outcome(event)
            self.running[name] = stage
        elif kind in ("finished", "failed"):
            self.running.pop(name, None)
            self.num_done += kind == "finished"
        elif kind in ("run_finished", "run_failed"):
            self.running.clear()
        return stage

    @property
    def name_width(self) -> int:
        """Width of the widest stage name, so that lines align."""
        return max((len(name) for name in [*self.names, *self.running]), default=0)

    def elapsed(self, now: float) -> float:
        """Seconds since the run's first event."""
        return max(0.0, now - self.began) if self.began is not None else 0.0


def event_time(event: dict[str, Any]) -> float:
    """Return when an event was written."""
    return finite(event.get("time")) or 0.0


def outcome(event: dict[str, Any], *, limit: int = 3) -> list[str]:
    """Return the first metrics of a `result`, or what it says of its artifact when it has none."""
    for part in ("metrics", "info"):
        values = event.get(part)
        if not isinstance(values, dict):
            continue
        flat = [
            f"{clean(key)} {number(value)}" for key, value in values.items() if isinstance(value, str | int | float)
        ]
        if flat:
            return flat[:limit]
    return []
