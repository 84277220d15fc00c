"""Quantize in this process: `python -m largeforge.quantizers SPEC.json`, by the interpreter of the tool's environment.

SPEC: name, config, job (model, out, device, rows), expected and own (packages with versions), folder (of the
environment). Events go to standard output; the last is `result` (seconds, peaks of memory, versions) or `failed`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import events
from largeforge.errors import LargeForgeError
from largeforge.quantizers import _imported, _progress
from largeforge.recipe import extensions
from largeforge.recipe.quantization import QuantizingJob
from largeforge.signals import leave

if TYPE_CHECKING:
    from largeforge.events import Events

_LEFT_OUT = ("deepspeed", "mlflow", "sklearn", "vllm", "wandb")
"""Packages that transformers and accelerate import wherever they are installed: seconds of a start."""


def main(arguments: list[str]) -> int:
    """Quantize as a spec file says; return the exit code."""
    stream = events.take_stdout()
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    told = events.Events(spec["stage"], stream)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in _LEFT_OUT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what Python's own import takes for "not there"
    try:
        told.emit("result", metrics={}, info=_run(spec, told))
    except LargeForgeError as error:
        told.emit("failed", error=str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        told.emit("failed", error=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _run(spec: dict[str, Any], told: Events) -> dict[str, Any]:
    module = extensions.load("quantization", spec["name"])
    _progress.report(told)
    started = time.monotonic()
    job = QuantizingJob(**spec["job"], note=lambda text: told.emit("note", text=f"{spec['name']}: {text}"))
    module.quantize(module.Config(**spec["config"]), job)
    versions = _imported.check(spec["expected"], own=spec["own"], folder=Path(spec["folder"]))
    return {"seconds": round(time.monotonic() - started, 1), "versions": versions, **_peaks()}


def _peaks() -> dict[str, float]:
    """Return the most memory that this process had, in GiB."""
    import resource

    found = {"peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return found


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
