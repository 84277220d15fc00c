"""What a worker tells of itself, and what those of all workers are together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from largeforge import __version__
from largeforge.gateway.monitor import objectives
from largeforge.gateway.monitor.history import SECONDS, WINDOW_S
from largeforge.gateway.monitor.reading import Counts, Reading

if TYPE_CHECKING:
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.live import Live
    from largeforge.gateway.monitor.history import History

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_STATES = ("up", "unknown", "down")
_BREAKERS = ("closed", "half-open", "open")
"""From well to worse."""

Rollouts = Callable[[], Sequence[Mapping[str, Any]]]
"""Returns the rollouts, as `rollouts.shown` makes them."""


def told(live: Live, history: History, *, in_flight: int) -> bytes:
    """Return what this worker knows that others do not."""
    window_s, lately = history.window()
    return orjson.dumps(
        {
            "started": history.started,
            "in_flight": in_flight,
            "queued": {name: live.waiting.length(name) for name in live.now.targets},
            "servers": {
                name: {
                    replica.url: [replica.backend.state, replica.backend.breaker.state, replica.backend.reason]
                    for replica in target.replicas
                }
                for name, target in live.now.targets.items()
            },
            "seconds": [list(second) for second in history.seconds],
            "window_s": window_s,
            "lately": lately.as_json(),
            "total": history.total().as_json(),
        }
    )


def document(
    parts: Sequence[bytes],
    live: Live,
    state: State,
    *,
    bounds: Mapping[str, list[float]],
    rollouts: Sequence[Mapping[str, Any]],
    now: float,
) -> dict[str, Any]:
    """Return what the page shows, of the parts of all workers."""
    given = [orjson.loads(part) for part in parts]
    lately, total = _sum(given, "lately"), _sum(given, "total")
    window_s = max(one["window_s"] for one in given)
    return {
        "object": "monitor",
        "version": __version__,
        "now": now,
        "started": min(one["started"] for one in given),
        "workers": {"answered": len(given), "all": live.now.file.gateway.workers},
        "mode": state.in_force,
        "reason": state.reason,
        "isolated_tenants": len(state.tenants),
        "in_flight": sum(one["in_flight"] for one in given),
        "queued": sum(sum(one["queued"].values()) for one in given),
        "history": _history(given),
        "window_s": round(window_s, 1),
        "window_target_s": WINDOW_S,
        "experts": _experts(given, live, state, lately, window_s, bounds),
        "objectives": list(
            objectives.kept(live.now.file.gateway.slo.objectives, lately=lately, total=total, bounds=bounds)
        ),
        "quality": _quality(total),
        "rollouts": list(rollouts),
    }


def _sum(given: Sequence[Mapping[str, Any]], key: str) -> Reading:
    found = Reading()
    for one in given:
        found = found.plus(Reading.of_json(one[key]))
    return found


def _history(given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the last ten minutes by the second, the sums of all workers; a second that none has seen is 0."""
    seconds: dict[int, list[float]] = {}
    for one in given:
        for second, *numbers in one["seconds"]:
            before = seconds.get(second)
            seconds[second] = [a + b for a, b in zip(before, numbers, strict=True)] if before else numbers
    end = max(seconds, default=0)
    begin = max(min(seconds, default=0), end - SECONDS + 1)
    names = ("requests", "failed", "tokens", "in_flight", "queued")
    rows = [seconds.get(second, [0.0] * len(names)) for second in range(begin, end + 1)] if seconds else []
    return {"end": end, **{name: [row[place] for row in rows] for place, name in enumerate(names)}}


def _experts(
    given: Sequence[Mapping[str, Any]], live: Live, state: State, lately: Reading, window_s: float,
    bounds: Mapping[str, list[float]],
) -> list[dict[str, Any]]:  # fmt: skip
    found = []
    for name, target in live.now.targets.items():
        counts = lately.experts.get(name, Counts())
        found.append(
            {
                "name": name,
                "models": sorted({replica.model for replica in target.replicas}),
                "isolated": state.experts.get(name),
                "queued": sum(one["queued"].get(name, 0) for one in given),
                "requests_per_s": counts.requests / window_s,
                "failed_per_s": counts.failed / window_s,
                "tokens_per_s": counts.completion / window_s,
                "requests": counts.requests,
                **{
                    kind: {
                        name: objectives.quantile(share, getattr(counts, kind), bounds[kind])
                        for name, share in PERCENTILES.items()
                    }
                    for kind in ("duration", "ttft", "inter_token")
                },
                "replicas": [
                    {
                        "url": replica.url,
                        **_worst([one["servers"].get(name, {}).get(replica.url) for one in given]),
                        "load": replica.backend.load,
                        "limit": replica.backend.limit,
                        "drained": state.drained.get(replica.url),
                    }
                    for replica in target.replicas
                ],
            }
        )
    return found


def _worst(said: Sequence[Sequence[str] | None]) -> dict[str, str]:
    """Return how a server is as the worker sees it that it is worst for."""
    seen = [one for one in said if one] or [["unknown", "closed", ""]]
    state, _, reason = max(seen, key=lambda one: _STATES.index(one[0]))
    return {"state": state, "reason": reason, "breaker": max((one[1] for one in seen), key=_BREAKERS.index)}


def _quality(total: Reading) -> list[dict[str, Any]]:
    return [
        {"expert": name, "signal": signal, "good": good, "bad": bad, "share": good / (good + bad)}
        for name, counts in sorted(total.experts.items())
        for signal, (good, bad) in sorted(counts.quality.items())
        if good + bad
    ]
