"""Validate and plan recipes and the choices under conf/: all problems of all files at once.

Folders are walked; without PATH the working directory's recipes/, conf/ and hosts/. Nothing is run,
and no data needs to be there. Exit code 2 when there is a problem. A key that a recipe leaves to
the command line is told, and is no problem. docs/editors.md shows it as a git hook.

  python -m largeforge check
  python -m largeforge check recipes/mine.yaml conf/model
  python -m largeforge check --set dataset.path=my.jsonl     plan those that need it, too
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.errors import Problem
    from largeforge.inspection import Inspected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="YAML files, or folders of them")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="values",
        help="a value for the recipes that leave KEY to the command line; may be given several times",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Inspect the files and print what was found; raise RecipeError with all problems."""
    from largeforge.errors import RecipeError
    from largeforge.inspection import files_below, inspect_files

    values = _values(arguments.values)
    files = files_below(arguments.paths)
    found = inspect_files(files, values)
    unused = [key for key in values if not any(key in file.given for file in found)]
    if unused:
        raise RecipeError(f"--set {unused[0]}=…: none of the recipes leaves {unused[0]} to the command line.")
    problems = list(dict.fromkeys(problem for file in found for problem in file.problems))
    if arguments.json:
        print(json.dumps({"ok": not problems, "files": [_as_dict(file) for file in found]}, indent=2))
        return 2 if problems else 0
    for file in found:
        if file.needs and file.group == "recipe":
            print(f"{file.path}: needs {' '.join(f'{key}=' for key in file.needs)}")
    if problems:
        raise RecipeError(_message(problems, found))
    num_recipes = sum(file.group == "recipe" for file in found)
    print(f"{_counted(num_recipes, 'recipe')} and {_counted(len(found) - num_recipes, 'choice')}: no problems")
    return 0


def _values(words: list[str]) -> dict[str, str]:
    from largeforge.errors import RecipeError

    for word in words:
        if not word.partition("=")[1] or not word.partition("=")[0]:
            raise RecipeError(f"--set {word!r}: expected KEY=VALUE, such as dataset.path=my.jsonl.")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _message(problems: list[Problem], found: list[Inspected]) -> str:
    wrong = sum(bool(file.problems) for file in found)
    head = f"{_counted(len(problems), 'problem')} in {wrong} of {_counted(len(found), 'file')}:"
    return "\n".join([head, *(f"  - {problem}" for problem in problems)])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _as_dict(file: Inspected) -> dict[str, object]:
    problems = [asdict(problem) for problem in file.problems]
    return {"path": str(file.path), "group": file.group, "problems": problems, "needs": list(file.needs)}
