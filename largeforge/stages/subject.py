"""What a model under evaluation can do with its tokenizer alone; `recipe.evaluation.Subject` has all that is asked."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Self

from largeforge.errors import StageError
from largeforge.recipe.evaluation import asked
from largeforge.stages.loading import render, text_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from largeforge.recipe.evaluation import Endpoint
    from largeforge.recipe.loaded_model import LoadedModel
    from largeforge.stages.context import Context
    from largeforge.training.other_models import OtherModels


class Subject:
    """A model's tokenizer with the held-out rows, and the answers that are kept; how it answers is for subclasses."""

    device = "cpu"
    work: Path

    def __init__(
        self, tokenizer: Any, rows: list[dict[str, Any]], context: Context, *, others: OtherModels | None = None
    ):
        self.tokenizer, self.rows, self.context, self.others = tokenizer, rows, context, others
        self.samples: list[dict[str, Any]] = []
        self.label = ""
        self._answered: dict[tuple[int, int], str] = {}
        self._over = ""

    def over(self, rows: list[dict[str, Any]], title: str) -> Self:
        """Return the same model with other rows; `title` names them where samples of several stand together."""
        other = copy.copy(self)
        other.rows, other.samples, other._answered, other._over = rows, [], {}, title
        return other

    @property
    def endpoint(self) -> Endpoint:
        """The server that answers for the model.

        Raises StageError for a model that no server answers for.
        """
        raise StageError(f"{self.label}: it measures a model behind vLLM, and none runs; set judging.engine=vllm")

    def render(
        self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool, tools: Sequence[Any] | None = None
    ) -> list[int]:
        """Return the token ids of a conversation under the model's chat template."""
        return render(self.tokenizer, messages, generation_prompt=generation_prompt, tools=tools)

    def encode(
        self, prompt: Sequence[dict[str, Any]], answer: Sequence[dict[str, Any]], *, tools: Sequence[Any] | None = None
    ) -> tuple[list[int], int]:
        """Return the token ids of a prompt with an answer, and how many of them come before the answer.

        That is where both part, as in trl, should the template render the prompt alone in another way.
        """
        before = self.render(prompt, generation_prompt=True, tools=tools)
        whole = self.render([*prompt, *answer], generation_prompt=False, tools=tools)
        same = next((at for at, (one, other) in enumerate(zip(before, whole, strict=False)) if one != other), None)
        return whole, max(min(len(before), len(whole)) if same is None else same, 1)

    def text_tokens(self, text: str) -> list[int]:
        """Return the token ids of plain text, with the token that ends it."""
        return text_tokens(self.tokenizer, text)

    def text(self, tokens: Sequence[int]) -> str:
        """Return tokens as text, without special ones."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def prompt(self, place: int) -> list[int]:
        """Return the token ids of what a row asks, ready to be gone on with."""
        row = self.rows[place]
        return self.render(asked(row), generation_prompt=True, tools=row.get("tools"))

    def answers(self, places: Sequence[int], *, max_new_tokens: int, batch_size: int) -> list[str]:
        """Return the greedy answers to the prompts of some rows; each is generated once, whoever asks for it."""
        missing = [place for place in places if (place, max_new_tokens) not in self._answered]
        for place, answer in zip(missing, self._answers(missing, max_new_tokens, batch_size), strict=True):
            self._answered[place, max_new_tokens] = answer
        return [self._answered[place, max_new_tokens] for place in places]

    def _answers(self, places: Sequence[int], max_new_tokens: int, batch_size: int) -> list[str]:
        """Answer the prompts of some rows, in the order of their places."""
        raise NotImplementedError

    def key(self, place: int) -> str:
        """Return what a row asks as one line of text, under which its answers are known elsewhere."""
        return json.dumps(asked(self.rows[place]), ensure_ascii=False, sort_keys=True)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens plain text has."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def other_model(self, reference: str) -> LoadedModel:
        """Return a further model that the evaluator's settings name."""
        assert self.others is not None
        return self.others.get(reference)

    def sample(self, row: int, metric: str, *, expected: str, answer: str, score: float) -> None:
        """Keep the answer to the prompt of a row for the page of examples."""
        own = {"over": self._over} if self._over else {}
        self.samples.append(
            {"row": row, "metric": metric, "expected": expected, "answer": answer, "score": score, **own}
        )

    def note(self, text: str) -> None:
        """Tell people something."""
        self.context.events.emit("note", text=f"{self.label}: {text}")

    def progress(self, done: int, total: int) -> None:
        """Tell how far the evaluator is, in rows."""
        self.context.events.emit("progress", step=done, total=total, unit=f"rows, {self.label}")
