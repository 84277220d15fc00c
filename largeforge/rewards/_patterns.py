"""Regular expressions on text that a model wrote: bounded in time, since a pattern may backtrack without end.

Python's `re` cannot be interrupted; the `regex` package, which transformers brings, takes a timeout and the same
patterns, but for what it reads as inexact matching (`{e<=1}`) or a named class (`[[:alpha:]]`): those are refused.
"""

from __future__ import annotations

import logging
import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

TIMEOUT_S = 0.25
"""Longest that one answer is searched; a search that takes longer has found nothing."""

logger = logging.getLogger(__name__)


_ESCAPED, _BRACES = re.compile(r"\\."), re.compile(r"\{([^{}]*)\}")
_FUZZY = re.compile(r"[\s\d<=+,]*[deis][\s\ddeis<=+,]*(:.*)?")
"""What between braces stands for inexact matching in `regex`, and for itself in `re`."""


def _compiles(text: str) -> str:
    plain = _ESCAPED.sub("", text)
    if any(_FUZZY.fullmatch(inner) for inner in _BRACES.findall(plain)) or "[[:" in plain:
        raise ValueError(
            "has braces or brackets that mean something else to the package regex: write \\{ or \\[ for them"
        )
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_compiles), WithJsonSchema({"type": "string", "format": "regex"})]
"""A regular expression in the syntax of Python's `re`."""


def matches(pattern: str, text: str, *, whole: bool, ignore_case: bool, dot_all: bool) -> bool:
    """Tell whether a pattern is found in a text, or is the whole text."""
    import regex

    flags = (regex.IGNORECASE if ignore_case else 0) | (regex.DOTALL if dot_all else 0)
    search = regex.fullmatch if whole else regex.search
    try:
        return search(pattern, text, flags=flags, timeout=TIMEOUT_S) is not None
    except TimeoutError:
        _warn(pattern)
        return False


def last(pattern: str, text: str) -> str | None:
    """Return the first group of the last match in a text, or all of that match where the pattern has no group."""
    import regex

    try:
        found = [match[1 if match.re.groups else 0] for match in regex.finditer(pattern, text, timeout=TIMEOUT_S)]
    except TimeoutError:
        _warn(pattern)
        return None
    return str(found[-1] or "") if found else None


def _warn(pattern: str) -> None:
    logger.warning("pattern %r took more than %s s on an answer and counts as no match", pattern, TIMEOUT_S)
