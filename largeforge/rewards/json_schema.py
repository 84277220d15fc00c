"""1 for an answer that is JSON and valid under a schema, a part of that for one that is only JSON, else 0.

References to schemas elsewhere (`$ref` to a URL) are never fetched: such an answer is not valid.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from largeforge.errors import Problem
from largeforge.recipe.rewards import Batch, RewardFunction
from largeforge.rewards._patterns import matches

NEEDS_ANSWER = False

_FENCED = re.compile(r"```(?:json)?[ \t]*\n([^`]*)\n?```", re.IGNORECASE)

Definition = Annotated[dict[str, Any], WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string"}]})]


class Config(RewardFunction):
    """Settings of JSON Schema validity; the draft is the one that the schema names, else 2020-12."""

    name: Literal["json_schema"] = "json_schema"
    definition: Definition = {}
    """The schema itself, or a file that has it: a path relative to the working directory, or to the recipe with
    `recipe:schemas/x.json` (it is read with the recipe, and what is kept is the schema)."""
    parses: float = Field(default=0.25, ge=0, le=1)
    """Reward of an answer that is JSON but not valid."""
    fenced: bool = False
    """Whether the JSON may stand in a Markdown code block; the first one counts."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the reward."""
    if not config.definition:
        yield Problem("definition", "is required: a JSON Schema, or the path of a file with one.")
    elif wrong := _unsound(config.definition):
        yield Problem("definition", f"is no JSON Schema: {wrong}.")


def score(config: Config, batch: Batch) -> list[float]:
    """Return 1, `parses` or 0 for each answer."""
    return [score_of(config, text) for text in batch.completions]


def score_of(config: Config, text: str) -> float:
    """Return 1, `parses` or 0 for one answer."""
    if config.fenced and (block := _FENCED.search(text)):
        text = block[1]
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):  # a model can nest deeper than a parser can follow
        return 0.0
    return 1.0 if _is_valid(json.dumps(config.definition, sort_keys=True), value) else config.parses


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _is_valid(schema: str, value: Any) -> bool:
    from referencing.exceptions import Unresolvable

    try:
        return bool(_validator(schema).is_valid(value))
    except (RecursionError, Unresolvable, ArithmeticError):  # `multipleOf` divides whatever a model wrote
        return False


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry

    definition = json.loads(schema)
    bounded = extend(
        validator_for(definition, default=Draft202012Validator),
        {"pattern": _pattern, "patternProperties": _pattern_properties},
    )
    return bounded(definition, registry=Registry())


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    """Check the keyword `pattern` in bounded time, which jsonschema itself does not."""
    from jsonschema.exceptions import ValidationError

    if validator.is_type(value, "string") and not matches(
        pattern, value, whole=False, ignore_case=False, dot_all=False
    ):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    """Check the keyword `patternProperties` in bounded time."""
    if not validator.is_type(value, "object"):
        return
    for pattern, below in patterns.items():
        for name, item in value.items():
            if matches(pattern, name, whole=False, ignore_case=False, dot_all=False):
                yield from validator.descend(item, below, path=name, schema_path=pattern)


def _unsound(definition: dict[str, Any]) -> str:
    """Return what is wrong with a schema; empty also where jsonschema is not installed, as on a machine that plans."""
    try:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for
    except ImportError:
        return ""
    try:
        validator_for(definition, default=Draft202012Validator).check_schema(definition)
    except SchemaError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        return f"{where}: {error.message}" if where else error.message
    return ""
