"""Whether two answers to the same request agree."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from largeforge.gateway.quality.answers import Choice

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def agree(own: list[Choice], other: list[Choice], *, least_f1: float) -> bool:
    """Return whether all answers of one agree with those of the other, in their order."""
    return len(own) == len(other) and all(
        _tools(one) == _tools(two) and texts_agree(one.text, two.text, least_f1=least_f1)
        for one, two in zip(own, other, strict=True)
    )


def texts_agree(own: str, other: str, *, least_f1: float) -> bool:
    """Return whether two texts are equal but for white space, the same JSON, or free text of nearly the same words."""
    if own.split() == other.split():
        return True
    one, two = _structure(own), _structure(other)
    if one is not None or two is not None:
        return bool(one == two)
    return f1(own, other) >= least_f1


def f1(own: str, other: str) -> float:
    """Return the harmonic mean of precision and recall of the words, as SQuAD counts it (Rajpurkar et al., 2016,
    arXiv:1606.05250; evaluation script v1.1: lower case, no ASCII punctuation, no English articles)."""
    ours, theirs = _words(own), _words(other)
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))


def _tools(choice: Choice) -> list[Any]:
    return [(name, _json(given)) for name, given in choice.tools]


def _structure(text: str) -> Any:
    """Return the JSON object or list that a text is, None where it is neither."""
    return found if isinstance(found := _json(text), dict | list) else None


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
