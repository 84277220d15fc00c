"""One row, token by token: what is learnt, and what is suspicious about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.tokens import examine, rows

if TYPE_CHECKING:
    from largeforge.data.formats import Kind, Row
    from largeforge.recipe.training import Learn
    from largeforge.tokens.engine import Engine, Tokens

NAMES: dict[Kind, tuple[str, ...]] = {
    "sft": ("",), "text": ("",), "prompt": ("prompt",), "preference": ("chosen", "rejected"),
    "unpaired": ("completion",),
}  # fmt: skip
"""Kind of row to the names of its sequences."""


@dataclass(frozen=True)
class Seen:
    """A row with its sequences."""

    source: str
    sequences: dict[str, Tokens]
    suspicions: list[str]


class Look:
    """Looks at rows with the engine and the tokenizer of a training."""

    def __init__(self, engine: Engine, tokenizer: Any, kind: Kind, learn: Learn):
        self._engine, self._tokenizer, self._kind, self._learn = engine, tokenizer, kind, learn
        self._marks = examine.Marks(tokenizer.bos_token_id, ends(tokenizer))

    def at(self, row: Row) -> Seen:
        """Return what there is to see; raises RowError for a row that cannot be rendered."""
        rendered = rows.rendered(self._engine, row, self._kind, self._learn)
        sequences = [self._engine.encode([one])[0] for one in rendered]
        texts = [one.text or self._tokenizer.decode(done.ids) for one, done in zip(rendered, sequences, strict=True)]
        suspicions = examine.suspicions(row, self._kind, sequences, texts, self._marks)
        return Seen(str(row.get("source", "")), dict(zip(NAMES[self._kind], sequences, strict=True)), suspicions)

    def pieces(self, ids: list[int]) -> list[str]:
        """Return the text of each token; bytes that are no text by themselves as `<0x..>`."""
        return [piece(self._tokenizer, one) for one in ids]


def piece(tokenizer: Any, number: int) -> str:
    """Return the text of one token."""
    text: str = tokenizer.decode([number], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if "�" not in text:
        return text
    return str(tokenizer.convert_ids_to_tokens(number))


def ends(tokenizer: Any) -> frozenset[int]:
    """Return the tokens at which a model stops to write: the tokenizer's, and those of `generation_config.json`."""
    import json
    from pathlib import Path

    found = {tokenizer.eos_token_id} - {None}
    try:
        from transformers.utils import cached_file

        path = cached_file(
            tokenizer.name_or_path, "generation_config.json", local_files_only=True,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        stated = json.loads(Path(path).read_text(encoding="utf-8")).get("eos_token_id") if path else None
    except (OSError, ValueError, AttributeError):
        stated = None
    if isinstance(stated, int):
        stated = [stated]
    return frozenset(found | {one for one in stated or [] if isinstance(one, int)})
