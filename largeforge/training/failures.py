"""What ended a training, in the words of a user: memory, disk, a loss that is no number."""

from __future__ import annotations

import errno
import math
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import os_errors
from largeforge.errors import LargeForgeError, StageError
from largeforge.training.peak_memory import peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT_OF_MEMORY, DISK, NAN = "out_of_memory", "disk", "nan"

_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory", "CUDA out of memory", "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc", "Cannot allocate memory",
    "failed to map segment from shared object",
)  # fmt: skip
_NOT_WRITTEN = ("PytorchStreamWriter", "unexpected pos", "inline_container")
"""What torch.save says when the disk does not take the data; the system's own error is lost."""
_FULL_BYTES = 2**26
"""With less than this a disk is full: torch writes in pieces, and what it could not write is no longer there."""


@dataclass(frozen=True)
class Cause:
    """What an error means."""

    reason: str
    """A word for programs."""
    message: str
    memory_gib: float = 0.0
    """What the process had reached when memory was refused."""


def explain(error: Exception, folder: Path) -> Cause | None:
    """Return what an error means; None for one that is none of these. `folder` is where the stage writes."""
    for found in _chain(error):
        if (
            isinstance(found, MemoryError)
            or type(found).__name__ == "OutOfMemoryError"
            or any(text in str(found) for text in _NO_MEMORY)
        ):
            return _memory(found)
    for found in _chain(error):
        system = os_errors.inside(found) or _unwritten(found, folder)
        if system is not None and system.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            where = Path(system.filename) if system.filename else folder
            advice = os_errors.advice(system) or "cure that and run the same command again: what is finished is kept"
            return Cause(DISK, f"{os_errors.explain_os_error(system, where)}; {advice}")
    return None


def behind(error: LargeForgeError, folder: Path) -> Cause:
    """Return what is behind an error that has its message already, such as a model that memory was refused for."""
    reason = getattr(error, "reason", "")
    if not reason and isinstance(error.__cause__, Exception) and (found := explain(error.__cause__, folder)):
        return found
    return Cause(reason, str(error))


def explained(error: Exception, folder: Path) -> StageError | None:
    """Return an error that `explain` knows as one that says so; None for another one."""
    if isinstance(error, LargeForgeError) or (found := explain(error, folder)) is None:
        return None
    told = StageError(found.message)
    told.reason = found.reason
    return told


def not_finite(what: str, *, step: int, learning_rate: float, max_grad_norm: float, kept: Path | None) -> StageError:
    """Return the error for a loss or weights that are no numbers from a step on; `kept` is the last checkpoint."""
    clip = f"lower method.max_grad_norm (now {max_grad_norm:g})" if max_grad_norm else "set method.max_grad_norm=1"
    lines = [
        f"{what} at step {step}, with a learning rate of {learning_rate:.3g}: the training cannot recover from that.",
        f"Lower method.learning_rate, warm up longer (method.warmup_steps), {clip}, or look at the rows of that step.",
        "With other settings a new training begins.",
    ]
    if kept is None:
        lines.append("There is no checkpoint from before.")
    else:
        same = "the same command continues from it, most likely to the same end"
        lines.append(f"{kept.name} is from before and is kept: {same}.")
        if (kept / "model.safetensors").is_file() or (kept / "model.safetensors.index.json").is_file():
            lines.append(f"A new training can begin with its weights: model.ref=path:{kept}")
    error = StageError("\n".join(lines))
    error.reason = NAN
    return error


def _memory(error: Exception) -> Cause:
    """Return how much was asked for, and what the process had."""
    text = str(error)
    where = "GPU memory" if "CUDA" in text or "CUBLAS" in text or "GPU" in text else "memory"
    asked = _ASKED.search(text)
    more = f": {float(asked[1]) * _UNITS[asked[2]] / 2**30:.2f} GiB more were refused" if asked else ""
    reached = peak_memory_bytes("cpu" if where == "memory" else "cuda") / 2**30
    return Cause(OUT_OF_MEMORY, f"out of {where}{more}, this process had reached {reached:.2f} GiB", reached)


def _unwritten(error: Exception, folder: Path) -> OSError | None:
    """Return the system's error behind one of torch.save, by what the disk has left."""
    if not any(text in str(error) for text in _NOT_WRITTEN):
        return None
    free = math.inf
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
    return OSError(errno.ENOSPC if free < _FULL_BYTES else errno.EFBIG, "not written", str(folder))


def _chain(error: Exception) -> Iterator[Exception]:
    """Yield an error and those that it came from."""
    found: BaseException | None = error
    while isinstance(found, Exception):
        yield found
        found = found.__cause__ or found.__context__
