"""Run something again from its lock, and say what could not be matched.

TARGET is a run directory, the digest of a run, latest:RECIPE, registry:NAME@ALIAS, registry:NAME/VERSION
or a lock.json. The recipe is the locked one, not today's; values may be overridden. A table tells first
what matches the lock; data or models that differ stop the reproduction unless that is allowed. The run
is written below runs/reproduced, and nothing is registered or served. The same command continues a
reproduction that was interrupted; one that is finished is not reused, unless with runs.resume=true.

    python -m largeforge reproduce=latest:my_expert mode=plan
    python -m largeforge reproduce=registry:my-expert@champion
    python -m largeforge reproduce=registry:my-expert/7 dataset.path=/data/my.jsonl
    python -m largeforge reproduce=3fa9c2d1 reproduce.allow=[datasets]

Exit codes: 0 done and the same, 1 done and not the same or a stage failed, 2 it could not be tried,
3 a gate refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.reproduce.prepare import Reproduction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to reproduce and the words that change it."""
    parser.add_argument("target", metavar="TARGET", help="a run, a registered model or a lock")
    parser.add_argument("words", metavar="key=value", nargs="*", help="values of the recipe to override; mode=plan")
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")


def run(arguments: argparse.Namespace) -> int:
    """Show what matches, run the plan again, compare the results; return the exit code."""
    from rich.console import Console

    from largeforge.forecast.plan import refuse_what_does_not_fit, with_forecasts
    from largeforge.plan_view import render
    from largeforge.recipe.schema import Registry
    from largeforge.recorded import find
    from largeforge.reproduce import overrides, view
    from largeforge.reproduce.prepare import prepare

    given = overrides.parse(arguments.words).values
    registry = Registry(**{key.removeprefix("registry."): value for key, value in given.items() if _is_registry(key)})
    recorded = find(arguments.target, root=Path(arguments.runs), registry=registry)
    wanted = prepare(recorded, arguments.words)
    wanted = replace(wanted, plan=with_forecasts(wanted.plan))
    console = Console()
    console.print(f"Reproduces {recorded.label}, lock {recorded.digest[:12]}", highlight=False, markup=False)
    console.print(view.table(wanted.matches), highlight=False)
    console.print(view.before(wanted.matches), highlight=False)
    if wanted.mode == "plan":
        console.print(render(wanted.plan, {}))
    wanted.check()
    if wanted.plan.recipe.memory_check == "refuse":
        refuse_what_does_not_fit(wanted.plan)
    if wanted.mode == "plan":
        return 0
    return _carried_out(wanted, _command(arguments), console)


def _carried_out(wanted: Reproduction, command: str, terminal: Any) -> int:
    from largeforge.compare.results import pairs
    from largeforge.compare.view import results
    from largeforge.console import make_console
    from largeforge.execute import execute
    from largeforge.recorded import of_run
    from largeforge.reproduce import view

    with make_console() as console:
        path = execute(wanted.plan, command, console.show)
    stages = pairs(wanted.recorded, of_run(path))
    terminal.print(results(stages, "locked", "now"), highlight=False)
    differing = [match for match in wanted.matches if match.verdict == "differs"]
    terminal.print(view.after(stages, differing=differing), highlight=False, markup=False)
    return 0 if all(stage.same for stage in stages) else 1


def _is_registry(key: str) -> bool:
    return key in ("registry.uri", "registry.artifacts")


def _command(arguments: argparse.Namespace) -> str:
    folder = [] if arguments.runs == "runs" else [f"--runs={arguments.runs}"]
    return shlex.join(["python", "-m", "largeforge", f"reproduce={arguments.target}", *arguments.words, *folder])
