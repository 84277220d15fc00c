"""Environments of pinned packages for tools that cannot share one with vLLM: list, build, remove.

They are built when a run needs them, once, below `~/.cache/largeforge/environments` (or `$XDG_CACHE_HOME`), on top
of the interpreter that runs LargeForge: what is not pinned, torch above all, is shared with it.

  python -m largeforge environments                     those of conf/environment/, and what is built
  python -m largeforge environments build               all of them, ahead of a run
  python -m largeforge environments build autoawq
  python -m largeforge environments remove autoawq      or a key from the list
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from largeforge.environments.store import Environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="show the environments and their state")
    build = commands.add_parser("build", help="build environments that are not there yet")
    build.add_argument("names", nargs="*", metavar="NAME", help="only these")
    remove = commands.add_parser("remove", help="delete built environments")
    remove.add_argument("names", nargs="+", metavar="NAME", help="names, or keys from the list")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one subcommand; without one, list the environments."""
    if arguments.command == "build":
        return _build(arguments.names)
    return _remove(arguments.names) if arguments.command == "remove" else _list()


def _list() -> int:
    from largeforge.environments import spec, store

    base, specs = spec.running(), spec.known()
    keys = {name: wanted.key(base) for name, wanted in specs.items()}
    for name, wanted in specs.items():
        found = store.read(store.root() / keys[name])
        about = f", {_about(found)}" if found else ""
        print(f"{name}  {keys[name]}  {store.state(wanted)}{about}\n    {', '.join(wanted.requirements)}")
    for other in store.built():
        if other.key not in keys.values():
            where = f"on top of {other.base}, {other.python_version}"
            print(f"{other.name}  {other.key}  of another interpreter or other pins ({where}), {_about(other)}")
    return 0


def _build(names: list[str]) -> int:
    from largeforge.environments import build, spec

    specs = [spec.named(name) for name in names] or list(spec.known().values())
    for wanted in specs:
        found = build.ensure(wanted, lambda text: print(text, file=sys.stderr))
        print(f"{wanted.name}  {found.key}  {found.folder}")
    return 0


def _remove(names: list[str]) -> int:
    from largeforge.environments import store
    from largeforge.errors import Problem, RecipeError, listed, nearest

    there = store.built()
    known = list(dict.fromkeys(word for found in there for word in (found.name, found.key)))
    unknown = [name for name in names if name not in known]
    if unknown:
        rule = f"is not built; there is: {listed(known)}."
        raise RecipeError([Problem("environment", rule, given=name, nearest=nearest(name, known)) for name in unknown])
    for found in there:
        if {found.name, found.key} & set(names):
            store.remove(found.folder)
            print(f"removed {found.name} {found.key}")
    return 0


def _about(found: Environment) -> str:
    return f"{found.size_bytes() / 2**20:.0f} MiB, built in {found.seconds:.0f} s"
