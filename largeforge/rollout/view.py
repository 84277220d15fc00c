"""What a controller tells gateways of a rollout: `rollouts` of `/admin/state`, cut to what they take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.recipe.sections.rollouts import Rollout
    from largeforge.rollout.state import Decision, State

MOST_CHARS, MOST_REASONS, MOST_LOGGED = 300, 20, 20
MOST_LOG_CHARS = 40_000
"""Of all reasons of the log together; older entries are left out before newer ones."""


def view(
    settings: Rollout, state: State, decision: Decision, now: float, *, release: tuple[str, str] = ("", ""),
    model: tuple[str, str] = ("", ""),
) -> dict[str, Any]:  # fmt: skip
    """Return a rollout as gateways show it; `release` and `model` are the old one and the new one.

    The first time, and whenever something happened, all of it is sent; `{"seen": now}` tells every few seconds that
    somebody looks.
    """
    return {
        "strategy": state.strategy, "phase": state.phase, "step": state.step, "steps": list(settings.shares),
        "share": state.share, "shadow": state.shadow,
        "started": state.started, "changed": max(state.changed, state.step_since), "seen": now,
        "release": _versions(release), "model": _versions(model),
        "reasons": _cut(decision.reasons), "log": _log(state),
        "analysis": settings.analysis.model_dump(mode="json"),
    }  # fmt: skip


def _log(state: State) -> list[dict[str, Any]]:
    """Return the newest entries, the last one last."""
    found: list[dict[str, Any]] = []
    left = MOST_LOG_CHARS
    for entry in reversed(state.log[-MOST_LOGGED:]):
        reasons = _cut(entry.reasons)
        left -= sum(map(len, reasons))
        if left < 0:
            break
        found.append(
            {
                "time": entry.time, "step": entry.step, "action": entry.action, "share": entry.share,
                "reasons": reasons, "verdicts": dict(entry.verdicts),
            }
        )  # fmt: skip
    return found[::-1]


def _cut(reasons: Sequence[str]) -> list[str]:
    kept = [one if len(one) <= MOST_CHARS else one[: MOST_CHARS - 1] + "…" for one in reasons]
    return (
        kept if len(kept) <= MOST_REASONS else [*kept[: MOST_REASONS - 1], f"and {len(kept) - MOST_REASONS + 1} more"]
    )


def _versions(pair: tuple[str, str]) -> dict[str, str]:
    return {"old": pair[0][:MOST_CHARS], "new": pair[1][:MOST_CHARS]}
