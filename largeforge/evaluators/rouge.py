"""How much of the reference an answer says in the same words: ROUGE-1, ROUGE-2 and ROUGE-L.

Lin, ROUGE: A Package for Automatic Evaluation of Summaries, ACL 2004 Workshop. F measures with beta 1, without
stemming; on ASCII text the values are those of the package rouge-score (a test compares them), which sees nothing of
other alphabets. The longest common subsequence is found bit-parallel: Hyyrö, Bit-parallel LCS-length computation
revisited, AWOCA 2004.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

from largeforge.evaluators._answers import compared
from largeforge.recipe.evaluation import AnswerEvaluator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.judging.series import Series
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("rougeL", "rouge1", "rouge2")
JUDGES = "answers"

_WORD = re.compile(r"[^\W_]+")


class Config(AnswerEvaluator):
    """Settings of ROUGE; of a row with several right `answers` the best counts."""

    name: Literal["rouge"] = "rouge"


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `rougeL`, `rouge1` and `rouge2`; rows without a reference answer do not count."""
    return compared(config, subject, rouge)


def rouge(answer: str, wanted: str) -> dict[str, float]:
    """Return the F measure of each kind."""
    own, right = _WORD.findall(answer.lower()), _WORD.findall(wanted.lower())
    return {
        "rougeL": _f(longest_common(own, right), len(own), len(right)),
        "rouge1": _f_of_grams(own, right, 1),
        "rouge2": _f_of_grams(own, right, 2),
    }


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(one)) - 1
    unmatched = everywhere
    for word in other:
        here = unmatched & places.get(word, 0)
        unmatched = ((unmatched + here) | (unmatched - here)) & everywhere
    return len(one) - unmatched.bit_count()


def _f_of_grams(own: Sequence[str], right: Sequence[str], size: int) -> float:
    one, other = (Counter(zip(*(words[at:] for at in range(size)), strict=False)) for words in (own, right))
    return _f(sum((one & other).values()), sum(one.values()), sum(other.values()))


def _f(shared: int, own: int, right: int) -> float:
    return 2 * shared / (own + right) if shared else 0.0
