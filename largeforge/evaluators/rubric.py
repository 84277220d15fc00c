"""Grades of 1 to 5 that a judge gives to each answer, criterion by criterion.

Liu et al., G-Eval: NLG Evaluation using GPT-4 with Better Human Alignment (arXiv:2303.16634): criteria in
words, reasons before grades.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.errors import Problem
from largeforge.evaluators._judge import Judge, JudgedEvaluator, Messages, check_judge
from largeforge.judging.series import Series
from largeforge.recipe.base import Name  # noqa: TC001 (Pydantic reads it)
from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("rubric",)
JUDGES = "answers"

INSTRUCTIONS = (
    "You grade the answer of an assistant. Give each criterion a grade from 1 (not at all) to 5 (fully). First say in "
    "one or two sentences what is good and bad about the answer, then end with one line for each criterion, such as "
    "`correct: 4`."
)


class Config(JudgedEvaluator):
    """Settings of grades."""

    name: Literal["rubric"] = "rubric"
    criteria: dict[Name, str] = {}
    """What is graded: a name, and the question that it stands for, such as `correct: Is what the answer says true?`."""
    instructions: str = INSTRUCTIONS
    """What the judge is told before the criteria; its reply must end with lines such as `correct: 4`."""
    show_reference: bool = True
    """Whether the judge sees a row's right answer, where it has one."""


def metrics(config: Config) -> tuple[str, ...]:
    """Return the names of what is measured with these settings."""
    return ("rubric", *(f"rubric.{name}" for name in config.criteria))


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    yield from check_judge(config)
    if not config.criteria:
        yield Problem("criteria", "is required: what to grade, such as `correct: Is what the answer says true?`.")


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `rubric.<criterion>`, and `rubric`, the mean of a row's grades; None where a grade cannot be read."""
    places = list(range(len(subject.rows)))
    answers = subject.answers(places, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    judge = Judge(config, subject)
    replies = judge.ask([question(config, subject, place, answers[place]) for place in places])
    grades = {name: [grade(name, reply) for reply in replies] for name in config.criteria}
    means: list[float | None] = []
    for place, own in zip(places, zip(*grades.values(), strict=True), strict=True):
        known = [one for one in own if one is not None]
        means.append(sum(known) / len(known) if len(known) == len(own) else None)
        score = means[place]
        if score is not None:
            right = _reference(subject, place)
            subject.sample(place, "rubric", expected=right, answer=answers[place].strip(), score=score)
    subject.note(f"{means.count(None)} of {len(means)} replies could not be read; {judge.spent}")
    return {"rubric": Series(means), **{f"rubric.{name}": Series(values) for name, values in grades.items()}}


def question(config: Config, subject: Subject, place: int, answer: str) -> Messages:
    """Return what the judge is asked of an answer."""
    said = "\n\n".join(f"{one['role']}: {one['content']}" for one in asked(subject.rows[place]))
    right = _reference(subject, place) if config.show_reference else ""
    criteria = "\n".join(f"- {name}: {text}" for name, text in config.criteria.items())
    parts = [f"[Criteria]\n{criteria}", f"[Conversation]\n{said}", *([f"[Reference answer]\n{right}"] if right else [])]
    content = "\n\n".join([*parts, f"[Answer]\n{answer.strip()}"])
    return [{"role": "system", "content": config.instructions}, {"role": "user", "content": content}]


def grade(name: str, reply: str) -> float | None:
    """Return the last grade that a reply gives to a criterion."""
    found = re.findall(rf"^\W*{re.escape(name)}\W*[:=]\W*([1-5])(?![\d.])", reply, re.MULTILINE | re.IGNORECASE)
    return float(found[-1]) if found else None


def _reference(subject: Subject, place: int) -> str:
    row = subject.rows[place]
    return str(row.get("answer", "") if "messages" not in row else row["messages"][-1]["content"])
