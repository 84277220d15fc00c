"""Recipes of others: list, add, fetch, update, remove and check packs.

A pack is a git repository with `recipes/` and `conf/<group>/`, and perhaps a `pack.yaml`. It is data:
nothing in it is run, and what it may say is listed in docs/packs.md.

  python -m largeforge packs                                            the packs used here, and their state
  python -m largeforge packs add https://host/recipes --rev v1 --as acme
  python -m largeforge packs fetch                                      after a fresh clone
  python -m largeforge packs update acme                                take what the revision means now
  python -m largeforge +recipe=acme/support_bot mode=plan
  python -m largeforge packs check .                                    before you publish one

`largeforge.yaml` names the packs and `packs.lock` pins them to a commit and a hash: commit both to git.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from largeforge.recipe.packs.project import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="show the packs used here and their state")
    add = commands.add_parser("add", help="fetch a pack, check it, and write it into largeforge.yaml and packs.lock")
    add.add_argument("url", help="https://…, ssh://…, user@host:path, or a folder")
    add.add_argument("--rev", required=True, help="tag, branch, or whole commit id")
    add.add_argument("--as", dest="alias", required=True, metavar="NAME", help="its name here: +recipe=NAME/…")
    commands.add_parser("fetch", help="bring what packs.lock pins, and verify it")
    update = commands.add_parser("update", help="fetch what the revisions mean now, and pin that")
    update.add_argument("names", nargs="*", metavar="NAME", help="only these packs")
    remove = commands.add_parser("remove", help="use a pack no more")
    remove.add_argument("name", metavar="NAME", help="its name here")
    check = commands.add_parser("check", help="look at a pack as its users' LargeForge will")
    check.add_argument("path", nargs="?", default=".", metavar="PATH", help="folder of the pack (default: .)")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one subcommand; without one, list the packs."""
    command = arguments.command or "list"
    if command == "add":
        return _add(arguments.url, arguments.rev, arguments.alias)
    if command == "update":
        return _update(arguments.names)
    if command == "remove":
        return _remove(arguments.name)
    if command == "check":
        return _check(Path(arguments.path))
    return _fetch() if command == "fetch" else _list()


def _list() -> int:
    from largeforge.recipe.packs import installed, project

    entries, packs = project.read(Path.cwd()), installed.packs()
    if not entries:
        print(f"No packs here. To use one: python -m largeforge packs add URL --rev REV --as NAME ({project.NAME})")
        return 0
    for entry in entries:
        pack = packs[entry.alias]
        commit = pack.pinned.commit[:12] if pack.pinned else "-" * 12
        state = pack.problem.partition(": python")[0].removeprefix(f"pack {entry.alias} ") or _content(pack)
        print(f"{entry.alias}  {commit}  {entry.rev}  {entry.git}\n    {state}")
    return 0


def _content(pack: object) -> str:
    from largeforge.errors import RecipeError
    from largeforge.recipe.packs import manifest
    from largeforge.recipe.packs.installed import Pack

    assert isinstance(pack, Pack)
    try:
        pack.verified  # noqa: B018 - raises when the files are not the pinned ones
    except RecipeError as error:
        return error.problems[0].rule
    counts = [f"{len(choices)} {group}{'s' if len(choices) > 1 else ''}" for group, choices in pack.groups.items()]
    about = manifest.read(pack.folder)[0].description
    return f"ready: {', '.join(counts) or 'no choices'}{f' - {about}' if about else ''}"


def _add(git: str, rev: str, alias: str) -> int:
    from largeforge.errors import PackError
    from largeforge.recipe.packs import address, fetch, lockfile, project

    here = Path.cwd()
    checks = (("URL", address.problem_of(git)), ("--rev", address.problem_of_rev(rev)),
              ("--as", project.problem_of_alias(alias)))  # fmt: skip
    for word, rule in checks:
        if rule:
            raise PackError(f"{word}: {rule}")
    _refuse_taken(alias)
    entry = project.Entry(alias, git, rev)
    pinned = fetch.resolve(entry, here)
    _refuse_unsound(entry, pinned)
    with project.locked(here):
        _refuse_taken(alias)
        pins = lockfile.read(here)
        project.add(here, entry)
        lockfile.write(here, {**pins, alias: pinned})
    print(f"added {alias} at {pinned.commit[:12]}; commit {project.NAME} and {lockfile.NAME} to git")
    return _list()


def _fetch() -> int:
    from largeforge.errors import PackError
    from largeforge.recipe.packs import fetch, lockfile, project

    here, failed = Path.cwd(), 0
    pins = lockfile.read(here)
    for entry in project.read(here):
        pinned = pins.get(entry.alias)
        try:
            if pinned is None or (pinned.git, pinned.rev) != (entry.git, entry.rev):
                raise PackError(f"is not pinned as {entry.where} asks: python -m largeforge packs update {entry.alias}")
            print(f"{entry.alias}: {'fetched' if fetch.restore(pinned, here) else 'is there'}, {pinned.commit[:12]}")
        except PackError as error:
            _complain(f"{entry.alias}: {error}")
            failed = max(failed, error.exit_code)
    return failed


def _update(names: list[str]) -> int:
    from largeforge.errors import PackError
    from largeforge.recipe.packs import fetch, lockfile, project

    here, failed = Path.cwd(), 0
    entries = {entry.alias: entry for entry in project.read(here)}
    for name in names:
        _require(name, list(entries))
    for alias, entry in entries.items():
        if names and alias not in names:
            continue
        try:
            pinned = fetch.resolve(entry, here)
            _refuse_unsound(entry, pinned)
        except PackError as error:
            _complain(f"{alias}: {error}")
            failed = max(failed, error.exit_code)
            continue
        with project.locked(here):
            pins = lockfile.read(here)
            before = pins.get(alias)
            wanted = {found.alias for found in project.read(here)}
            kept = {name: pin for name, pin in pins.items() if name in wanted}
            lockfile.write(here, {**kept, alias: pinned})
        moved = f"from {before.commit[:12]} " if before and before.commit != pinned.commit else ""
        print(f"{alias}: {moved}{'to' if moved else 'stays at'} {pinned.commit[:12]}")
    return failed


def _remove(name: str) -> int:
    from largeforge.recipe.packs import lockfile, project

    here = Path.cwd()
    with project.locked(here):
        _require(name, [entry.alias for entry in project.read(here)])
        pins = lockfile.read(here)
        project.remove(here, name)
        lockfile.write(here, {alias: pin for alias, pin in pins.items() if alias != name})
    print(f"removed {name}; its files stay in the cache")
    return 0


def _check(path: Path) -> int:
    from largeforge.errors import PackError, RecipeError
    from largeforge.recipe.packs import check

    if not path.is_dir():
        raise PackError(f"{path}: there is no such folder")
    problems = check.problems(path.resolve())
    if problems:
        raise RecipeError(problems)
    print(f"{path}: a sound pack")
    return 0


def _refuse_unsound(entry: Entry, pinned: object) -> None:
    """Raise PackError with what is wrong with a pack that was fetched, before anything is written down."""
    from largeforge.errors import PackError
    from largeforge.recipe.packs import cache, check
    from largeforge.recipe.packs.lockfile import Pinned

    assert isinstance(pinned, Pinned)
    problems = check.problems(cache.folder_of(pinned.sha256), alias=entry.alias, is_working_copy=False)
    if problems:
        root = f"{cache.folder_of(pinned.sha256)}/"
        lines = "\n".join(f"  - {str(problem).replace(root, '')}" for problem in problems)
        raise PackError(f"{entry.git} at {pinned.commit[:12]} is refused:\n{lines}")


def _refuse_taken(alias: str) -> None:
    from largeforge.errors import PackError
    from largeforge.recipe import sources
    from largeforge.recipe.packs import project

    if alias in {entry.alias for entry in project.read(Path.cwd())}:
        raise PackError(f"there is a pack {alias} already; choose another name, or: packs update {alias}")
    for group in sources.groups():
        taken = next((name for name in sources.own_choices(group) if name.startswith(f"{alias}/")), "")
        if taken:
            raise PackError(f"{alias}: your own {group} {taken} has this name; choose another one with --as")


def _require(name: str, known: list[str]) -> None:
    from largeforge.errors import PackError, listed, nearest

    if name not in known:
        hint = f" Did you mean '{nearest(name, known)}'?" if nearest(name, known) else ""
        raise PackError(f"there is no pack {name}; there is: {listed(known)}.{hint}")


def _complain(text: str) -> None:
    import sys

    print(f"error: {''.join(char if char.isprintable() else ' ' for char in text)}", file=sys.stderr)
