"""Promote a version and go back: an alias moves, what it had is kept, and the audit trail says why.

A version whose gates did not all pass, or that was never held against the gates of its recipe, is refused; who
insists leaves that in the trail. Its files are looked at first: a damaged version is promoted by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.errors import GateError, RegistryError
from largeforge.recipe.model_ref import ModelRef
from largeforge.registry import aliases, audit, lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import VersionSummary


@dataclass(frozen=True)
class Moved:
    """What became of an alias."""

    version: VersionSummary
    alias: str
    before: int | None
    """Version that it had; None for none."""
    forced: str = ""
    """What stood against it and was overruled."""

    @property
    def changed(self) -> bool:
        """Whether it has another version than before."""
        return self.before != self.version.version


def promote(registry: ModelRegistry, ref: ModelRef, *, alias: str, why: str, force: bool = False) -> Moved:
    """Point `alias` at a version.

    Raises GateError when its gates did not pass and nobody insists, RegistryError when it is missing or damaged.
    """
    _check(alias, why)
    version = registry.find(ref)
    against = objection(version, registry.lock(version))
    if against and not force:
        raise GateError(
            f"{version.reference} is not promoted: {against}. Look at it with: python -m largeforge models show "
            f"{version.name}/{version.version}; to promote it all the same, say why: --force --why TEXT"
        )
    with registry.database.writing() as client:
        lookup.check_seal(client, version)
        registry.storage.check(client, version)
        with audit.turn(registry.database, client, version.name) as turn:
            before = lookup.held(client, version.name).get(alias)
            aliases.forward(
                client, turn, "promote", version, alias, before=before, why=why, forced=against if force else ""
            )
    return Moved(version, alias, before, against if force else "")


def demote(registry: ModelRegistry, name: str, *, alias: str, why: str) -> Moved:
    """Give `alias` back to the version that had it before.

    Raises RegistryError when there is none.
    """
    _check(alias, why)
    registry.find(ModelRef("registry", name, alias))
    with registry.database.writing() as client, audit.turn(registry.database, client, name) as turn:
        known = {version.version: version for version in lookup.summaries(client, name)}
        held = lookup.held(client, name)
        before, kept = held.get(alias), held.get(aliases.previous_of(alias))
        had = aliases.earlier(audit.entries(client, name), alias, versions=known)
        back_to = [number for number in _backwards(had, kept) if number != before]
        if before is None or not back_to:
            rule = f"there is no version that {name}@{alias} had before version {before}"
            raise RegistryError(f"{rule}; choose one: python -m largeforge models promote {name}/N --alias {alias}")
        registry.storage.check(client, known[back_to[0]])
        earlier = back_to[1] if len(back_to) > 1 else None
        aliases.back(client, turn, alias, before=before, version=known[back_to[0]], earlier=earlier, why=why)
    return Moved(known[back_to[0]], alias, before)


def objection(version: VersionSummary, lock: Mapping[str, Any]) -> str:
    """Return what stands against a version as far as gates go; empty when nothing does."""
    refused = [gate for gate in version.lineage.gates if not gate.passed]
    if refused:
        told = (f"{gate.metric} is {gate.value}, must be {gate.condition}" for gate in refused)
        return f"not all of its gates passed: {'; '.join(told)}"
    judged = {gate.metric for gate in version.lineage.gates}
    missing = [metric for metric in gates_of(version, lock) if metric not in judged]
    return f"its recipe has gates that it was not held against: {', '.join(missing)}" if missing else ""


def gates_of(version: VersionSummary, lock: Mapping[str, Any]) -> list[str]:
    """Return the metrics that the recipe of a version has gates on, as its lock says."""
    recipe = lock.get("recipe") or {}
    job = version.lineage.stage.rpartition(".")[0]
    jobs = recipe.get("jobs") or {}
    section = jobs.get(job) if job else recipe
    gates = section.get("gates") if isinstance(section, dict) else None
    return [str(metric) for metric in gates] if isinstance(gates, dict) else []


def _check(alias: str, why: str) -> None:
    lookup.check_alias(alias, "--alias")
    if aliases.is_kept(alias):
        rule = "it is kept by promote and demote: what another alias had before"
        raise RegistryError(f"--alias = '{alias}': {rule}; choose another alias")
    if len(why) > audit.MAX_WHY:
        raise RegistryError(f"--why has {len(why)} characters; at most {audit.MAX_WHY}")


def _backwards(had: list[int], kept: int | None) -> list[int]:
    """Return what an alias had, the last one first; from the kept version on, where there is one."""
    if kept is None:
        return list(dict.fromkeys(had[::-1]))
    place = len(had) - 1 - had[::-1].index(kept) if kept in had else len(had)
    return list(dict.fromkeys([kept, *had[:place][::-1]]))
