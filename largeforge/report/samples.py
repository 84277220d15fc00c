"""The report's section of what a model wrote while it was trained: each prompt with its answers, the newest open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.report.html import details, esc, esc_lines, section

if TYPE_CHECKING:
    from largeforge.report.facts import Facts, Stage
    from largeforge.report.read import Mapping

_MAX_STEPS = 60
"""Answers to one prompt that are shown; of more, evenly chosen ones, the first and the last among them."""


def samples(facts: Facts) -> str:
    """Return the answers that trainings generated, by prompt and step."""
    several = sum(bool(stage.samples) for stage in facts.stages) > 1
    cards = "".join(_card(stage, has_name=several) for stage in facts.stages if stage.samples)
    note = "Greedy answers to held-out prompts. Open one to see how it changed with the steps."
    return section("samples", "Samples during training", cards, note=note)


def _card(stage: Stage, *, has_name: bool) -> str:
    by_prompt: dict[str, list[Mapping]] = {}
    for sample in stage.samples:
        by_prompt.setdefault(str(sample.get("prompt") or ""), []).append(sample)
    name = f"<h3>{esc(stage.name)}</h3>" if has_name else ""
    items = "".join(_prompt(prompt, answers) for prompt, answers in by_prompt.items())
    return f'{name}<ol class="answers samples">{items}</ol>'


def _prompt(prompt: str, answers: list[Mapping]) -> str:
    shown = _evenly(answers)
    newest = shown[-1]
    reference = esc_lines(newest.get("reference") or "")
    expected = f'<p class="reference"><span class="muted">expected</span> {reference}</p>' if reference else ""
    rows = "".join(_row(answer) for answer in shown)
    steps = f"{len(answers)} answers, steps {_step(answers[0])} to {_step(newest)}"
    history = (
        details(f'<span class="muted">{esc(steps)}</span>', f"<table><tbody>{rows}</tbody></table>")
        if len(answers) > 1
        else ""
    )
    return (
        f'<li class="card"><p class="prompt">{esc_lines(prompt)}</p>'
        f'<p class="answer">{_text(newest)}</p>{expected}{history}</li>'
    )


def _row(answer: Mapping) -> str:
    return f'<tr><td class="num">{esc(_step(answer))}</td><td>{_text(answer)}</td></tr>'


def _text(answer: Mapping) -> str:
    return esc_lines(answer.get("text") or "") or '<span class="muted">nothing</span>'


def _step(answer: Mapping) -> str:
    return f"{answer['step']:g}"


def _evenly(answers: list[Mapping]) -> list[Mapping]:
    if len(answers) <= _MAX_STEPS:
        return answers
    last = len(answers) - 1
    return [answers[index * last // (_MAX_STEPS - 1)] for index in range(_MAX_STEPS)]
