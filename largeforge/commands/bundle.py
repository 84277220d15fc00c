"""Gather all packages that hosts need into one folder, for hosts that reach no package index.

What is there already is not fetched again, and a run that was stopped goes on. The packages come from where pip gets
them on this machine: its configuration and `PIP_INDEX_URL` count. docs/bundle.md says what to do with the folder.

  python -m largeforge bundle --role gateway --output bundle
  python -m largeforge bundle --role gateway --role serve --device cuda --output bundle
  python -m largeforge bundle +recipe=serve_qwen7b --output bundle
  python -m largeforge bundle --role gateway --python 3.12 --platform manylinux_2_34_aarch64 --output bundle
  python -m largeforge bundle --check bundle

Exit codes: 0 done, 1 a package cannot be had, or the bundle is damaged, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.hostenv.pins import DEVICES, ROLES, TORCH_CPU_INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.schema import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add = parser.add_argument
    add("words", nargs="*", metavar="key=value", help="+recipe=NAME and overrides: the roles that its hosts need")
    add("--role", action="append", default=[], choices=list(ROLES), help="what hosts are for; may be repeated")
    add("--device", choices=DEVICES, help="builds of torch and vLLM (that of the recipe; cpu)")
    add("--python", default="", metavar="3.N", help="Python of the hosts (the one that runs this)")
    add("--platform", default="", metavar="NAME", help="of the hosts, as manylinux_2_28_x86_64 (this machine's)")
    add("--output", type=Path, metavar="DIR", help="folder of the bundle")
    add("--check", type=Path, metavar="DIR", help="look whether a bundle is whole, and say what is missing or damaged")


def run(arguments: argparse.Namespace) -> int:
    """Make a bundle, or check one."""
    from largeforge.errors import RecipeError

    if arguments.check:
        return _check(arguments.check)
    if arguments.output is None:
        raise RecipeError("say where the bundle goes: --output DIR (or --check DIR to look at one)")
    recipe = _recipe(arguments.words) if arguments.words else None
    roles = arguments.role or (_roles(recipe) if recipe else [])
    if not roles:
        raise RecipeError("say what the hosts are for: --role gateway, --role serve, --role train, or +recipe=NAME")
    return _make(arguments, list(dict.fromkeys(roles)), arguments.device or (_device(recipe) if recipe else "cpu"))


def _make(arguments: argparse.Namespace, roles: Sequence[str], device: str) -> int:
    from largeforge.hostenv import bundle
    from largeforge.hostenv.target import target

    torch_index = os.environ.get("LARGEFORGE_TORCH_INDEX") or TORCH_CPU_INDEX
    wanted = bundle.Wanted(tuple(roles), device, target(arguments.python, arguments.platform), torch_index)
    found = bundle.make(wanted, arguments.output, lambda text: print(text, file=sys.stderr, flush=True))
    about = f"Python {found.target.python}, {found.target.platform}, {device}"
    print(f"{arguments.output}: {len(found.wheels)} wheels, {found.size_bytes / 2**20:.0f} MiB")
    print(f"  for {about}: {', '.join(found.roles)}")
    return 0


def _check(folder: Path) -> int:
    from largeforge.errors import BuildError
    from largeforge.hostenv import manifest

    found = manifest.read(folder)
    if problems := found.problems(folder):
        lines = "\n".join(f"  - {problem}" for problem in problems)
        hint = "Bring it again, or run the command that made it: it fetches what is missing."
        raise BuildError(f"{folder}: {len(problems)} of {len(found.wheels)} wheels cannot be used:\n{lines}\n{hint}")
    print(f"{folder} is whole: {len(found.wheels)} wheels, {found.size_bytes / 2**20:.0f} MiB")
    for role in found.roles:
        print(f"  {role}: {len(found.needed(role))} packages, environment {found.environment(role).key}")
    return 0


def _recipe(words: Sequence[str]) -> Recipe:
    from largeforge.recipe.compose import compose
    from largeforge.recipe.validate import validate

    return validate(compose(list(words)))


def _roles(recipe: Recipe) -> list[str]:
    """Return what the hosts of a recipe are for: what it serves and what it trains."""
    return [*(["gateway", "serve"] if recipe.topology else []), *(["train"] if recipe.training_jobs else [])]


def _device(recipe: Recipe) -> str:
    """Return the device of a recipe's machines; one that is left to each machine is CUDA where they have GPUs."""
    if recipe.hardware.device != "auto":
        return recipe.hardware.device
    has_gpus = recipe.hardware.gpu or recipe.hardware.num_gpus or any(host.gpus for host in recipe.hosts.hosts.values())
    return "cuda" if has_gpus else "cpu"
