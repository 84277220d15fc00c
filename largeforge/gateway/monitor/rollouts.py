"""Rollouts as the page shows them: what controllers told last, what is in force, and who looks after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.gateway.admin.rollout_view import share_in_force

if TYPE_CHECKING:
    from largeforge.gateway.admin.state import State


def shown(state: State, now: float) -> list[dict[str, Any]]:
    """Return all rollouts, the one that changed last first; before them canaries with a share that no controller told
    of."""
    alone = {expert for expert, share in state.canaries.items() if share > 0} | state.guarded.keys()
    told = sorted(state.rollouts, key=lambda expert: -state.rollouts[expert].changed)
    return [_shown(expert, state, now) for expert in (*sorted(alone - state.rollouts.keys()), *told)]


def _shown(expert: str, state: State, now: float) -> dict[str, Any]:
    common = {
        "expert": expert, "share": share_in_force(state, expert), "shadow": state.shadows.get(expert, 0.0),
        "guarded": state.guarded.get(expert),
    }  # fmt: skip
    view = state.rollouts.get(expert)
    if view is None:
        return {**common, "phase": None, "has_controller": False}
    return {
        **view.model_dump(mode="json", exclude={"share", "shadow", "log", "analysis"}),
        **common,
        "has_controller": view.phase != "running" or view.has_controller(now),
        "log": [entry.model_dump(mode="json") for entry in reversed(view.log)],
    }
