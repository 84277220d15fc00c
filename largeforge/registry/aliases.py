"""Move an alias, and keep what it had: `champion` has `previous`, any other alias `previous-<alias>`.

A move is made within a turn, after its entry in the audit trail was begun. The kept alias is moved first: whoever
is killed between leaves the alias where it was. Going back several times follows the trail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.registry.lookup import DEFAULT_ALIAS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from largeforge.registry.audit import Entry, Turn
    from largeforge.registry.records import VersionSummary

PREVIOUS = "previous"


def previous_of(alias: str) -> str:
    """Return the alias that keeps what another one had."""
    return PREVIOUS if alias == DEFAULT_ALIAS else f"{PREVIOUS}-{alias}"


def is_kept(alias: str) -> bool:
    """Whether an alias is one that is moved with another."""
    return alias == PREVIOUS or alias.startswith(f"{PREVIOUS}-")


def forward(
    client: Any, turn: Turn, action: str, version: VersionSummary, alias: str, *, before: int | None, **facts: str
) -> bool:
    """Point an alias at a version and keep the one that it had; return whether anything changed."""
    if before == version.version:
        return False
    turn.begin(action, version, alias=alias, before="" if before is None else str(before), **facts)
    if before is not None and not is_kept(alias):
        client.set_registered_model_alias(version.name, previous_of(alias), str(before))
    client.set_registered_model_alias(version.name, alias, str(version.version))
    return True


def back(
    client: Any, turn: Turn, alias: str, *, before: int, version: VersionSummary, earlier: int | None, **facts: str
) -> None:
    """Give an alias back to the version that had it; `earlier` is the one that may be gone back to after that."""
    turn.begin("demote", version, alias=alias, before=str(before), **facts)
    client.set_registered_model_alias(version.name, alias, str(version.version))
    if earlier is None:
        client.delete_registered_model_alias(version.name, previous_of(alias))
    else:
        client.set_registered_model_alias(version.name, previous_of(alias), str(earlier))


def earlier(trail: Sequence[Entry], alias: str, *, versions: Collection[int]) -> list[int]:
    """Return the versions that an alias had before the present one, the last one last, without those that are gone."""
    had: list[int] = []
    for entry in trail:
        if entry.alias != alias or entry.state not in ("done", "broken off") or not entry.before:
            continue
        if entry.action == "demote":
            while had and entry.version and had.pop() != int(entry.version):
                continue
        elif entry.before != entry.version:
            had.append(int(entry.before))
    return [number for number in had if number in versions]
