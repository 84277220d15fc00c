"""What a rollout means for registered versions: an alias goes on or comes back, and the audit trail says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe import model_ref
from largeforge.recipe.model_ref import ModelRef
from largeforge.registry import audit, lookup
from largeforge.registry.promotion import demote, promote

if TYPE_CHECKING:
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import VersionSummary

ACTION = "rollout"


def version_of(registry: ModelRegistry, reference: str, *, named: str = "", lock: str = "") -> VersionSummary | None:
    """Return the version that an expert serves: the one that is referred to, or the one that `named` (NAME@ALIAS) means
    if it was made by the run of this lock; None where it is not registered.

    Raises RegistryError when the registry cannot be read, or has it no more.
    """
    ref = model_ref.parse(reference) if ":" in reference else None
    if ref and ref.scheme == "registry":
        return registry.find(ref)
    if not named or not lock:
        return None
    found = registry.find(model_ref.parse(f"registry:{named}"))
    return found if found.lock == lock else None


def promoted(registry: ModelRegistry, version: VersionSummary, *, alias: str, why: str) -> str:
    """Give a version an alias, or only write down that it was promoted; return what was done, in words.

    Raises GateError when its gates did not pass, and RegistryError.
    """
    if not alias:
        _write_down(registry, version, why)
        return f"{version.reference} is promoted"
    moved = promote(registry, ModelRef("registry", version.name, str(version.version), True), alias=alias, why=why)
    if not moved.changed:
        _write_down(registry, version, why)
    return f"{version.name}@{alias} is version {version.version}"


def sent_back(registry: ModelRegistry, version: VersionSummary, *, named: str, why: str) -> str:
    """Give an alias (`named`, NAME@ALIAS) that this version has back to the one before; return what was done, in words.

    Raises RegistryError when there is none to go back to; that the version was sent back is written down then, too.
    """
    alias = named.partition("@")[2]
    if not alias or alias not in registry.find(ModelRef("registry", version.name, str(version.version), True)).aliases:
        _write_down(registry, version, why)
        return f"{version.reference} is sent back"
    try:
        moved = demote(registry, version.name, alias=alias, why=why)
    except BaseException:
        _write_down(registry, version, why)
        raise
    return f"{version.name}@{alias} is version {moved.version.version} again"


def history(registry: ModelRegistry, versions: list[VersionSummary]) -> list[audit.Entry]:
    """Return what became of versions, the first entry first."""
    found: list[audit.Entry] = []
    for name in sorted({version.name for version in versions}):
        numbers = {str(version.version) for version in versions if version.name == name}
        found += [entry for entry in registry.log(name) if numbers & {entry.version, entry.before}]
    return sorted(found, key=lambda entry: entry.when)


def _write_down(registry: ModelRegistry, version: VersionSummary, why: str) -> None:
    with registry.database.writing() as client:
        lookup.check_seal(client, version)
        with audit.turn(registry.database, client, version.name) as turn:
            turn.begin(ACTION, version, why=why[: audit.MAX_WHY])
