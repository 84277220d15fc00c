"""The folder of a quantized model: what the tool wrote, and everything else exactly as it was with the original.

Tools write files of their own versions: other tokenizers, other generation settings. Here only weights and the
`quantization_config` are the tool's; the rest is the original's, byte for byte, so that the two differ in nothing else.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import link_or_copy, write_json
from largeforge.errors import StageError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "quantization.json"
CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")
_OF_THE_ORIGINAL = ("README.md", "largeforge.json")
"""Files that speak of the original."""


def complete(original: Path, made: Path) -> None:
    """Make what a tool wrote into `made` a whole model.

    Raises StageError when the tool left no weights, or no configuration that says how they are quantized.
    """
    theirs = _read(made / CONFIG)
    if not theirs.get("quantization_config"):
        raise StageError(f"{made / CONFIG} has no quantization_config")
    kept = {path.name for path in made.iterdir() if is_weights(path)}
    for path in made.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in original.iterdir():
        if path.is_file() and path.name not in _OF_THE_ORIGINAL and (not kept or not is_weights(path)):
            shutil.copy2(path, made / path.name)
    write_json(made / CONFIG, {**_read(original / CONFIG), "quantization_config": theirs["quantization_config"]})
    if not weights_bytes(made):
        raise StageError(f"{made} has no weights")


def keep(original: Path, out: Path) -> None:
    """Make `out` the original itself, by links where the file system allows."""
    link_or_copy(original, out)


def weights_bytes(folder: Path) -> int:
    """Return the size of the weights on disk."""
    return sum(path.stat().st_size for path in folder.iterdir() if is_weights(path) and path.suffix != ".json")


def is_weights(path: Path) -> bool:
    """Whether a file holds weights or says where they are."""
    return path.name.endswith(_WEIGHTS)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StageError(f"{path} cannot be read: {error}") from error
