"""Follow a run whose stages went on on hosts while nobody watched: the run's own command, continued.

  python -m largeforge attach runs/support_bot/20260101T120000-ab12cd34     a run
  python -m largeforge attach support_bot                                   the newest run of a recipe

What runs is followed from where it was left; what ended meanwhile is fetched and verified; then the run goes on with
its next stages. Type it where the run was started. Exit codes are those of the run.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("run", help="folder of a run, or the name of a recipe for its newest run")
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")


def run(arguments: argparse.Namespace) -> int:
    """Continue the run; return its exit code."""
    from largeforge import cli
    from largeforge.errors import StageError
    from largeforge.onhosts.finding import run_folder
    from largeforge.planning import make_plan
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate
    from largeforge.runs import LOCK, Run, existing

    folder = run_folder(arguments.run, Path(arguments.runs))
    words = command_of(folder)
    if Run(folder, folder.parents[1]).is_held():
        raise StageError(f"{folder} is followed by another process: end that one with Ctrl-C first")
    composition = compose(words)
    plan = make_plan(
        validate(composition), recipe_folder=composition.recipe_folder, packs=composition.packs
    )  # fmt: skip
    locked = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    if plan.digest != locked["digest"] or folder not in existing(plan)[:1]:
        raise StageError(
            f"{folder} was begun with: python -m largeforge {shlex.join(words)}\nToday that means another run: its "
            "recipe, its data, a package or the working directory is not what it was, or there is a newer run of it. "
            f"python -m largeforge cancel {folder} ends what it has on hosts."
        )
    return cli.main(words)


def command_of(folder: Path) -> list[str]:
    """Return the words of the command that a run was last continued with.

    Raises StageError when it is not recorded.
    """
    from largeforge import events
    from largeforge.errors import StageError
    from largeforge.execute import EVENTS

    text = ""
    for line in (folder / EVENTS).read_text(encoding="utf-8").splitlines() if (folder / EVENTS).is_file() else ():
        event = events.decode(line)
        if event and event["kind"] == "run_started":
            text = str(event.get("command", ""))
    words = shlex.split(text)
    if words[:3] != ["python", "-m", "largeforge"]:
        raise StageError(f"{folder} does not say which command began it")
    return words[3:]
