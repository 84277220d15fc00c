"""How many words an answer shares with the reference: token F1, as SQuAD counts it.

Rajpurkar et al., SQuAD: 100,000+ questions for machine comprehension of text, EMNLP 2016 (arXiv:1606.05250); the
normalisation is that of its evaluation script v1.1: lower case, no ASCII punctuation, no English articles.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Literal

from largeforge.evaluators._answers import compared
from largeforge.recipe.evaluation import AnswerEvaluator

if TYPE_CHECKING:
    from largeforge.judging.series import Series
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("f1",)
JUDGES = "answers"

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Config(AnswerEvaluator):
    """Settings of token F1; of a row with several right `answers` the best counts."""

    name: Literal["f1"] = "f1"


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `f1`; rows without a reference answer do not count."""
    return compared(config, subject, lambda answer, wanted: {"f1": f1(answer, wanted)})


def f1(answer: str, wanted: str) -> float:
    """Return the harmonic mean of precision and recall of the words; 1 for two texts without any."""
    own, right = words(answer), words(wanted)
    if not own or not right:
        return float(own == right)
    shared = sum((Counter(own) & Counter(right)).values())
    return 2 * shared / (len(own) + len(right))


def words(text: str) -> list[str]:
    """Return the words of a text that count."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
