"""Checkpoints that can be trusted: sealed with hashes after each save, verified before use.

transformers neither saves atomically nor notices a missing optimizer state or a flipped byte,
and continues silently with other numbers. A checkpoint counts only once it has its manifest.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from largeforge.artifacts import Manifest as _Manifest
from largeforge.artifacts import hash_folder, is_intact, write_json

if TYPE_CHECKING:
    from pathlib import Path

SEAL = "largeforge-checkpoint.json"


def seal(checkpoint: Path) -> None:
    """Record the hashes of a checkpoint that was saved completely."""
    write_json(checkpoint / SEAL, hash_folder(checkpoint))


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint below `folder` that is sealed and intact, or None."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _step(path.name))]
    return next((path for _, path in sorted(found, reverse=True) if _trusted(path)), None)


def _step(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"checkpoint-(\d+)", name)


def _trusted(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return is_intact(_Manifest("", "", "", "", files=files), checkpoint)
