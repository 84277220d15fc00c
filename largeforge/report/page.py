"""Puts the sections on one page and writes it: no request leaves it, and no script but its own runs in it."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from largeforge.report import appendix, sections
from largeforge.report.facts import gather
from largeforge.report.forecast import forecast
from largeforge.report.html import esc
from largeforge.report.judgement import evaluation
from largeforge.report.load import load
from largeforge.report.read import read
from largeforge.report.samples import samples
from largeforge.report.training import training

if TYPE_CHECKING:
    from pathlib import Path

_NAVIGATION = {
    "stages": "Stages",
    "training": "Training",
    "samples": "Samples",
    "forecast": "Plan and reality",
    "evaluation": "Evaluation",
    "answers": "Answers",
    "load": "Load test",
    "models": "Models",
    "next": "Next",
    "tables": "Tables",
    "environment": "Environment",
    "recipe": "Recipe",
}


def write(run_dir: Path) -> Path:
    """Build `report.html` in a run directory from whatever is there, and return its path."""
    path = run_dir / "report.html"
    _replace(path, render(run_dir))
    return path


def render(run_dir: Path) -> str:
    """Return the report of a run directory as HTML."""
    files = read(run_dir)
    facts = gather(files)
    parts = [
        sections.stages(facts),
        training(facts),
        samples(facts),
        forecast(facts, files.plan),
        evaluation(facts),
        sections.answers(facts),
        load(facts),
        sections.models(facts),
        appendix.next_steps(facts),
        sections.other_tables(facts),
        appendix.environment(files.lock),
        appendix.recipe(files.recipe),
    ]
    return fill(
        title=f"{facts.recipe} · LargeForge",
        header=sections.header(facts),
        navigation=_NAVIGATION,
        body="".join(parts),
        footer="Written by LargeForge from the events and manifests of this run.",
    )


def fill(*, title: str, header: str, navigation: dict[str, str], body: str, footer: str, style: str = "") -> str:
    """Return a whole page; `title` and `footer` are text, the rest is HTML, `style` is more CSS.

    The navigation names sections by their id; those that the body lacks are left out.
    """
    script = _asset("hover.js")
    return Template(_asset("page.html")).substitute(
        title=esc(title),
        style=f"{_asset('style.css')}\n{style}".rstrip(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        header=header,
        navigation="".join(
            f'<a href="#{name}">{text}</a>' for name, text in navigation.items() if f'<section id="{name}">' in body
        ),
        body=body,
        footer=esc(footer),
    )


def _asset(name: str) -> str:
    return resources.files("largeforge.report").joinpath(name).read_text(encoding="utf-8").strip()


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a half."""
    temporary = path.with_name(f".report-{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
