"""The folders that a run writes to exist or can be made, and this user may write there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.os_errors import explain_os_error
from largeforge.preflight import needs
from largeforge.preflight.finding import Finding, error, ok

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Make and remove a file in each folder, or in the nearest one above that exists."""
    for purpose, folder, override in _folders(context):
        fault = fault_of(folder)
        if fault:
            yield error(f"{purpose}: {fault}", f"mkdir -p {folder} && sudo chown $USER {folder}; or {override}")
        else:
            yield ok(f"{purpose}: {folder}")


def _folders(context: Context) -> Iterator[tuple[str, Path, str]]:
    yield "runs", context.runs_root, "runs.root=FOLDER"
    for folder in needs.registry_folders(context):
        yield "registry", folder, "registry.uri=sqlite:////FOLDER/mlflow.db registry.artifacts=/FOLDER/artifacts"
    if needs.missing_hub_models(context):
        yield "model cache", context.hub_cache, "export HF_HOME=FOLDER"
    yield "temporary files", Path(tempfile.gettempdir()), "export TMPDIR=FOLDER"


def fault_of(folder: Path) -> str:
    """Return why nothing can be written in a folder, or an empty string; a missing one counts as its parent."""
    try:
        above = needs.nearest_existing(folder)
        descriptor, name = tempfile.mkstemp(prefix=".largeforge-", dir=above)
        os.close(descriptor)
        Path(name).unlink()
    except OSError as fault:
        place = Path(str(fault.filename)) if fault.filename else folder
        return explain_os_error(fault, place.parent if place.name.startswith(".largeforge-") else place)
    return ""
