"""What the rows of a recipe expect for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject


def reference_answer(row: dict[str, Any], subject: Subject) -> str:
    """Return a row's reference answer without white space around it, empty where it has none.

    One that calls tools is what the template makes of the calls.
    """
    if "messages" not in row:
        return str(row["answer"]).strip()
    last = row["messages"][-1]
    if not last.get("tool_calls"):
        return str(last["content"]).strip()
    tokens, before = subject.encode(asked(row), [last], tools=row.get("tools"))
    return subject.text(tokens[before:]).strip()
