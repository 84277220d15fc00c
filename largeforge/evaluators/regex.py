"""Share of answers that a regular expression matches, checked as by the reward of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.errors import Problem
from largeforge.evaluators._answers import checked
from largeforge.recipe.evaluation import AnswerEvaluator
from largeforge.rewards._patterns import Pattern, matches

if TYPE_CHECKING:
    from largeforge.judging.series import Series
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("regex_match",)
JUDGES = "answers"


class Config(AnswerEvaluator):
    """Settings of a pattern, in the syntax of Python's `re`; an answer that takes long to search does not match."""

    name: Literal["regex"] = "regex"
    pattern: Pattern = ""
    """The regular expression."""
    match: Literal["search", "full"] = "search"
    """`search`: anywhere in the answer; `full`: the answer as a whole, without white space around it."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""
    dot_all: bool = False
    """Whether `.` also matches the end of a line."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    if not config.pattern:
        yield Problem("pattern", "is required: a regular expression, such as '^(yes|no)$'.")


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `regex_match`."""
    options = {"whole": config.match == "full", "ignore_case": config.ignore_case, "dot_all": config.dot_all}
    return checked(
        config,
        subject,
        "regex_match",
        lambda answers: [float(matches(config.pattern, text.strip(), **options)) for text in answers],
        expected=f"matches {config.pattern}",
    )
