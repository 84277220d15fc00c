"""`method.extra` against trl's own dataclass, in the process that trains: trl need not be where the plan was made."""

from __future__ import annotations

import importlib
import re
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from largeforge.errors import LargeForgeError, Problem, RecipeError, nearest
from largeforge.recipe import method_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from largeforge.recipe.training import TrainingMethod

_REFUSALS = (ValueError, TypeError, NotImplementedError, ImportError, AssertionError)
"""What trl and transformers raise where settings do not fit together, or need what is not here."""


def verify(config: str, method: TrainingMethod) -> None:
    """Check the extra fields of a method against the dataclass `module:Class`, before anything is loaded.

    Raises RecipeError with all that is wrong.
    """
    if not method.extra:
        return
    problems = list(method_extra.check(method, method.extra)) or list(_unknown(config, method.extra))
    if problems:
        raise RecipeError([Problem(f"method.{p.key}", p.rule, p.where, p.given, p.nearest) for p in problems])


@contextmanager
def blamed(method: TrainingMethod, has_begun: Callable[[], bool]) -> Iterator[None]:
    """Turn what trl says against the extra fields of a method, before the training has begun, into one message.

    Raises RecipeError with the fields that trl's message names; where it names none, trl's error goes on.
    """
    try:
        yield
    except LargeForgeError:
        raise
    except _REFUSALS as error:
        named = [name for name in method.extra if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error))]
        if not named or has_begun():
            raise
        reason = " ".join(str(error).split())
        problems = [Problem(f"method.extra.{n}", f"trl says: {reason}", given=repr(method.extra[n])) for n in named]
        raise RecipeError(problems) from error


def _unknown(config: str, extra: dict[str, Any]) -> list[Problem]:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    module, _, name = config.partition(":")
    known = {field.name: field for field in fields(getattr(importlib.import_module(module), name)) if field.init}
    found = []
    for key, value in extra.items():
        if key not in known:
            close = nearest(key, known)
            found.append(Problem(f"extra.{key}", f"trl's {name} has no such field.", nearest=close))
            continue
        choices = known[key].metadata.get("choices")
        if choices and value not in list(choices):
            rule = f"must be one of {', '.join(map(str, choices))}, as in trl's {name}."
            found.append(Problem(f"extra.{key}", rule, given=repr(value)))
            continue
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(known[key].type)  # type: ignore[arg-type]  # or its name
            adapter.validate_python(value)
        except (PydanticSchemaGenerationError, PydanticUserError, NameError):
            continue  # a type that only trl itself can judge
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            found.append(Problem(f"extra.{key}", f"{reason}, as in trl's {name}.", given=repr(value)))
    return found
