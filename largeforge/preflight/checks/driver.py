"""The GPU driver runs the CUDA version that torch was built for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

OLDEST_DRIVER = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
"""Oldest Linux driver for programs built with any minor version of a CUDA major version.

Source: CUDA Toolkit release notes, table "CUDA Toolkit and Minimum Required Driver Version for
CUDA Minor Version Compatibility".
"""


def check(context: Context) -> Iterator[Finding]:
    """Compare the driver with torch's build, both without starting torch."""
    built, version = torch_build()
    if context.recipe and context.recipe.environment.python:
        yield skipped("stages run in an interpreter of their own (environment.python)")
    elif not version:
        yield skipped("torch is not installed")
    elif context.wants_gpu and not built:
        yield error(f"the plan runs on a GPU, but torch {version} was built without CUDA", _reinstall(version))
    elif not context.gpus.driver:
        yield skipped(context.gpus.fault or "there is no GPU")
    elif not built:
        yield skipped(f"torch {version} was built without CUDA")
    else:
        yield _compared(context, built, version)


def torch_build() -> tuple[tuple[int, int] | None, str]:
    """Return the CUDA version that torch was built for (None without) and torch's version; empty if not installed."""
    spec = find_spec("torch")
    try:
        text = (Path(str(spec and spec.origin)).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None, ""
    version = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=]*= '(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(cuda[1]), int(cuda[2])) if cuda else None, version[1] if version else ""


def _compared(context: Context, built: tuple[int, int], version: str) -> Finding:
    driver = context.gpus.driver
    numbers = tuple(int(part) for part in re.findall(r"\d+", driver))
    oldest = OLDEST_DRIVER.get(built[0])
    enough = context.gpus.cuda >= built or (oldest is not None and numbers >= oldest)
    text = f"driver {driver}, torch {version} for CUDA {built[0]}.{built[1]}"
    if enough:
        return ok(text)
    wanted = f", which needs driver {'.'.join(f'{n:02}' for n in oldest)} or newer" if oldest else ""
    runs = f"; the driver runs CUDA up to {'.'.join(map(str, context.gpus.cuda))}" if context.gpus.cuda[0] else ""
    cure = "update the driver, or install a torch built for an older CUDA (https://pytorch.org/get-started/locally)"
    return error(text + wanted + runs, cure)


def _reinstall(version: str) -> str:
    return (
        f"pip install --force-reinstall torch=={version.partition('+')[0]} brings the build with CUDA; or hardware=cpu"
    )
