"""The NVIDIA driver answers and there are as many GPUs as the plan uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context


def check(context: Context) -> Iterator[Finding]:
    """Compare the GPUs that may be used with those that the plan wants."""
    answer = context.gpus
    if not context.wants_gpu:
        yield ok(_list(context)) if answer.gpus else skipped(answer.fault or "there is no GPU")
        return
    wanted = wanted_gpus(context)
    if answer.fault:
        cure = "nvidia-smi; or hardware=cpu (mode=plan works anywhere)"
        yield error(f"the plan runs on {wanted} GPU{'s' if wanted > 1 else ''}, but {answer.fault}", cure)
    elif len(answer.gpus) < wanted:
        hidden = context.environ.get("CUDA_VISIBLE_DEVICES")
        why = f" (CUDA_VISIBLE_DEVICES={hidden})" if hidden is not None else ""
        cure = "unset CUDA_VISIBLE_DEVICES" if hidden is not None else f"hardware.num_gpus={max(len(answer.gpus), 1)}"
        yield error(f"the plan uses {wanted} GPUs, and {len(answer.gpus)} can be used{why}", cure)
    else:
        yield ok(_list(context))


def wanted_gpus(context: Context) -> int:
    """Return how many GPUs the plan uses at once."""
    if context.plan is None or context.recipe is None:
        return 0
    sizes = [int(stage.config.get("world_size", 1)) for stage in context.computing if stage.kind == "train"]
    serving = context.recipe.serving.tensor_parallel_size if context.serves else 1
    return max(1, context.recipe.hardware.num_gpus, serving, *sizes)


def _list(context: Context) -> str:
    names = [gpu.name for gpu in context.gpus.gpus]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
