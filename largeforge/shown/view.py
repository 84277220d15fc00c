"""Rows token by token, on a terminal, as plain text or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from largeforge.data import lengths
from largeforge.shown.notation import Token, lines, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.data.formats import Kind, Row
    from largeforge.tokens.engine import Tokens
    from largeforge.tokens.look import Look, Seen

_LEARNT, _NOT_LEARNT, _SPECIAL, _SIGN = "bold green", "", "magenta", "dim"


@dataclass(frozen=True)
class Part:
    """A part of a row under a name of its own, such as `chosen`."""

    name: str
    tokens: list[Token]

    @property
    def learnt(self) -> int:
        """How many of the tokens are learnt."""
        return sum(token.learnt for token in self.tokens)


@dataclass(frozen=True)
class Shown:
    """A row as it is shown."""

    source: str
    parts: list[Part]
    label: bool | None
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        parts = [
            {
                "name": part.name, "learnt": part.learnt, "total": len(part.tokens),
                "tokens": [asdict(token) for token in part.tokens],
            }
            for part in self.parts
        ]  # fmt: skip
        label = {} if self.label is None else {"label": self.label}
        return {"source": self.source, **label, "parts": parts, "warnings": self.warnings}


def shown(row: Row, seen: Seen, kind: Kind, look: Look) -> Shown:
    """Return a row in parts: the prompt once, and each answer."""
    special = frozenset(look.special_ids)
    sequences = seen.sequences
    if kind in ("preference", "unpaired"):
        start = min(tokens.prompt_length for tokens in sequences.values())
        first = next(iter(sequences.values()))
        parts = [Part("prompt", _tokens(first, look, special)[:start])]
        parts += [Part(name, _tokens(tokens, look, special)[start:]) for name, tokens in sequences.items()]
    else:
        parts = [Part(name, _tokens(tokens, look, special)) for name, tokens in sequences.items()]
    return Shown(seen.source, parts, row.get("label"), seen.suspicions)


def text(row: Shown) -> Iterator[Text]:
    """Yield the lines of a row."""
    total = sum(len(part.tokens) for part in row.parts)
    learnt = sum(part.learnt for part in row.parts)
    label = "" if row.label is None else f"  label {str(row.label).lower()}"
    yield Text(f"{row.source}  {learnt} of {total} tokens learnt{label}", "bold")
    for part in row.parts:
        if part.name:
            yield Text(f"  {part.name}: {len(part.tokens)} tokens", "dim")
        for line in lines(part.tokens):
            shown_line = Text("  ")
            shown_line.append(f"{line.mark} ", _LEARNT if line.learnt else _SIGN)
            for piece, token in pieces(line):
                shown_line.append(piece, _style(token))
            yield shown_line
    for warning in row.warnings:
        yield Text(f"  warning: {warning}", "bold yellow")


def statistics(sizes: Sequence[int], learnt: Sequence[int], *, which: str) -> Iterator[Text]:
    """Yield the lines on the lengths of all rows that were looked at."""
    found = lengths.describe(sizes)
    share = sum(learnt) / max(sum(sizes), 1)
    yield Text(
        f"{which}: {found.rows} rows of {found.min} to {found.max} tokens, mean {found.mean:.1f}, half of them up to "
        f"{found.p50}, 95 % up to {found.p95}; {share:.0%} of the tokens are learnt"
    )


def _tokens(tokens: Tokens, look: Look, special: frozenset[int]) -> list[Token]:
    learnt = [False] * len(tokens.ids)
    for start, end in tokens.learnt:
        learnt[start:end] = [True] * (end - start)
    texts = look.pieces(tokens.ids)
    return [
        Token(number, piece, is_learnt, number in special)
        for number, piece, is_learnt in zip(tokens.ids, texts, learnt, strict=True)
    ]


def _style(token: Token | None) -> str:
    if token is None:
        return _SIGN
    if token.special:
        return f"{_SPECIAL} bold" if token.learnt else _SPECIAL
    return _LEARNT if token.learnt else _NOT_LEARNT
