"""Share of questions of which the model finds the right option the likeliest.

`acc` takes the option with the highest log-probability, `acc_norm` the one with the highest per character, so that
long options are not at a disadvantage: the two accuracies of lm-evaluation-harness (`api/task.py`, `acc` and
`acc_norm`). The likelihood is that of the option as the assistant's whole answer in the chat template, its end
included: an option that begins another one is not preferred for being shorter.

A row is {"question": text, "choices": [text, ...], "answer": the right option, its number from 0, or its letter}.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.errors import Problem, StageError
from largeforge.judging.series import Series
from largeforge.recipe.base import Extension
from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt", "preference", "unpaired", "text")
METRICS = ("acc", "acc_norm")


class Config(Extension):
    """Settings of multiple choice."""

    name: Literal["multiple_choice"] = "multiple_choice"
    path: str = ""
    """JSONL file of questions, each with `choices` and `answer`; relative to the working directory, or to the recipe
    with `recipe:`."""
    batch_size: int = Field(default=32, gt=0)
    """Options per forward pass. Scores do not depend on it."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    if not config.path:
        rule = 'is required: a JSONL file, each row {"question": "...", "choices": ["...", "..."], "answer": 0}.'
        yield Problem("path", rule)


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `acc` and `acc_norm`."""
    rights = [_right(row) for row in subject.rows]
    options = [(place, str(choice)) for place, row in enumerate(subject.rows) for choice in row["choices"]]
    found: list[list[tuple[float, str]]] = [[] for _ in subject.rows]
    for start in range(0, len(options), config.batch_size):
        batch = options[start : start + config.batch_size]
        encoded = [
            subject.encode(asked(subject.rows[place]), [{"role": "assistant", "content": text}])
            for place, text in batch
        ]
        for (place, text), likelihood in zip(batch, subject.log_probabilities(encoded), strict=True):
            found[place].append((likelihood, text))
        subject.progress(min(start + config.batch_size, len(options)), len(options))
    plain = [_first(likelihood for likelihood, _ in own) for own in found]
    per_character = [_first(likelihood / max(len(text), 1) for likelihood, text in own) for own in found]
    for place, row in enumerate(subject.rows):
        chosen, right = str(row["choices"][plain[place]]), str(row["choices"][rights[place]])
        subject.sample(place, "acc", expected=right, answer=chosen, score=float(plain[place] == rights[place]))
    return {
        name: Series([float(one == right) for one, right in zip(chosen, rights, strict=True)])
        for name, chosen in (("acc", plain), ("acc_norm", per_character))
    }


def _right(row: dict[str, Any]) -> int:
    """Return the place of the right option; raises StageError that names the row."""
    choices, answer = row.get("choices"), row["answer"]
    if not isinstance(choices, list) or len(choices) < 2:
        raise StageError(f"{row['source']}: `choices` must be a list of at least two options")
    texts = [str(choice) for choice in choices]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return answer
    if str(answer) in texts:
        return texts.index(str(answer))
    if isinstance(answer, str) and len(answer) == 1 and 0 <= ord(answer.upper()) - ord("A") < len(texts):
        return ord(answer.upper()) - ord("A")
    rule = f"`answer` must be one of the {len(texts)} options, its number from 0, or its letter"
    raise StageError(f"{row['source']}: {rule}, and is {answer!r}")


def _first(values: Iterator[float]) -> int:
    """Return the place of the highest value, the first of equal ones."""
    found = list(values)
    return found.index(max(found))
