"""What an evaluator is given, and the conditions that gates may state."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")

BASELINE = "vs_base."
"""Prefix of a gate on the difference between the trained model and the one it started from."""


class Subject(Protocol):
    """A loaded model under evaluation, with its tokenizer and the held-out rows."""

    rows: list[dict[str, Any]]

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool) -> list[int]:
        """Return the token ids of a conversation under the model's chat template."""

    def generate(self, prompts: Sequence[Sequence[dict[str, Any]]], max_new_tokens: int) -> list[str]:
        """Return the greedy answers to a batch of conversations."""

    def log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        """Return, for each `(token ids, length of the prompt)`, the summed log-probability of the rest, in nats."""

    def sample(self, row: dict[str, Any], answer: str, *, correct: bool) -> None:
        """Keep an answer for the page of examples."""

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""


@dataclass(frozen=True)
class Condition:
    """A gate's condition, such as `>= 0.85`."""

    symbol: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` passes; NaN never does."""
        return _OPERATORS[self.symbol](value, self.threshold)

    def __str__(self) -> str:
        return f"{self.symbol} {self.threshold:g}"


def parse_condition(text: str) -> Condition:
    """Parse a gate's condition.

    Raises ValueError that tells the allowed form.
    """
    match = CONDITION.fullmatch(text)
    if match is None or not math.isfinite(float(match[2])):
        raise ValueError("a gate is a comparison with a number, such as '>= 0.85'")
    return Condition(match[1], float(match[2]))
