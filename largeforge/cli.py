"""From the words of a command line to one call; the only place that prints or exits.

Hydra's own flags (`--cfg job`, `--info`, `--help` with a recipe, …) stay Hydra's. Everything else is
composed here directly, so that every mistake becomes one message and the right exit code:
0 done, 1 a stage failed, 2 the recipe or command line is wrong, 3 a gate refused, 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from largeforge.errors import Interrupted, LargeForgeError, StageError
from largeforge.recipe import folders

_OWN_FLAGS = {"--version", "-V"}
_FLAGS_WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd", "--config-name", "-cn",
    "--config-path", "-cp", "--experimental-rerun",
}  # fmt: skip


def entry() -> NoReturn:
    """Run the command line and leave the process; another Ctrl-C on the way out changes nothing."""
    code = Interrupted.exit_code
    with suppress(KeyboardInterrupt):  # a second one, while the first was told
        code = main()
    ignored = False
    while not ignored:
        with suppress(KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # else it kills Python while that takes itself apart
            ignored = True
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads every installed package
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        if _OWN_FLAGS.intersection(words[:1]):
            return _version()
        if words and words[0] in folders.commands():
            return _command(words[0], words[1:])
        if reproduced := [word for word in words if word.startswith("reproduce=")]:
            others = [word for word in words if word not in reproduced]
            return _command("reproduce", [reproduced[-1].removeprefix("reproduce="), *others])
        if words in (["--help"], ["-h"]):
            return _help()
        if any(word.startswith("-") for word in words):
            return _hydra(words)
        if not words:
            return _list_recipes()
        return _run(words)
    except LargeForgeError as error:
        return _fail(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: leave without a complaint
        return 1
    except OSError as error:
        from largeforge.os_errors import explain_run_error

        return _fail(StageError(explain_run_error(error, Path())))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_code


def _command(word: str, words: Sequence[str]) -> int:
    """Run `largeforge/commands/<word>.py`."""
    import argparse
    from importlib import import_module

    command = import_module(f"largeforge.commands.{word.replace('-', '_')}")
    title, _, rest = str(command.__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        f"python -m largeforge {word}", description=f"{title}\n{rest}".rstrip(), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(list(words))))


def _run(words: Sequence[str]) -> int:
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    composition = compose(words)
    return _carry_out(validate(composition), composition, words)


def _carry_out(recipe: Any, composition: Any, words: Sequence[str]) -> int:
    from largeforge.forecast.plan import refuse_what_does_not_fit, what_does_not_fit, with_forecasts
    from largeforge.planning import make_plan
    from largeforge.runs import statuses

    plan = make_plan(recipe, recipe_folder=composition.recipe_folder, packs=composition.packs)
    if recipe.export.name != "none" and recipe.mode != "plan":
        return _export(plan)
    plan = with_forecasts(plan)
    done = statuses(plan)
    if recipe.mode == "plan":
        _show_plan(plan, done, _typed(word for word in words if not word.lstrip("+").startswith("mode=")))
    if recipe.memory_check == "refuse":
        refuse_what_does_not_fit(plan, done=done)
    elif warning := what_does_not_fit(plan, done=done):
        print(f"warning: {warning}", file=sys.stderr)
    if recipe.mode == "plan":
        return 0
    from largeforge.console import make_console
    from largeforge.events import copied
    from largeforge.execute import execute

    with make_console() as console:
        try:
            execute(plan, _typed(words), copied(console.show))
        except LargeForgeError as error:
            if error.was_shown and sys.stdout.isatty() and sys.stderr.isatty():
                return error.exit_code  # the terminal has it already, from the console
            raise
    return 0


def _export(plan: Any) -> int:
    """Write the topology as files, and say what they are for; nothing is started."""
    from largeforge.exporting.run import export

    found = export(plan)
    written = found.written
    for what, names in (("wrote", written.written), ("unchanged", written.unchanged), ("removed", written.removed)):
        for name in names:
            print(_printable(f"{what:<9}  {written.folder / name}"))
    for note in found.notes:
        print(_printable(f"warning: {note}"), file=sys.stderr)
    if not written.written and not written.removed:
        print("All files are as this export wrote them before.")
    print("\nNothing was started. Next:")
    for number, step in enumerate(found.steps, start=1):
        print(_printable(f"  {number}. {step}"))
    return 0


def _show_plan(plan: Any, found: Mapping[str, str], command: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from largeforge.plan_view import render, summary
    from largeforge.preflight.run import notes

    console = Console(soft_wrap=False)
    console.print(render(plan, found))
    for finding in notes(plan):
        console.print(Text(f"warning: {finding}", "yellow"), soft_wrap=True)
    for stage in plan.stages:
        if stage.kind == "deploy":
            _show_hosts(console, stage, plan.digest)
    console.print(summary(plan, found, command), soft_wrap=True)


def _show_hosts(console: Any, stage: Any, lock: str) -> None:
    """Print what a deployment would change on hosts, as far as they and the models can be looked at."""
    from rich.text import Text

    from largeforge.deploy.preview_view import render
    from largeforge.errors import DeployError, GateError, ModelError, RegistryError
    from largeforge.stages.deploy import Config, previewed

    if stage.inputs:
        console.print(Text("what changes on the hosts is known when this run has made the models", "dim"))
        return
    try:
        found, rows = previewed(Config.model_validate(stage.config), lock)
    except (DeployError, GateError, ModelError, RegistryError) as error:
        console.print(Text(f"\nwarning: {error}", "yellow"), soft_wrap=True)
        return
    for part in render(found, rows):
        console.print(part, soft_wrap=True)


def _hydra(words: Sequence[str]) -> int:
    """Hand the command line to Hydra; each job of a multirun is composed again here, as without flags."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from largeforge.recipe import hydra_sources
    from largeforge.recipe.compose import check_words, compose, explain, rewrite
    from largeforge.recipe.places import Places

    codes: list[int] = []
    bugs: list[Exception] = []

    def job(_: Any) -> None:
        overrides = [word.removeprefix("++") for word in HydraConfig.get().overrides.task]
        try:
            codes.append(_run(overrides))
        except Interrupted:
            raise KeyboardInterrupt from None  # the one thing that also stops the jobs that are left
        except LargeForgeError as error:
            codes.append(_fail(error))
        except Exception as error:
            bugs.append(error)
            raise

    flags, overrides = _flags_and_overrides(words)
    if flags and set(flags) <= {"-m", "--multirun"}:
        from largeforge.sweep.command import sweep

        return sweep(overrides)
    if "--resolve" in flags:
        compose(overrides)
    check_words(overrides, sweep=True)
    hydra_sources.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["largeforge", *flags, *rewrite(overrides), "hydra.job.name=largeforge"]
    try:
        hydra.main(version_base="1.3", config_path=str(folders.shipped_root() / "conf"), config_name="config")(job)()
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if bugs:
            raise
        raise explain(error, Places(tuple(overrides))) from error
    return max(codes, default=0)


def _flags_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the words of a command line; the value of a flag, as in `--cfg job`, goes with the flags."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before in _FLAGS_WITH_VALUE and "=" not in word
        (flags if is_value or word.startswith("-") else overrides).append(word)
    return flags, overrides


def _list_recipes() -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from largeforge.recipe import sources

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, path in sources.choices("recipe").items():
        table.add_row(Text(_printable(name)), Text(_printable(sources.description(path))))
    console = Console()
    console.print(
        "Choose a recipe:  python -m largeforge +recipe=NAME \\[mode=plan] \\[key=value …]\n", highlight=False
    )
    console.print(table)
    return 0


def _help() -> int:
    from largeforge import help as help_text

    print(_printable(help_text.text()))
    return 0


def _version() -> int:
    import largeforge

    print(f"largeforge {largeforge.__version__}")
    return 0


def _fail(error: LargeForgeError) -> int:
    print(f"error: {_printable(str(error))}", file=sys.stderr)
    return error.exit_code


def _printable(text: str) -> str:
    """Return text without control characters: a message may quote a file that would steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def _typed(words: Iterable[str]) -> str:
    """Return the command as a user would type it again; without passwords, since it is shown and written."""
    from largeforge.secrets import without_passwords

    return str(without_passwords(shlex.join(["python", "-m", "largeforge", *words])))
