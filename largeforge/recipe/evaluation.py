"""What an evaluator is given, what it measures under which name, and the conditions that gates may state."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from largeforge.recipe import extensions
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from largeforge.recipe.loaded_model import LoadedModel
    from largeforge.recipe.schema import Job

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
_DIFFERENCE = re.compile(r"vs_([\w-]+)\.(.+)")


class AnswerEvaluator(Extension):
    """Settings of evaluators that judge what a model answers."""

    path: str = ""
    """JSONL file of rows to judge by instead of the held-out ones: `prompt` (text or messages) or `messages`, with
    `answer` where the evaluator compares; relative to the working directory, or to the recipe with `recipe:`."""
    max_new_tokens: int = Field(default=256, gt=0)
    """Longest answer in tokens."""
    batch_size: int = Field(default=32, gt=0)
    """Prompts generated for at once in this process; vLLM batches by itself. Scores do not depend on it."""


@dataclass(frozen=True)
class Endpoint:
    """A running vLLM server that answers for a model under evaluation."""

    url: str
    """Address of its OpenAI-compatible API, ending in `/v1`."""
    model: str
    """Name under which the server knows the model."""
    tokenizer: str
    """Folder, or name on the hub, of the model's tokenizer."""
    chat_template: str = ""
    """Text of the chat template, where the recipe gives one."""


class Subject(Protocol):
    """A loaded model under evaluation, with its tokenizer and the held-out rows."""

    rows: list[dict[str, Any]]
    device: str
    """`cpu` or `cuda`: what the evaluation computes on."""
    work: Path
    """Folder of this evaluator, the same for all contenders; it outlives an interruption."""

    @property
    def endpoint(self) -> Endpoint:
        """The server that answers for the model; only what has `JUDGES = "server"` may ask for it."""

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

    def note(self, text: str) -> None:
        """Tell people something."""


class Pair(Protocol):
    """The answers of the model and of one baseline to the same rows, for what has `JUDGES = "pairs"`."""

    rows: list[dict[str, Any]]
    own: list[str]
    """Answers of the model, in the order of the rows."""
    other: list[str]
    """Answers of the baseline."""
    baseline: str
    """Its name."""
    work: Path
    """Folder of this evaluator, the same for all pairs; it outlives an interruption."""

    def count_tokens(self, text: str) -> int:
        """Return how many tokens plain text has for the model."""

    def lost(self, row: int, metric: str, *, expected: str, score: float) -> None:
        """Keep how a row was decided for the page of examples: 1 for the model, 0 for the baseline."""

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""

    def note(self, text: str) -> None:
        """Tell people something."""


def answered_by_vllm(job: Job, device: str) -> bool:
    """Whether a vLLM server answers while a job's model is judged; on a GPU it is taken to be installed."""
    if all(judges(evaluator) == "model" for evaluator in job.evaluation.values()):
        return False
    return job.judging.engine == "vllm" or (job.judging.engine == "auto" and device == "cuda")


def judges(evaluator: Extension) -> str:
    """Return what an evaluator looks at.

    `model`: a model in this process; `answers`: what was answered, by whatever engine; `pairs`: what the model and
    a baseline answered; `server`: a model behind a running vLLM.
    """
    return str(getattr(extensions.load("evaluation", evaluator.name), "JUDGES", "model"))


def metrics(key: str, evaluator: Extension) -> tuple[str, ...]:
    """Return the metrics of an evaluator as gates know them; `key` is where the recipe has it under `evaluation`."""
    module = extensions.load("evaluation", evaluator.name)
    own = module.metrics(evaluator) if hasattr(module, "metrics") else module.METRICS
    return tuple(named(key, evaluator, metric) for metric in own)


def named(key: str, evaluator: Extension, metric: str) -> str:
    """Return a metric's full name: one of an evaluator that has another key than its name begins with that key."""
    return metric if key == evaluator.name else f"{key}.{metric}"


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
