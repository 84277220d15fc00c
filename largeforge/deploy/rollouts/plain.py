"""Rollouts as plain data for programs: where each is, what was decided, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Document, Group


def as_dict(document: Document) -> dict[str, Any]:
    """Return a rollout as plain data."""
    return {
        "id": document.id, "by": document.by, "recipe": document.target.recipe, "ended": document.ended,
        "reasons": list(document.reasons), "seen": document.seen,
        "servers": [_server(group) for group in document.groups],
    }  # fmt: skip


def _server(group: Group) -> dict[str, Any]:
    state = group.state
    return {
        "server": group.server, "experts": list(group.experts), "strategy": group.settings.strategy,
        "phase": group.phase, "share": group.share, "shadow": group.shadow, "steps": list(group.settings.shares),
        "models": {name: {"old": one.old, "new": one.new} for name, one in group.changes.items()},
        "observed": state.watch.whole.as_json() if state else {},
        "log": [
            {
                "time": entry.time, "action": entry.action, "share": entry.share, "reasons": list(entry.reasons),
                "verdicts": dict(entry.verdicts),
            }
            for entry in (state.log if state else ())
        ],
    }  # fmt: skip
