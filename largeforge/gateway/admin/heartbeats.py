"""When controllers looked at their rollouts last: a small file beside that of the state, written every few seconds."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from largeforge.gateway.admin.rollout_view import Moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMES = TypeAdapter(dict[str, Moment])


def path_of(state: Path) -> Path:
    """Return the file beside that of a state."""
    return state.with_suffix(".seen.json")


def read(state: Path) -> dict[str, float]:
    """Return when controllers looked last, by expert; what cannot be read was not told."""
    with suppress(OSError, ValidationError):
        return _TIMES.validate_json(path_of(state).read_bytes())
    return {}


def write(state: Path, times: Mapping[str, float]) -> None:
    """Write it whole, without waiting for the disk: what is lost with the power is told again in seconds."""
    path = path_of(state)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(_TIMES.dump_json(dict(times)))
    temporary.replace(path)
