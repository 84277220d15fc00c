"""The rows that the prepare stage wrote, as the datasets that trainers take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.data.rows import read_rows
from largeforge.stages.loading import render

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.training import Learn, Split


@dataclass(frozen=True)
class Prepared:
    """Rows of one job; `heldout`: whether held-out rows are wanted during training."""

    folder: Path
    tokenizer: Any
    max_length: int
    heldout: bool

    def tokenized(self, split: Split, *, learn: Learn) -> Any:
        """Return rows of token ids and labels; None where there is nothing to evaluate on."""
        from datasets import Dataset

        examples = self.examples(split)
        return None if examples is None else Dataset.from_list([self._tokens(row, learn) for row in examples])

    def examples(self, split: Split) -> Any:
        """Return rows in trl's columns, memory-mapped; None where there is nothing to evaluate on."""
        from datasets import Dataset

        if split == "heldout" and not self.heldout:
            return None
        rows = read_rows(self.folder / f"{split}.jsonl")
        if split == "heldout" and not rows:
            return None
        return Dataset.from_list([{key: value for key, value in row.items() if key != "source"} for row in rows])

    def _tokens(self, row: dict[str, Any], learn: Learn) -> dict[str, list[int]]:
        ids = render(self.tokenizer, row["messages"], generation_prompt=False)
        if learn == "all":
            return {"input_ids": ids, "labels": ids}
        prompt = render(self.tokenizer, row["messages"][:-1], generation_prompt=True)
        return {"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]}
