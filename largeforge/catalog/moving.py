"""What `models` does with whole versions: export, import, delete, backup, restore, push, pull."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.catalog.words import reference
from largeforge.errors import RecipeError, listed
from largeforge.os_errors import mebibytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.registry import ModelRegistry


def export(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Write a version to a folder or a tar file."""
    from largeforge.registry import bundle

    version, target = registry.find(reference(arguments.version)), Path(arguments.target).expanduser()
    bundle.export(registry, version, target)
    print(f"{version.reference} is in {target}, verified")
    return 0


def take(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Register what `export` wrote."""
    from largeforge.registry import bundle

    made = bundle.take(
        registry, Path(arguments.source).expanduser(), name=arguments.name, alias=arguments.alias, why=arguments.why
    )
    at = f", @{arguments.alias}" if arguments.alias else ""
    print(f"{made.reference}{at} was verified and registered; it was {made.lineage.origin}")
    return 0


def delete(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Say what would be deleted, and with --yes delete it."""
    from largeforge.registry import retention

    ref = reference(arguments.version)
    if ref.is_version == (arguments.keep is not None) or (ref.selector and not ref.is_version):
        raise RecipeError(f"{arguments.version}: give one version as NAME/NUMBER, or NAME and --keep N")
    if arguments.yes and not arguments.why:
        raise RecipeError("--yes deletes for good: say --why TEXT, for the audit trail")
    if ref.is_version:
        decided = retention.plan_one(registry, ref)
    else:
        decided = retention.plan(registry, ref.target, keep=arguments.keep)
    for version, reason in decided.kept:
        print(f"keep    {version.reference}  {reason}")
    for version in decided.doomed:
        print(f"{'delete ' if arguments.yes else 'would delete'} {version.reference}")
        if arguments.yes:
            retention.delete(registry, version, why=arguments.why)
    if not decided.doomed:
        print("There is nothing to delete.")
    elif not arguments.yes:
        print("Nothing was deleted; the same command with --yes --why TEXT deletes.")
    return 0


def backup(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Add a snapshot to a folder of backups, or hold the last one against its hashes."""
    from largeforge.registry import backup as backups
    from largeforge.registry.copying import Meter

    folder = Path(arguments.folder).expanduser().absolute()
    if arguments.check:
        snapshot = backups.read(folder)
        total = sum(entry.size for entry in snapshot.files)
        damaged = backups.check(folder, snapshot, Meter(registry.watch, f"verifying {folder.name}", total))
        count = sum(map(len, snapshot.models.values()))
        print(f"snapshot {snapshot.time}: {count} versions, {'damaged' if damaged else 'every file verified'}")
        return _named(damaged)
    report = backups.backup(registry, folder)
    new = f"{report.copied} new files, {mebibytes(report.copied_bytes)}"
    print(f"snapshot {report.snapshot} of {registry.database} in {folder}: {report.versions} versions, {new}")
    return _named(report.damaged)


def restore(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Bring a snapshot back."""
    from largeforge.registry import backup as backups
    from largeforge.registry import restoring

    folder = Path(arguments.folder).expanduser().absolute()
    snapshot = backups.read(folder, arguments.at)
    done = restoring.restore(registry, folder, snapshot, replace=arguments.replace)
    print(f"{done.versions} versions of {snapshot.source} at {snapshot.time} are in {registry.database}, verified")
    if done.aside:
        print(f"what was there before: {listed(done.aside)}")
    return 0


def push(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Upload a version to the model hub."""
    from largeforge.registry import hub

    version = registry.find(reference(arguments.version))
    pushed = hub.push(
        registry, version, arguments.repo, private=arguments.private, revision=arguments.revision, why=arguments.why
    )
    print(f"{version.reference} is at {pushed.address}, commit {pushed.commit}; every file verified there")
    return 0


def pull(registry: ModelRegistry, arguments: argparse.Namespace) -> int:
    """Register a model of the hub."""
    from largeforge.registry import hub

    repo, _, revision = arguments.repo.removeprefix("hub:").partition("@")
    made = hub.pull(registry, repo, revision, name=arguments.name, alias=arguments.alias, why=arguments.why)
    print(f"{made.reference} was verified and registered; it is {made.lineage.origin}")
    return 0


def _named(damaged: list[str]) -> int:
    for fault in damaged:
        print(f"damaged: {fault}")
    return 1 if damaged else 0


ACTIONS: dict[str, Callable[[Any, argparse.Namespace], int]] = {
    "export": export, "import": take, "delete": delete, "backup": backup, "restore": restore, "push": push,
    "pull": pull,
}  # fmt: skip
"""Subcommand to what carries it out."""
