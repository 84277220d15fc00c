"""Start a recipe of your own, from flags or from a few questions.

Without flags, on a terminal, it asks. The recipe is written to recipes/NAME.yaml of the working
directory, checked and planned.

  python -m largeforge new recipe mine
  python -m largeforge new recipe mine --train sft --model qwen2_5_7b_instruct --data rows.jsonl
  python -m largeforge new recipe mine --serve --model hub:Qwen/Qwen2.5-7B-Instruct
  python -m largeforge new recipe mine --from sft_qwen7b --data rows.jsonl
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.scaffold.recipe import Wanted

_FLAGS = ("base", "method", "model", "teacher", "data", "adapter", "hardware", "serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("what", choices=["recipe"], help="what to start")
    parser.add_argument("name", metavar="NAME", help="its name: lowercase letters, digits, - and _")
    parser.add_argument("--from", dest="base", default="", metavar="RECIPE", help="recipe to build on")
    parser.add_argument("--train", dest="method", default="", metavar="METHOD", help="training method, such as sft")
    parser.add_argument("--model", default="", help="a choice of conf/model/, a reference (hub:owner/name), a folder")
    parser.add_argument("--teacher", default="", help="the model that distill learns from, given as --model is")
    parser.add_argument("--data", default="", metavar="PATH", help="file, folder, pattern or address to train on")
    parser.add_argument("--adapter", default="", help="lora (the default) or none, which trains all weights")
    parser.add_argument("--hardware", default="", help="a choice of conf/hardware/; without it, the machine as found")
    parser.add_argument("--serve", action="store_true", help="serve the model, or what was trained")
    parser.add_argument("--interactive", action="store_true", help="ask, with the flags as answers already given")
    parser.add_argument("--force", action="store_true", help="replace a recipe that is there")


def run(arguments: argparse.Namespace) -> int:
    """Write the recipe; raise RecipeError or DataError when it would be wrong, and leave nothing then."""
    from largeforge.errors import RecipeError
    from largeforge.recipe import folders, sources
    from largeforge.recipe.base import NAME_PATTERN

    name = sources.recipe_name(arguments.name)
    file = Path(folders.GROUP_FOLDERS["recipe"], f"{name}.yaml")
    if not re.fullmatch(NAME_PATTERN, name):
        raise RecipeError(
            f"{name!r}: a name has lowercase letters, digits, - and _, and begins with a letter or digit."
        )
    if file.exists() and not arguments.force:
        raise RecipeError(f"{file} is there already; --force replaces it.")
    answers = {flag: getattr(arguments, flag) for flag in _FLAGS if getattr(arguments, flag)}
    if arguments.interactive or (not answers and sys.stdin.isatty()):
        try:
            answers = _ask(answers)
        except EOFError:
            raise RecipeError("the answers ended before the questions; nothing was written.") from None
    wanted = _wanted(name, answers)
    _write(file, wanted)
    return 0


def _wanted(name: str, answers: dict[str, Any]) -> Wanted:
    from largeforge.scaffold.recipe import Wanted, is_choice, reference

    wanted = Wanted(name, **answers)
    if wanted.data:
        _look_at_data(wanted)
    if wanted.model and "adapter" not in answers and _is_tiny(wanted.model, is_choice(wanted.model), reference):
        wanted = replace(wanted, adapter="none")
    if wanted.serve:
        wanted = replace(wanted, on_gpu=_has_gpu(wanted.hardware))
    return wanted


def _look_at_data(wanted: Wanted) -> None:
    from largeforge.errors import DataError
    from largeforge.scaffold.data import look_into
    from largeforge.scaffold.recipe import data_kind

    kind = data_kind(wanted.method) if wanted.method else "sft"
    found = look_into(wanted.data, kind)
    if found is None:
        print(f"{wanted.data}: not here yet; its rows are looked at when it has been downloaded, by a run")
        return
    print(f"{wanted.data}: {'' if found.is_exact else 'about '}{found.num_rows} rows, {found.form}")
    if wanted.method and kind not in found.kinds:
        rule = f"{wanted.method} trains on {kind} data, and these are {found.form} rows"
        raise DataError(f"{wanted.data}: {rule}; choose another method or file.")


def _is_tiny(model: str, choice: bool, reference: Any) -> bool:
    """Tell whether a model has random weights, on which an adapter learns nothing."""
    import yaml

    from largeforge.recipe import sources

    if not choice:
        return str(reference(model)).startswith("tiny:")
    values = yaml.safe_load(sources.choices("model")[model].read_text(encoding="utf-8"))
    return isinstance(values, dict) and str(values.get("ref")).startswith("tiny:")


def _has_gpu(hardware: str) -> bool:
    from largeforge.hardware import gpus

    return bool(gpus()) if hardware == "auto" else hardware != "cpu"


def _ask(answers: dict[str, Any]) -> dict[str, Any]:
    """Ask for what the flags leave open; an empty answer takes the default."""
    from rich.prompt import Confirm, Prompt

    from largeforge.recipe import sources
    from largeforge.scaffold.recipe import has_teacher

    found = dict(answers)

    def ask(key: str, question: str, default: str, choices: list[str] | None = None) -> None:
        if key not in found:
            found[key] = Prompt.ask(question, default=default, choices=choices, show_choices=bool(choices))

    if not {"base", "method", "serve"} & found.keys():
        what = Prompt.ask("What is it to do", choices=["train", "serve", "both", "build on a recipe"], default="train")
        if what == "build on a recipe":
            ask("base", "Recipe", "sft_qwen7b", list(sources.choices("recipe")))
        found["serve"] = what in ("serve", "both")
        if what in ("train", "both"):
            ask("method", "Method", "sft", list(sources.choices("method")))
    if "base" not in found:
        print(f"Models of conf/model/: {', '.join(sources.choices('model'))}")
        ask("model", "Model (one of these, hub:owner/name, or a folder)", "qwen2_5_7b_instruct")
    if found.get("method") in sources.choices("method") and has_teacher(found["method"]) and "base" not in found:
        ask("teacher", "Teacher to learn from (a model as above)", "qwen2_5_14b_instruct")
    if found.get("method") or "base" in found:
        ask("data", "Data: a file, folder, pattern or address (empty: given when it is run)", "")
    ask("hardware", "Hardware", "auto", list(sources.choices("hardware")))
    if "serve" not in found and "base" not in found:
        found["serve"] = Confirm.ask("Serve it afterwards", default=False)
    return found


def _write(file: Path, wanted: Wanted) -> None:
    """Write the recipe and check it where it stands; a wrong one is taken back."""
    from largeforge.artifacts import write_text
    from largeforge.errors import RecipeError
    from largeforge.inspection import inspect_files
    from largeforge.scaffold.recipe import recipe_text

    before = file.read_text(encoding="utf-8") if file.exists() else None
    write_text(file, recipe_text(wanted))
    (found,) = inspect_files([file], {})
    if found.problems:
        file.unlink() if before is None else write_text(file, before)
        raise RecipeError(found.problems)
    command = f"python -m largeforge +recipe={wanted.name}{''.join(f' {key}=…' for key in found.needs)}"
    print(f"wrote {file}\nnext:\n  {command} mode=plan\n  {command}")
