"""From the words of a command line to one call; the only place that prints or exits.

Hydra's own flags (`--help`, `--cfg job`, `--info`, `-m`, …) stay Hydra's. Everything else is
composed here directly, so that every mistake becomes one message and the right exit code:
0 done, 1 a stage failed, 2 the recipe or command line is wrong, 3 a gate refused, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from largeforge.errors import LargeForgeError, StageError

_OWN_FLAGS = {"--version", "-V"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        if _OWN_FLAGS.intersection(words):
            return _version()
        if any(word.startswith("-") for word in words):
            return _hydra(words)
        if not any(word.lstrip("+").startswith("recipe=") for word in words):
            return _list_recipes(words)
        return _run(words)
    except LargeForgeError as error:
        return _fail(error)
    except OSError as error:
        from largeforge.os_errors import explain_run_error

        return _fail(StageError(explain_run_error(error, Path.cwd())))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(words: Sequence[str]) -> int:
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    composition = compose(words)
    return _carry_out(validate(composition), composition.recipe_folder, _typed(words))


def _carry_out(recipe: Any, recipe_folder: str, command: str) -> int:
    from largeforge.plan import make_plan

    plan = make_plan(recipe, recipe_folder=recipe_folder)
    if recipe.mode == "plan":
        return _show_plan(plan, command)
    from largeforge.console import make_console
    from largeforge.execute import execute

    with make_console() as console:
        execute(plan, command, console.show)
    return 0


def _show_plan(plan: Any, command: str) -> int:
    from rich.console import Console

    from largeforge.plan_view import render
    from largeforge.runs import statuses

    without_mode = " ".join(word for word in command.split() if not word.startswith("mode="))
    Console(soft_wrap=False).print(render(plan, statuses(plan), without_mode))
    return 0


def _hydra(words: Sequence[str]) -> int:
    """Hand the command line to Hydra; each job of a multirun goes its own way."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from largeforge.recipe import sources
    from largeforge.recipe.compose import Composition, explain, plain, rewrite
    from largeforge.recipe.places import Places
    from largeforge.recipe.validate import validate

    codes: list[int] = []

    def job(config: Any) -> None:
        overrides = tuple(HydraConfig.get().overrides.task)
        places = Places(overrides=overrides)
        try:
            composition = Composition(plain(config, places), places, str(sources.shipped_root() / "recipes"))
            codes.append(_carry_out(validate(composition), composition.recipe_folder, _typed(overrides)))
        except LargeForgeError as error:
            codes.append(_fail(error))

    sources.register()
    flags = [word for word in words if word.startswith("-")]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["largeforge", *flags, *rewrite([word for word in words if not word.startswith("-")])]
    try:
        hydra.main(version_base="1.3", config_path=str(sources.shipped_root() / "conf"), config_name="config")(job)()
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            raise
        raise explain(error) from error
    return max(codes, default=0)


def _list_recipes(words: Sequence[str]) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from largeforge.recipe import sources
    from largeforge.recipe.compose import check_syntax

    check_syntax(words)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, path in sources.recipe_files().items():
        table.add_row(name, Text(sources.description(path)))
    console = Console()
    console.print(
        "Choose a recipe:  python -m largeforge +recipe=NAME \\[mode=plan] \\[key=value …]\n", highlight=False
    )
    console.print(table)
    return 0


def _version() -> int:
    import largeforge

    print(f"largeforge {largeforge.__version__}")
    return 0


def _fail(error: LargeForgeError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _typed(words: Sequence[str]) -> str:
    """Return the command as a user would type it again."""
    return shlex.join(["python", "-m", "largeforge", *words]).replace("'+recipe", "+recipe")
