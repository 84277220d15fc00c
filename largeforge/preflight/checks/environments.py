"""The environments of pinned packages that the plan needs are built, or can be built."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from largeforge.environments import spec, store
from largeforge.errors import BuildError
from largeforge.preflight import needs
from largeforge.preflight.finding import Finding, error, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

_NEEDED_MIB = 300
"""An environment takes up to 100 MiB here, and as much again while pip unpacks it."""
_INDEX = "https://pypi.org/simple/"


def check(context: Context) -> Iterator[Finding]:
    """Look for built environments; for those to be built, at pip, the disk and the package index."""
    wanted = _wanted(context)
    if not wanted:
        yield skipped("no environment of pinned packages is needed")
        return
    try:
        missing = [one for one in wanted if store.find(one, spec.running()) is None]
    except BuildError as fault:
        yield error(str(fault), "export XDG_CACHE_HOME=/a/folder")
        return
    names = ", ".join(one.name for one in missing)
    if not missing:
        yield ok(f"{', '.join(one.name for one in wanted)}: built")
        return
    if find_spec("pip") is None:
        yield error(f"{names} cannot be built: there is no pip", "python -m ensurepip")
        return
    folder = needs.nearest_existing(store.root())
    free_mib = shutil.disk_usage(folder).free / 2**20
    if free_mib < _NEEDED_MIB * len(missing):
        yield error(
            f"{names}: {free_mib:.0f} MiB free at {folder}, {_NEEDED_MIB} MiB needed for each", "make room there"
        )
        return
    yield from _index(context, names)


def _wanted(context: Context) -> list[spec.Spec]:
    """Return the environments that pending stages need, each once."""
    found = {
        name: spec.Spec(name, tuple(pins))
        for stage in context.pending
        if stage.kind == "quantize"
        for name, pins in stage.config["environments"].items()
    }
    if context.recipe is not None and context.pending and (pins := context.recipe.environment.requirements):
        found[context.recipe.environment.name] = spec.Spec(context.recipe.environment.name, tuple(pins))
    return list(found.values())


def _index(context: Context, names: str) -> Iterator[Finding]:
    """Ask the package index, unless pip is told to use none; pip's own files may name another one."""
    from largeforge.preflight.web import without_password

    url = context.environ.get("PIP_INDEX_URL", _INDEX)
    if context.environ.get("PIP_NO_INDEX") or not url.startswith(("http://", "https://")):
        yield ok(f"{names}: will be built")
        return
    reply = context.web.get(url)
    if reply.status and reply.status < 500:
        yield ok(f"{names}: will be built from {without_password(url)}")
    else:
        fault = reply.fault or f"answers {reply.status}"
        cure = "python -m largeforge environments build, where there is a network; or PIP_INDEX_URL=…, PIP_FIND_LINKS=…"
        yield warning(f"{names} must be built, and {without_password(url)} cannot be reached: {fault}", cure)
