"""The answers of the model and of one baseline to the same rows, as evaluators of pairs are given them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.stages.context import Context
    from largeforge.stages.subject import Subject


@dataclass
class AnswerPair:
    """What two models answered."""

    rows: list[dict[str, Any]]
    own: list[str]
    other: list[str]
    baseline: str
    work: Path
    label: str
    context: Context
    counting: Subject
    """Anything with the model's tokenizer."""
    prefix: str = ""
    """What comes before the names of the evaluator's metrics."""
    over: str = ""
    """What the rows are, where they are not the held-out ones."""
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What was kept for the page of examples, by contender."""

    def count_tokens(self, text: str) -> int:
        """Return how many tokens plain text has for the model."""
        return self.counting.count_tokens(text)

    def lost(self, row: int, metric: str, *, expected: str, score: float) -> None:
        """Keep how a row was decided for the page of examples: 1 for the model, 0 for the baseline."""
        own = {"over": self.over} if self.over else {}
        kept = {"row": row, "metric": f"vs_{self.baseline}.{self.prefix}{metric}", "expected": expected, **own}
        self.samples.setdefault("model", []).append({**kept, "answer": self.own[row], "score": score})
        self.samples.setdefault(self.baseline, []).append({**kept, "answer": self.other[row], "score": 1 - score})

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""
        self.context.events.emit("progress", step=done, total=total, unit=f"rows, {self.label}")

    def note(self, text: str) -> None:
        """Tell people something."""
        self.context.events.emit("note", text=f"{self.label}: {text}")
