"""1 for an answer that a regular expression matches, else 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from largeforge.errors import Problem
from largeforge.recipe.rewards import Batch, RewardFunction
from largeforge.rewards._patterns import Pattern, matches

NEEDS_ANSWER = False


class Config(RewardFunction):
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
    """Yield what is wrong between the settings, with keys below the reward."""
    if not config.pattern:
        yield Problem("pattern", "is required: a regular expression, such as '^(yes|no)$'.")


def score(config: Config, batch: Batch) -> list[float]:
    """Return 1 or 0 for each answer."""
    options = {"whole": config.match == "full", "ignore_case": config.ignore_case, "dot_all": config.dot_all}
    return [float(matches(config.pattern, text.strip(), **options)) for text in batch.completions]
