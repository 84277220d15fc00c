"""What the rows of a recipe expect for an answer, and judging each answer by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.judging.series import Series
from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.recipe.evaluation import AnswerEvaluator, Subject


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


def references(row: dict[str, Any], subject: Subject) -> list[str]:
    """Return all reference answers of a row: those of `answers` where it has several."""
    several = row.get("answers")
    found = [str(one).strip() for one in several] if isinstance(several, list) else [reference_answer(row, subject)]
    return [text for text in found if text]


def compared(
    config: AnswerEvaluator, subject: Subject, measure: Callable[[str, str], Mapping[str, float]]
) -> dict[str, Series]:
    """Return what `measure` says of each answer and its reference; of several references the best, metric by metric.

    Rows without a reference do not count. Raises StageError where that is all of them.
    """
    expected = {place: found for place, row in enumerate(subject.rows) if (found := references(row, subject))}
    if not expected:
        raise StageError(f"{config.name} has nothing to compare with: no row has an answer")
    answers = subject.answers(list(expected), max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    values: dict[str, list[float | None]] = {}
    for (place, wanted), answer in zip(expected.items(), answers, strict=True):
        each = [measure(answer.strip(), reference) for reference in wanted]
        best = {metric: max(one[metric] for one in each) for metric in each[0]}
        for metric, value in best.items():
            values.setdefault(metric, [None] * len(subject.rows))[place] = value
        shown = next(iter(best))
        subject.sample(place, shown, expected=wanted[0], answer=answer.strip(), score=best[shown])
    return {metric: Series(of_rows) for metric, of_rows in values.items()}


def checked(
    config: AnswerEvaluator, subject: Subject, metric: str, holds: Callable[[list[str]], list[float]], *, expected: str
) -> dict[str, Series]:
    """Return what `holds` says of the answers to all rows, 1 or 0 each."""
    places = list(range(len(subject.rows)))
    answers = subject.answers(places, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    scores = holds(answers)
    for place, answer, score in zip(places, answers, scores, strict=True):
        subject.sample(place, metric, expected=expected, answer=answer.strip(), score=score)
    return {metric: Series(scores)}
