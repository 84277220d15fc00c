"""One row, token by token: what is learnt, and what is suspicious about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.data.faults import RowError
from largeforge.errors import DataError
from largeforge.tokens import examine, rows
from largeforge.tokens.template import sha256

if TYPE_CHECKING:
    from largeforge.data.formats import Kind, Row
    from largeforge.recipe.training import Learn
    from largeforge.tokens.engine import Engine, Rendered, Tokens

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

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return rows.length(list(self.sequences.values()))

    @property
    def learnt(self) -> int:
        """Tokens of the longest sequence that are learnt."""
        longest = max(self.sequences.values(), key=lambda tokens: len(tokens.ids))
        return sum(end - start for start, end in longest.learnt)


class Look:
    """Looks at rows with the engine and the tokenizer of a training."""

    def __init__(self, engine: Engine, tokenizer: Any, kind: Kind, learn: Learn):
        self._engine, self._tokenizer, self._kind, self._learn = engine, tokenizer, kind, learn
        self._marks = examine.Marks(tokenizer.bos_token_id, ends(tokenizer))

    @property
    def template_sha256(self) -> str:
        """Hash of the chat template; empty where there is none."""
        template = self._tokenizer.chat_template
        return sha256(template) if template else ""

    @property
    def special_ids(self) -> list[int]:
        """Tokens that mean something beyond text."""
        added: dict[int, Any] = self._tokenizer.added_tokens_decoder
        return [*self._tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)]

    def texts(self, row: Row) -> list[str]:
        """Return the texts of a row; raises DataError as `at` does."""
        rendered = self._rendered(row)
        return [one.text or self._tokenizer.decode(one.done.ids if one.done else []) for one in rendered]

    def at(self, row: Row) -> Seen:
        """Return what there is to see; raises DataError for a row that cannot be rendered."""
        rendered = self._rendered(row)
        sequences = [self._engine.encode([one])[0] for one in rendered]
        texts = [one.text or self._tokenizer.decode(done.ids) for one, done in zip(rendered, sequences, strict=True)]
        suspicions = examine.suspicions(row, self._kind, sequences, texts, self._marks)
        return Seen(str(row.get("source", "")), dict(zip(NAMES[self._kind], sequences, strict=True)), suspicions)

    def _rendered(self, row: Row) -> list[Rendered]:
        try:
            return rows.rendered(self._engine, row, self._kind, self._learn)
        except RowError as error:
            raise DataError(f"{row.get('source', 'a row')}: {error}") from error

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
