"""The chain of a version: from data and base over adapter and merge to what is quantized, as versions name parents.

A parent that is a version of this registry is followed. A number can mean another model in another registry, so
where the digest of the parent's files was recorded it decides: a version that was imported finds its parents by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from largeforge.registry import lookup

if TYPE_CHECKING:
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import VersionSummary

_ROLES = {"quantize": "quantized", "merge": "merged", "init": "base"}
"""Kind of the stage that made a version to what it is in a chain."""


@dataclass(frozen=True)
class Link:
    """A version, or what is no version of this registry, with what it was made from."""

    reference: str
    role: str
    """base, adapter, model, merged or quantized; or `outside`."""
    version: VersionSummary | None = None
    note: str = ""
    """Why a parent is not followed."""
    parents: list[Link] = field(default_factory=list)


def chain(registry: ModelRegistry, version: VersionSummary) -> Link:
    """Return a version with all that it was made from."""
    with registry.database.reading() as client:
        return _link(version, lookup.summaries(client, ""), ())


def children(registry: ModelRegistry, version: VersionSummary) -> list[VersionSummary]:
    """Return the versions that name this one as a parent."""
    with registry.database.reading() as client:
        known = lookup.summaries(client, "")
    return [each for each in known if any(_parent(each, text, known) == version for text in each.lineage.parents)]


def role(version: VersionSummary) -> str:
    """Return what a version is in a chain."""
    kind = version.lineage.stage.rpartition(".")[2]
    usual = "adapter" if version.kind == "adapter" else "model" if version.lineage.parents else "base"
    return _ROLES.get(kind, usual)


def _link(version: VersionSummary, known: list[VersionSummary], above: tuple[str, ...]) -> Link:
    path = (*above, version.reference)
    parents = [_of(version, text, known, path) for text in version.lineage.parents]
    return Link(version.reference, role(version), version, parents=parents)


def _of(version: VersionSummary, text: str, known: list[VersionSummary], path: tuple[str, ...]) -> Link:
    parent = _parent(version, text, known)
    if parent is None:
        told = "not in this registry" if text.startswith("registry:") else ""
        return Link(text, "outside", note=told)
    if parent.reference in path:
        return Link(parent.reference, role(parent), parent, note="named above: the chain goes round in a circle")
    found = _link(parent, known, path)
    return (
        found if parent.reference == text else Link(text, found.role, parent, f"here {parent.reference}", found.parents)
    )


def _parent(version: VersionSummary, text: str, known: list[VersionSummary]) -> VersionSummary | None:
    digest = version.lineage.parent_digests.get(text)
    named = [each for each in known if each.reference == text and digest in (None, each.digest)]
    same = [each for each in known if digest and each.digest == digest]
    return next(iter([*named, *same]), None)
