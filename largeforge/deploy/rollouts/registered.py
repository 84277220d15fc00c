"""What the end of a rollout means in the registry of models, for those that are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from largeforge.errors import LargeForgeError

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Change, Document, Group
    from largeforge.recipe.schema import Registry

MAX_WHY = 1500


def settle(document: Document, settings: Registry, deployment: str, *, report: Callable[[str, str], None]) -> None:
    """Move aliases as the end of a rollout wants it. What cannot be moved is reported: servers are right already."""
    for group in document.groups:
        for expert in group.judged:
            change = group.changes[expert]
            try:
                if said := _settle(document, group, change, settings, deployment):
                    report("", said)
            except LargeForgeError as error:
                report("", f"{expert}: its alias stays as it is: {error}")


def _settle(document: Document, group: Group, change: Change, settings: Registry, deployment: str) -> str:
    """Return what was done, in words; empty for a model that is not registered."""
    is_registered = change.new.startswith("registry:") or (change.alias and change.lock)
    if not is_registered or not change.is_one:
        return ""
    from largeforge.registry import ModelRegistry, rollouts  # MLflow takes its time

    registry = ModelRegistry(settings)
    version = rollouts.version_of(registry, change.new, named=change.alias, lock=change.lock)
    if version is None:
        return ""
    reasons = "; ".join(document.reasons) or "by command"
    verb = "promoted" if document.ended == "promoted" else "sent back"
    why = f"{verb} by rollout {document.id} of {deployment}: {reasons}"[:MAX_WHY]
    if document.ended == "promoted":
        return rollouts.promoted(registry, version, alias=group.settings.alias, why=why)
    return rollouts.sent_back(registry, version, named=change.alias, why=why)
