"""The rows that the prepare stage wrote, as the datasets that trainers take, mapped into memory from files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from largeforge.tokens import examine, examples, loaded, look, rows
from largeforge.tokens.parts import Wanted
from largeforge.tokens.tokenized import Tokenized, tokenized

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.data.formats import Kind
    from largeforge.data.lengths import Lengths
    from largeforge.recipe.training import Learn, Split, TrainingMethod
    from largeforge.stages.context import Context
    from largeforge.tokens.engine import Engine

EXAMINED_ROWS = 100
"""Rows at the beginning of a file that are looked at for what is suspicious."""


@dataclass
class Prepared:
    """Rows of one job."""

    context: Context
    method: TrainingMethod
    tokenizer: Any
    _engine: Engine | None = None
    _found: dict[tuple[Split, Learn], Tokenized] = field(default_factory=dict)

    def check(self) -> Lengths:
        """Tokenize the training rows, say how long they are and what is suspicious; return the statistics.

        Raises DataError with the rows that are too long or cannot be rendered.
        """
        found = self._tokens("train", learn_of(self.method))
        for text in self._suspicions(found):
            self.context.events.emit("note", text=f"warning: {text}")
        self.context.events.emit("table", **table(found, f"{self.context.stage}: lengths of rows in tokens"))
        return found.lengths

    def tokenized(self, split: Split, *, learn: Learn) -> Any:
        """Return rows of token ids (`tokens.rows.COLUMNS`); None where there is nothing to evaluate on."""
        if not self._is_wanted(split):
            return None
        from datasets import Dataset
        from datasets.table import MemoryMappedTable

        found = self._tokens(split, learn)
        return Dataset(MemoryMappedTable.from_file(str(found.data)), fingerprint=found.key[:16])

    def examples(self, split: Split) -> Any:
        """Return rows in trl's own columns; None where there is nothing to evaluate on."""
        if not self._is_wanted(split):
            return None
        from datasets import Dataset

        return Dataset.from_file(str(examples.written(self._path(split), work=self.context.work)))

    @property
    def kind(self) -> Kind:
        """Kind of the rows."""
        return rows.kind_of(next(examples.first_rows(self._path("train"), 1)))

    def _path(self, split: Split) -> Path:
        return self.context.inputs["data"] / f"{split}.jsonl"

    def _is_wanted(self, split: Split) -> bool:
        return split == "train" or (self.method.eval_steps > 0 and self._path(split).stat().st_size > 0)

    def _tokens(self, split: Split, learn: Learn) -> Tokenized:
        kind = self.kind
        learn = learn if kind == "sft" else "all"  # of the other kinds it is clear what is learnt
        if (split, learn) not in self._found:
            self._engine = self._engine or loaded.engine(self.tokenizer)
            wanted = Wanted(kind, learn, 0 if _cuts(self.method) else self.method.max_length)
            self._found[split, learn] = tokenized(
                self._path(split), self._engine, wanted, work=self.context.work, report=self._report
            )
        return self._found[split, learn]

    def _suspicions(self, found: Tokenized) -> list[str]:
        assert self._engine is not None
        looked = look.Look(self._engine, self.tokenizer, self.kind, learn_of(self.method))
        sample = list(examples.first_rows(self._path("train"), EXAMINED_ROWS))
        said = examine.summary([looked.at(row).suspicions for row in sample])
        if found.overhanging:  # counted over all rows
            said = [text for text in said if not text.startswith(examine.NOT_A_PREFIX)]
            said.append(f"{examine.NOT_A_PREFIX} ({found.overhanging} of {found.lengths.rows} rows)")
        return said

    def _report(self, done: int, total: int) -> None:
        self.context.events.emit("progress", step=done, total=total, unit="rows tokenized")


def table(found: Tokenized, title: str) -> dict[str, Any]:
    """Return the fields of a `table` event: how many rows there are of which length."""
    rows = max(found.lengths.rows, 1)
    return {
        "title": title,
        "columns": ["tokens", "rows", "share"],
        "rows": [[f"{low}–{high}", count, f"{count / rows:.1%}"] for low, high, count in found.histogram],
    }


def learn_of(method: TrainingMethod) -> Learn:
    """Return what a method will ask for, by the settings that methods on conversations have."""
    if getattr(method, "assistant_only_loss", False):
        return "assistant"
    return "completion" if getattr(method, "completion_only_loss", True) else "all"


def _cuts(method: TrainingMethod) -> bool:
    """Tell whether the method divides rows that are too long, so that none of them is an error."""
    return bool(getattr(method, "packing", False)) and getattr(method, "packing_strategy", "bfd") != "bfd"
