"""Tokens as text that says, also without colours, where each ends and what is learnt.

    · «<|im_start|>»user¦\\n         not learnt; each line ends where the text has a line break
    + On¦ its¦ way¦.«<|im_end|>»¦\\n  learnt

Tokens are parted by `¦`; a special token stands in `«»`. Where the text itself has one of these signs, or a
backslash, a backslash stands before it, and characters that cannot be seen are written as escapes.
"""

from __future__ import annotations

from dataclasses import dataclass

LEARNT, NOT_LEARNT = "+", "·"
_SIGNS = str.maketrans({"\\": "\\\\", "¦": "\\¦", "«": "\\«", "»": "\\»", "\n": "\\n", "\t": "\\t", "\r": "\\r"})


@dataclass(frozen=True)
class Token:
    """One token of a row."""

    id: int
    text: str
    learnt: bool
    special: bool


@dataclass(frozen=True)
class Line:
    """Tokens that are shown on one line, all learnt or none."""

    learnt: bool
    tokens: tuple[Token, ...]

    @property
    def mark(self) -> str:
        """The sign in front of the line."""
        return LEARNT if self.learnt else NOT_LEARNT


def lines(tokens: list[Token]) -> list[Line]:
    """Return tokens in lines: a new one after each line break, and where learning begins or ends."""
    found: list[Line] = []
    begun: list[Token] = []
    for token in tokens:
        if begun and (begun[-1].learnt != token.learnt or begun[-1].text.endswith("\n")):
            found.append(Line(begun[-1].learnt, tuple(begun)))
            begun = []
        begun.append(token)
    return [*found, Line(begun[-1].learnt, tuple(begun))] if begun else found


def pieces(line: Line) -> list[tuple[str, Token | None]]:
    """Return what is printed of a line: the text of each token, and the signs between them without a token."""
    found: list[tuple[str, Token | None]] = []
    for place, token in enumerate(line.tokens):
        if place and not (token.special or line.tokens[place - 1].special):
            found.append(("¦", None))
        text = escaped(token.text)
        found.append((f"«{text}»" if token.special else text, token))
    return found


def escaped(text: str) -> str:
    """Return text of which every character can be seen."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() if char not in "\\" else char
        for char in text.translate(_SIGNS)
    )
