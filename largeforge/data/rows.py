"""Read the normalised rows that the prepare stage wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a prepared file."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
