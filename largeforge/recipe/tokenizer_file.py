"""Find the `tokenizer.json` of a model on this machine; nothing is downloaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.recipe import hub, model_ref, registered
from largeforge.recipe.hub import NotFound

if TYPE_CHECKING:
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Registry


def tokenizer_file(reference: str, registry: Registry) -> Path | None:
    """Return the tokenizer of a model reference: of a folder, a run, a local registry or the hub's cache.

    None for one that is not here, and for `job:` and `tiny:`, whose tokenizer is not made yet.
    """
    folder = _folder(model_ref.parse(reference), registry)
    path = folder / "tokenizer.json" if folder else None
    return path if path is not None and path.is_file() else None


def _folder(ref: ModelRef, registry: Registry) -> Path | None:
    if ref.scheme == "path":
        return Path(ref.target).expanduser()
    if ref.scheme == "run":
        return Path(ref.target).expanduser() / ref.selector / "out"
    with suppress(NotFound):
        if ref.scheme == "registry":
            return registered.folder(ref, registry)
        if ref.scheme == "hub":
            return hub.snapshot(ref)
    return None
