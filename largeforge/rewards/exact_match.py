"""1 for an answer that equals the row's right answer, else 0."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from largeforge.recipe.rewards import Batch, RewardFunction
from largeforge.rewards._patterns import Pattern, last

if TYPE_CHECKING:
    from largeforge.errors import Problem

NEEDS_ANSWER = True
"""Whether rows must have the right answer."""

_NUMBER = re.compile(r"[-+]?(?:\d+(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_OF_NUMBERS = re.compile(r"(?<!\w)-(?=\.?\d)|(?<=\d)\.(?=\d)|(?<!\w)\.(?=\d)")
"""Signs and points without which a number is another one."""
_LONGEST_NUMBER = 64


class Config(RewardFunction):
    """Settings of exact match; white space around an answer never counts."""

    name: Literal["exact_match"] = "exact_match"
    extract: Pattern = ""
    """Regular expression of the part to compare, such as `#### (.+)`: its first group, or all of it; the last match
    in the answer counts, and without a match there is no reward. Empty compares the whole answer."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""
    ignore_punctuation: bool = False
    """Whether punctuation is left out, but for the sign and the point of a number."""
    ignore_whitespace: bool = False
    """Whether all white space is left out."""
    numeric: bool = False
    """Whether answers that are both numbers are compared by value: 1,000 equals 1000.0."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the reward: nothing can be."""
    yield from ()


def score(config: Config, batch: Batch) -> list[float]:
    """Return 1 or 0 for each answer."""
    pairs = zip(batch.completions, batch.answers, strict=True)
    return [float(_equal(config, completion, answer)) for completion, answer in pairs]


def _equal(config: Config, completion: str, answer: str) -> bool:
    part = last(config.extract, completion) if config.extract else completion
    if part is None:
        return False
    given, wanted = part.strip(), answer.strip()
    if config.numeric and (number := _value(wanted)) is not None and (value := _value(given)) is not None:
        return value == number
    return _normalised(config, given) == _normalised(config, wanted)


def _value(text: str) -> Decimal | None:
    """Return what a number means, or None for other text."""
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def _normalised(config: Config, text: str) -> str:
    if config.ignore_case:
        text = text.casefold()
    if config.ignore_punctuation:
        kept = {match.start() for match in _OF_NUMBERS.finditer(text)}
        marks = (unicodedata.category(letter).startswith("P") for letter in text)
        text = "".join(letter for place, letter in enumerate(text) if not next(marks) or place in kept)
    return re.sub(r"\s+", "", text) if config.ignore_whitespace else text.strip()
