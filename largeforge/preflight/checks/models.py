"""Models that are folders of this machine are there and hold weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import LargeForgeError
from largeforge.preflight import needs
from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Look into each folder that a `path:` or `run:` reference names."""
    from largeforge.stages.models import checked_folder

    refs = [ref for ref in needs.references(context) if ref.scheme in ("path", "run")]
    if not refs:
        yield skipped("no model is a folder of this machine")
    for ref in refs:
        folder = Path(ref.target).expanduser()
        folder = folder / ref.selector / "out" if ref.scheme == "run" else folder
        try:
            checked_folder(folder)
        except LargeForgeError as fault:
            yield error(str(fault), f"ls {folder}; or choose another model with its ref (path:FOLDER, hub:NAME)")
        else:
            yield ok(str(folder))
