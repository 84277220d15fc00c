"""Registered models: look at them, promote, go back, compare, trace, verify, move and delete them.

A version is NAME (its champion), NAME@ALIAS or NAME/NUMBER. What a version is never changes; aliases, tags and notes
do, and every change of an alias, import and deletion stands in an audit trail that a team shares.

  python -m largeforge models                                     what is registered
  python -m largeforge models show support-bot@candidate
  python -m largeforge models diff support-bot support-bot@candidate
  python -m largeforge models promote support-bot@candidate --why "beats champion on all slices"
  python -m largeforge models demote support-bot --why "answers got slower"     back to the one before
  python -m largeforge models log support-bot                     who changed what, when and why
  python -m largeforge models trace support-bot                   data, base, adapter, merge; recipe and commit
  python -m largeforge models verify --all                        every byte against its hash
  python -m largeforge models export support-bot support-bot.tar
  python -m largeforge models import support-bot.tar --why "from the lab"
  python -m largeforge models delete support-bot --keep 3         says what would go; --yes --why TEXT deletes
  python -m largeforge models backup /mnt/backup                  and: models restore /mnt/backup
  python -m largeforge models push support-bot acme/support-bot   and: models pull acme/support-bot --as support-bot

registry.uri=… and registry.artifacts=… choose another registry than the local one, as in recipes:

  python -m largeforge models list registry.uri=http://mlflow.example:5000 registry.artifacts=cache

Exit codes: 0 done, 1 not found, damaged or different, 2 a wrong word, 3 gates stand against it. See docs/registry.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.catalog.words import Parser

if TYPE_CHECKING:
    from collections.abc import Callable

_REF = "NAME, NAME@ALIAS or NAME/NUMBER"
_HELP = {
    "VERSION": _REF, "A": _REF, "B": _REF, "NAME": "a registered model", "TARGET": "folder or file.tar to write",
    "SOURCE": "folder or file.tar", "FOLDER": "folder of the backups", "REPO": "repository on the hub",
}  # fmt: skip
_CHOOSE = "registry.uri=URI and registry.artifacts=FOLDER choose another registry than the local one."
_WHY = "the reason, for the audit trail"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    parser.set_defaults(settings=[])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, text: str, *positionals: str, json: bool = False) -> argparse.ArgumentParser:
        about = f"{text[0].upper()}{text[1:]}."
        made = commands.add_parser(name, help=text, description=about, epilog=_CHOOSE, allow_abbrev=False)
        for positional in positionals:
            made.add_argument(positional.lower(), metavar=positional, help=_HELP[positional])
        if json:
            made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    listing = command("list", "show all versions, or those of one model", json=True)
    listing.add_argument("name", nargs="?", default="", metavar="NAME", help="only this model")
    command("show", "show all that is known of a version", "VERSION", json=True)
    promote = command("promote", "point an alias at a version; the one that it had becomes @previous", "VERSION")
    _alias(promote)
    _why(promote)
    promote.add_argument("--force", action="store_true", help="also when gates stand against it; the trail says so")
    demote = command("demote", "give an alias back to the version that had it before", "NAME")
    _alias(demote)
    _why(demote)
    note = command("note", "change the tags and notes of a version", "VERSION")
    note.add_argument("--notes", default="", metavar="TEXT", help="text for people; - for none")
    note.add_argument("--tag", action="append", default=[], metavar="KEY=TEXT", help="KEY= removes it; may be repeated")
    log = command("log", "show the audit trail of a model, or of all", json=True)
    log.add_argument("name", nargs="?", default="", metavar="NAME", help="only this model")
    command("diff", "compare two versions: lineage, data, metrics, gates, files, locks", "A", "B", json=True)
    trace = command("trace", "show what a version was made from, and how", "VERSION", json=True)
    trace.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")
    verify = command("verify", "hold files, record and lock of versions against their hashes", json=True)
    verify.add_argument("versions", nargs="*", metavar="VERSION", help=_REF)
    verify.add_argument("--all", action="store_true", help="every version there is")
    verify.add_argument("--quick", action="store_true", help="only whether all files are there with their sizes")
    _declare_moving(command)


def _declare_moving(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare what moves whole versions, or deletes them."""
    command("export", "write a verified version to a folder, or to a file that ends with .tar", "VERSION", "TARGET")
    take = command("import", "register what export wrote, after it was verified", "SOURCE")
    take.add_argument("--as", dest="name", default="", metavar="NAME", help="name here (default: as it was called)")
    take.add_argument("--alias", default="", metavar="ALIAS", help="alias to point at it (default: none)")
    _why(take)
    delete = command("delete", "delete a version, or all of a model but the newest and those in use", "VERSION")
    delete.add_argument("--keep", type=int, metavar="N", help="with NAME alone: how many of the newest versions stay")
    delete.add_argument("--yes", action="store_true", help="delete; without it only say what would go")
    delete.add_argument("--why", default="", metavar="TEXT", help=_WHY)
    backup = command("backup", "add a snapshot of the whole registry to a folder; only what is new is copied", "FOLDER")
    backup.add_argument("--check", action="store_true", help="only hold the last snapshot against its hashes")
    restore = command("restore", "bring a snapshot back, verified", "FOLDER")
    restore.add_argument("--at", default="", metavar="TIME", help="snapshot, or the beginning of its name (the last)")
    restore.add_argument("--replace", action="store_true", help="move a local registry that is there aside")
    push = command("push", "upload a version to the model hub (HF_ENDPOINT, HF_TOKEN)", "VERSION", "REPO")
    push.add_argument("--private", action="store_true", help="make the repository private when it is made")
    push.add_argument("--revision", default="main", metavar="BRANCH", help="branch to commit to (default: main)")
    push.add_argument("--why", default="", metavar="TEXT", help=f"{_WHY}, and the commit's message")
    pull = command("pull", "register a model of the hub as ORG/NAME or ORG/NAME@REVISION, verified", "REPO")
    pull.add_argument("--as", dest="name", required=True, metavar="NAME", help="name here")
    pull.add_argument("--alias", default="", metavar="ALIAS", help="alias to point at it (default: none)")
    pull.add_argument("--why", default="", metavar="TEXT", help=_WHY)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one subcommand; without one, list the models."""
    from largeforge.catalog import moving
    from largeforge.catalog.bar import watching
    from largeforge.catalog.words import settings
    from largeforge.registry import ModelRegistry

    name = arguments.command or "list"
    if not arguments.command:
        arguments.name, arguments.json = "", False
    chosen = settings(arguments.settings)
    with watching() as watch:
        registry = ModelRegistry(chosen, watch=watch)
        return {**_ACTIONS, **moving.ACTIONS}[name](registry, arguments)


def _alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alias", default="champion", metavar="ALIAS", help="alias to move (default: champion)")


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", required=True, metavar="TEXT", help=_WHY)


def _list(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import describe, tables
    from largeforge.recipe.model_ref import ModelRef

    models = [model for model in registry.list_models() if arguments.name in ("", model.name)]
    if arguments.name and not models:
        registry.find(ModelRef("registry", arguments.name))  # says what there is
    if arguments.json:
        return _print_json([describe.version(version) for model in models for version in model.versions])
    if not models:
        print(f"Nothing is registered in {registry.database}. A recipe with register_as registers what it makes.")
        return 0
    return _print(tables.listing(models))


def _show(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import describe, tables

    version = _find(registry, arguments.version)
    if arguments.json:
        return _print_json(describe.version(version))
    return _print(tables.sheet(version, version.source))


def _promote(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog.words import reference
    from largeforge.registry.promotion import promote

    moved = promote(
        registry, reference(arguments.version), alias=arguments.alias, why=arguments.why, force=arguments.force
    )
    return _told(moved)


def _demote(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.registry.promotion import demote

    name = arguments.name.removeprefix("registry:")
    return _told(demote(registry, name, alias=arguments.alias, why=arguments.why))


def _told(moved: Any) -> int:
    version, alias = moved.version, moved.alias
    if not moved.changed:
        print(f"{version.reference} is @{alias} already; nothing was changed")
        return 0
    before = "it was on none" if moved.before is None else f"it was on version {moved.before}"
    print(f"{version.name}@{alias} is version {version.version} now; {before}")
    if moved.forced:
        print(f"forced, and so it stands in the audit trail: {moved.forced}")
    return 0


def _note(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import tables
    from largeforge.errors import RecipeError

    tags = {}
    for word in arguments.tag:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise RecipeError(f"--tag {word}: give KEY=TEXT, or KEY= to remove it")
        tags[key] = text
    notes = None if not arguments.notes else "" if arguments.notes == "-" else arguments.notes
    if not tags and notes is None:
        raise RecipeError("nothing to change: give --notes TEXT or --tag KEY=TEXT")
    version = registry.annotate(_find(registry, arguments.version), tags=tags, notes=notes)
    return _print(tables.sheet(version, version.source))


def _log(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import describe, tables
    from largeforge.recipe.model_ref import ModelRef

    name = arguments.name.removeprefix("registry:")
    entries = registry.log(name)
    if name and not entries:
        registry.find(ModelRef("registry", name))
    if arguments.json:
        return _print_json([describe.entry(entry) for entry in entries])
    if not entries:
        print("The audit trail is empty.")
        return 0
    return _print(tables.log(entries))


def _diff(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import tables
    from largeforge.catalog.comparing import as_dict, difference
    from largeforge.errors import LargeForgeError

    try:
        found = difference(registry, _find(registry, arguments.a), _find(registry, arguments.b))
    except LargeForgeError as error:
        error.exit_code = 2
        raise
    _print_json(as_dict(found)) if arguments.json else _print(tables.difference(found))
    return 0 if found.same else 1


def _trace(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog import describe, tables, tracing
    from largeforge.registry.chain import chain

    version = _find(registry, arguments.version)
    link = chain(registry, version)
    places = tracing.Places(Path(arguments.runs).expanduser(), registry)
    found = tracing.trace(version.reference, places) if version.lock else None
    if arguments.json:
        return _print_json({"chain": describe.link(link), "trace": tracing.as_dict(found) if found else None})
    return _print(tables.trace(found) if found else tables.chains(link))


def _verify(registry: Any, arguments: argparse.Namespace) -> int:
    from largeforge.catalog.verifying import verify
    from largeforge.errors import RecipeError

    if arguments.all == bool(arguments.versions):
        raise RecipeError("give versions to verify, or --all")
    versions = [_find(registry, text) for text in arguments.versions]
    if arguments.all:
        versions = [version for model in registry.list_models() for version in model.versions]
    return verify(registry, versions, quick=arguments.quick, as_json=arguments.json)


def _find(registry: Any, text: str) -> Any:
    from largeforge.catalog.words import reference

    return registry.find(reference(text))


def _print(shown: Any) -> int:
    from largeforge.catalog import tables

    tables.console().print(shown, highlight=False, crop=False)
    return 0


def _print_json(found: Any) -> int:
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


_ACTIONS = {
    "list": _list, "show": _show, "promote": _promote, "demote": _demote, "note": _note, "log": _log, "diff": _diff,
    "trace": _trace, "verify": _verify,
}  # fmt: skip
