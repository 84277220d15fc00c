"""Look at this machine, and say what to do where a run would fail.

Without a recipe: the general checks. With one: whether everything that its run still needs is there
(disk, memory, GPUs, ports, models, data, packages). Nothing is changed or downloaded.

  python -m largeforge doctor
  python -m largeforge doctor +recipe=sft_qwen7b dataset.path=my.jsonl

Exit codes: 0 nothing stops a run, 2 something does.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.plan import Plan
    from largeforge.preflight.finding import Finding

_SIGNS = {"ok": ("✓", "green"), "skipped": ("-", "dim"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("words", nargs="*", metavar="key=value", help="+recipe=NAME and overrides, as for a run")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="one check alone; may be repeated")


def run(arguments: argparse.Namespace) -> int:
    """Print what all checks found."""
    from largeforge.preflight.context import Context
    from largeforge.preflight.run import examine

    _require_known(arguments.only)
    plan = _plan(arguments.words) if arguments.words else None
    findings = examine(Context(plan), only=arguments.only)
    if arguments.json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        _show(findings, plan)
    return 2 if any(finding.level == "error" for finding in findings) else 0


def _require_known(wanted: Sequence[str]) -> None:
    from largeforge.errors import Problem, RecipeError, listed, nearest
    from largeforge.preflight.run import names

    unknown = [name for name in wanted if name not in names()]
    if unknown:
        rule = f"no such check; there is: {listed(names())}."
        raise RecipeError([Problem("--only", rule, given=name, nearest=nearest(name, names())) for name in unknown])


def _plan(words: Sequence[str]) -> Plan:
    from largeforge.forecast.plan import with_forecasts
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    composition = compose([*(word for word in words if not word.lstrip("+").startswith("mode=")), "mode=plan"])
    recipe = validate(composition)
    return with_forecasts(make_plan(recipe, recipe_folder=composition.recipe_folder, packs=composition.packs))


def _show(findings: Sequence[Finding], plan: Plan | None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"recipe {plan.recipe.name}" if plan else "the machine in general; with +recipe=NAME for a run"))
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        console.print(Text.assemble((f"{sign} {finding.check:{width}}", style), f"  {_printable(finding.text)}"))
        if finding.cure:
            console.print(Text(f"{'':{width + 2}}  → {_printable(finding.cure)}", "bold"))
    console.print(Text(_summary(findings)))


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning")}
    words = [f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items() if count]
    return ", ".join(words) if words else "all is well"


def _printable(text: str) -> str:
    """Return text without control characters: a server's or a file's words may be in it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
