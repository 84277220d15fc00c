"""What an evaluator is given, and the conditions that gates may state."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.recipe.loaded_model import LoadedModel

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")

BASE = "base"
"""Name of the baseline that is the model which training started from."""
BASELINE = "vs_base."
"""Prefix of a gate on the difference between the trained model and the one it started from."""
_DIFFERENCE = re.compile(r"vs_(\w+)\.(.+)")


class Subject(Protocol):
    """A loaded model under evaluation, with its tokenizer and the held-out rows."""

    rows: list[dict[str, Any]]

    def render(
        self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool, tools: Sequence[Any] | None = None
    ) -> list[int]:
        """Return the token ids of a conversation under the model's chat template."""

    def encode(
        self, prompt: Sequence[dict[str, Any]], answer: Sequence[dict[str, Any]], *, tools: Sequence[Any] | None = None
    ) -> tuple[list[int], int]:
        """Return the token ids of a prompt with an answer, and how many of them come before the answer."""

    def text_tokens(self, text: str) -> list[int]:
        """Return the token ids of plain text, with the token that ends it."""

    def text(self, tokens: Sequence[int]) -> str:
        """Return tokens as text, without special ones."""

    def answers(self, places: Sequence[int], *, max_new_tokens: int, batch_size: int) -> list[str]:
        """Return the greedy answers to the prompts of some rows, in the order of their places in `rows`.

        `batch_size` prompts are generated for at once where the model is in this process; answers do not depend on it.
        """

    def log_probabilities(self, batch: Sequence[tuple[list[int], int]]) -> list[float]:
        """Return, for each `(token ids, length of the prompt)`, the summed log-probability of the rest, in nats."""

    def rewards(self, batch: Sequence[list[int]]) -> list[float]:
        """Return the score of each rendered conversation; all 0 for a model that was not trained to score."""

    def compare(self, other: LoadedModel, batch: Sequence[tuple[list[int], int]]) -> list[tuple[float, int, int]]:
        """Return, for each `(token ids, length of the prompt)`, of the answer after the prompt: the summed KL
        divergence from the other model's next token to this one's, in nats; at how many tokens both would choose the
        same; how many tokens there are. What a template writes after the end of the answer does not count.

        Raises StageError when the models do not have the same tokens.
        """

    def count_tokens(self, text: str) -> int:
        """Return how many tokens plain text has."""

    def other_model(self, reference: str) -> LoadedModel:
        """Return a further model; its field in the evaluator's `Config` has a type of `sections/models.py`."""

    def sample(self, row: int, metric: str, *, expected: str, answer: str, score: float) -> None:
        """Keep the answer to the prompt of a row for the page of examples; a higher score is a better answer."""

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""


def asked(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conversation that a row asks to go on with."""
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


def split(metric: str) -> tuple[str, str]:
    """Return the baseline and the metric of a difference such as `vs_champion.loss`; no baseline for another."""
    match = _DIFFERENCE.fullmatch(metric)
    return (match[1], match[2]) if match else ("", metric)


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
