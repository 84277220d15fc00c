"""What an autoscaler writes down on hosts, and what another one reads of it. Pure.

What cannot be read does not count: windows begin anew then, and weeks that were seen are forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from largeforge.autoscale import State

VERSION = 1


def as_json(states: Mapping[str, State], now: float) -> dict[str, Any]:
    """Return the states of experts for JSON."""
    return {"version": VERSION, "time": now, "experts": {name: state.as_json() for name, state in states.items()}}


def read(texts: Mapping[str, str]) -> tuple[dict[str, State], list[str]]:
    """Return the newest states of experts that hosts have, and what is to be told of hosts whose file is damaged."""
    newest, states, damaged = float("-inf"), dict[str, State](), []
    for host, text in texts.items():
        if not text.strip():
            continue
        try:
            time, found = _read(text)
        except ValueError as error:
            reason = " ".join(str(error).split())
            damaged.append(f"{host}: what was written down there is damaged, and is begun anew: {reason}")
            continue
        if time > newest:
            newest, states = time, found
    return states, damaged


def _read(text: str) -> tuple[float, dict[str, State]]:
    found = json.loads(text)
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise ValueError(f"it has version {version!r}; {VERSION} is understood")
    experts, time = found.get("experts"), found.get("time")
    if not isinstance(experts, dict) or not isinstance(time, int | float):
        raise ValueError("it is incomplete")
    return time, {name: State.from_json(one) for name, one in experts.items()}
