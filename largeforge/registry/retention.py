"""Delete versions: decided first and shown, carried out on another word, and never one that is in use.

In use is what an alias names, and what another version that stays was made from: an adapter needs its base. The
version goes first and its files after it, so that nobody sees half a one; its number is never given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.errors import RegistryError
from largeforge.recipe.model_ref import ModelRef
from largeforge.registry import audit, lookup, runs
from largeforge.registry.chain import children

if TYPE_CHECKING:
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import VersionSummary


@dataclass(frozen=True)
class Retention:
    """What would be deleted, and what stays for which reason."""

    doomed: list[VersionSummary]
    kept: list[tuple[VersionSummary, str]]


def plan(registry: ModelRegistry, name: str, *, keep: int) -> Retention:
    """Decide which versions of a model go: all but the newest `keep` and those in use.

    Raises RegistryError when there is no such model.
    """
    if keep < 0:
        raise RegistryError(f"--keep {keep}: give a number of versions, 0 or more")
    versions = registry.versions(name)
    if not versions:
        registry.find(ModelRef("registry", name))  # says what there is
    newest = {version.version for version in versions[len(versions) - keep :]} if keep else set()
    reasons = {version.version: _alias_of(version) for version in versions}
    reasons |= {number: f"one of the newest {keep}" for number in newest if not reasons[number]}
    while found := _needed(registry, versions, reasons):  # what stays may keep others
        reasons |= found
    doomed = [version for version in versions if not reasons[version.version]]
    return Retention(doomed, [(version, reasons[version.version]) for version in versions if reasons[version.version]])


def plan_one(registry: ModelRegistry, ref: ModelRef) -> Retention:
    """Decide whether one version may go.

    Raises RegistryError when it is in use.
    """
    version = registry.find(ref)
    reason = _alias_of(version) or next(
        (f"{child.reference} was made from it" for child in children(registry, version)), ""
    )
    if reason:
        hint = "Move the alias or delete what needs it first."
        raise RegistryError(f"{version.reference} is not deleted: {reason}. {hint}")
    return Retention([version], [])


def delete(registry: ModelRegistry, version: VersionSummary, *, why: str) -> None:
    """Delete a version and its files.

    Raises RegistryError when it got an alias meanwhile.
    """
    number = str(version.version)
    with registry.database.writing() as client:
        with audit.turn(registry.database, client, version.name) as turn:
            now = lookup.one(client, registry.database, ModelRef("registry", version.name, number, is_version=True))
            if now.aliases:
                raise RegistryError(f"{version.reference} is not deleted: {_alias_of(now)}")
            turn.begin("delete", now, why=why)
            client.update_run(now.run_id, status="RUNNING")  # what is killed from here on is cleared away later
            client.delete_model_version(now.name, number)
        runs.discard(client, registry.storage, now.run_id, now.seal or now.digest)


def _alias_of(version: VersionSummary) -> str:
    return f"it is @{', @'.join(version.aliases)}" if version.aliases else ""


def _needed(registry: ModelRegistry, versions: list[VersionSummary], reasons: dict[int, str]) -> dict[int, str]:
    """Return the versions without a reason yet that something was made from which stays."""
    found = {}
    for version in (version for version in versions if not reasons[version.version]):
        for child in children(registry, version):
            if child.name != version.name or reasons.get(child.version):
                found[version.version] = f"{child.reference} was made from it"
                break
    return found
