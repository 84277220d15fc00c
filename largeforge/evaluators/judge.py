"""How often a judge prefers the model's answer to that of a baseline: `vs_<baseline>.win_rate`.

Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (arXiv:2306.05685): judges favour a position, so
each pair is shown in both orders, and only what is preferred in both has won. Orders that disagree are a tie, which
counts half, as do two equal answers, for which nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.evaluators._judge import Judge, JudgedEvaluator, Messages, check_judge
from largeforge.judging.series import Series
from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.recipe.evaluation import Pair

DATA_KINDS = ("sft", "prompt")
METRICS = ("win_rate",)
JUDGES = "pairs"

INSTRUCTIONS = (
    "You compare two answers of assistants to the same conversation. Judge how well each one does what the user "
    "asked: whether it is correct, helpful, relevant and clear. Do not favour an answer for its length or for standing "
    "first. Say in one or two sentences why, then end with exactly one of these: [[A]] if answer A is better, [[B]] if "
    "answer B is better, [[C]] if they are equally good."
)
_VERDICT = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_VALUES = {"A": 1.0, "B": 0.0, "C": 0.5}


class Config(JudgedEvaluator):
    """Settings of pairwise comparison."""

    name: Literal["judge"] = "judge"
    instructions: str = INSTRUCTIONS
    """What the judge is told; its reply must end with [[A]], [[B]] or [[C]]."""
    show_reference: bool = True
    """Whether the judge sees a row's right answer, where it has one."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    yield from check_judge(config)


def run(config: Config, pair: Pair) -> dict[str, Series]:
    """Return `win_rate`: by row 1, 0.5 or 0, and None where a verdict cannot be read."""
    judge = Judge(config, pair)
    differing = [place for place, own in enumerate(pair.own) if own.strip() != pair.other[place].strip()]
    orders = [
        question(config, pair, place, first=first, second=second)
        for place in differing
        for first, second in ((pair.own, pair.other), (pair.other, pair.own))
    ]
    verdicts = [verdict(reply) for reply in judge.ask(orders)]
    values: list[float | None] = [0.5] * len(pair.rows)
    disagreeing = 0
    for place, first, second in zip(differing, verdicts[::2], verdicts[1::2], strict=True):
        values[place] = together(first, second)
        disagreeing += first is not None and second is not None and first != 1 - second
        score = values[place]
        if score is not None:
            pair.lost(place, "win_rate", expected=_reference(pair, place), score=score)
    won, lost, unread = values.count(1.0), values.count(0.0), values.count(None)
    pair.note(
        f"{won} won, {lost} lost, {values.count(0.5)} ties ({len(values) - len(differing)} equal answers, "
        f"{disagreeing} where the orders disagree), {unread} verdicts could not be read; {judge.spent}"
    )
    return {"win_rate": Series(values)}


def question(config: Config, pair: Pair, place: int, *, first: list[str], second: list[str]) -> Messages:
    """Return what the judge is asked of a row, with the answers in that order."""
    said = "\n\n".join(f"{one['role']}: {one['content']}" for one in asked(pair.rows[place]))
    right = _reference(pair, place) if config.show_reference else ""
    parts = [f"[Conversation]\n{said}", *([f"[Reference answer]\n{right}"] if right else [])]
    parts += [f"[Answer A]\n{first[place].strip()}", f"[Answer B]\n{second[place].strip()}"]
    return [{"role": "system", "content": config.instructions}, {"role": "user", "content": "\n\n".join(parts)}]


def verdict(reply: str) -> float | None:
    """Return 1 where A is preferred, 0 where B is, 0.5 for neither, None where the reply does not say."""
    found = _VERDICT.findall(reply)
    return _VALUES[found[-1]] if found else None


def together(first: float | None, second: float | None) -> float | None:
    """Return the model's score from both orders: the model stood first, then second."""
    if first is None or second is None:
        return None
    return first if first == 1 - second else 0.5


def _reference(pair: Pair, place: int) -> str:
    row = pair.rows[place]
    return str(row.get("answer", "") if "messages" not in row else row["messages"][-1]["content"])
