"""Share of answers that are JSON and valid under a schema, checked as by the reward of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.evaluators._answers import checked
from largeforge.recipe.evaluation import AnswerEvaluator
from largeforge.rewards import json_schema
from largeforge.rewards.json_schema import Definition

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.judging.series import Series
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("json_valid",)
JUDGES = "answers"


class Config(AnswerEvaluator):
    """Settings of JSON Schema validity; the draft is the one that the schema names, else 2020-12."""

    name: Literal["json_schema"] = "json_schema"
    definition: Definition = {}
    """The schema itself, or a file that has it: a path relative to the working directory, or to the recipe with
    `recipe:schemas/x.json` (it is read with the recipe, and what is kept is the schema)."""
    fenced: bool = False
    """Whether the JSON may stand in a Markdown code block; the first one counts."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    yield from json_schema.check(_reward(config))


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `json_valid`."""
    reward = _reward(config)
    return checked(
        config,
        subject,
        "json_valid",
        lambda answers: [json_schema.score_of(reward, text) for text in answers],
        expected="JSON that is valid under the schema",
    )


def _reward(config: Config) -> json_schema.Config:
    return json_schema.Config(definition=config.definition, fenced=config.fenced, parses=0.0)
