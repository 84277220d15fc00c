"""Regular expressions on text that clients write, many at once, in time that grows with the text and nothing else.

They are RE2's: no look-around and no back-references, so that no text makes a pattern backtrack. All patterns of a set
are looked for in one pass, and the size of a set is bounded, since a rare text may take time with that size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PATTERN = 8_192
"""Largest pattern, in instructions of RE2; `[a-z]+ order` has some 20, `.{200}` some 1,600."""
MAX_SET = 32_768
"""Largest set of patterns: the text that suits it worst takes some 10 ms for every 10,000 characters."""
_MEMORY_BYTES = 64 * 2**20


def _compiles(text: str) -> str:
    if text:
        size(text)
    return text


Pattern = Annotated[str, AfterValidator(_compiles), WithJsonSchema({"type": "string", "format": "regex"})]
"""A regular expression in RE2's syntax, which is `re`'s without look-around and back-references; empty for none."""


class PatternSet:
    """Patterns that are looked for together."""

    def __init__(self, patterns: Sequence[str], *, match: Literal["search", "full"]):
        import re2

        self._set = (re2.Set.SearchSet if match == "search" else re2.Set.FullMatchSet)(_options())
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()
        self._is_empty = not patterns

    def found(self, text: str) -> Sequence[int]:
        """Return the places of the patterns that match a text."""
        return () if self._is_empty else self._set.Match(text) or ()


def size(pattern: str) -> int:
    """Return the size of a pattern; raises ValueError where it is none, or too large.

    Without RE2 only the syntax is looked at; the gateway itself always has it.
    """
    try:
        import re2
    except ImportError:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return 0
    try:
        found = int(re2.compile(pattern, _options()).programsize)
    except re2.error as error:
        said = error.args[0]
        reason = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise ValueError(f"is no regular expression that RE2 takes: {reason}") from None
    if found > MAX_PATTERN:
        raise ValueError(f"is too large: {found} instructions of RE2, at most {MAX_PATTERN}; repeat less")
    return found


def _options() -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    return options
