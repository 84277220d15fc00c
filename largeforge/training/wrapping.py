"""Whether the processes of a training became what the plan said: how many, how wrapped, in which precision.

accelerate falls back silently, to fewer processes or to a wrapper that needs several times the memory; so what is
there is looked at, once the trainer has prepared its model and before the first step.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from largeforge.errors import StageError


def callback(trainer: Any, *, launcher: dict[str, Any], world_size: int, device: str, precision: str) -> Any:
    """Return a transformers callback that verifies the trainer before its first step."""
    from transformers import TrainerCallback

    class Verification(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            verify(trainer, launcher=launcher, world_size=world_size, device=device, precision=precision)

    return Verification()


def verify(trainer: Any, *, launcher: dict[str, Any], world_size: int, device: str, precision: str) -> None:
    """Compare a prepared trainer with the plan; raises StageError with all that differs."""
    accelerator, model = trainer.accelerator, trainer.model_wrapped
    compute = _compute(accelerator, model)
    wanted = _wanted(launcher)
    weights = _weights(trainer.model)
    expected = "fp32" if _masters(trainer.model, launcher["name"], precision) else precision
    found = [
        (f"{world_size} processes", f"{accelerator.num_processes}", accelerator.num_processes == world_size),
        (f"device {device}", accelerator.device.type, accelerator.device.type == device),
        (wanted, wrapping(model), wrapping(model) == wanted),
        (f"computing in {precision}", compute, compute == precision),
        (f"weights in {expected}", weights, weights in (expected, "")),
    ]
    wrong = [f"{plan}, found {there}" for plan, there, holds in found if not holds]
    if wrong:
        raise StageError(
            f"the training is not what was planned (launcher={launcher['name']}): {'; '.join(wrong)}. Nothing was "
            "trained. Are the versions of torch and accelerate those that the lock names?"
        )


def wrapping(model: Any) -> str:
    """Return what a prepared model is wrapped in, in the words of a plan."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor
    from torch.nn.parallel import DistributedDataParallel

    model = getattr(model, "_orig_mod", model)  # torch.compile's own wrapper
    if isinstance(model, DistributedDataParallel):
        return "DDP"
    if hasattr(model, "zero_optimization_stage"):
        stage = model.zero_optimization_stage()
        whole = stage == 3 and not all(hasattr(parameter, "ds_id") for parameter in model.module.parameters())
        return f"DeepSpeed ZeRO-{stage}{' with weights that are not divided' if whole else ''}"
    if isinstance(model, FSDPModule):
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        sharded = sum(isinstance(parameter, DTensor) for parameter in trained)
        part = "" if sharded == len(trained) else f" with {sharded} of {len(trained)} weights divided"
        return f"FSDP2{part}"
    return "no wrapper"


def _wanted(launcher: dict[str, Any]) -> str:
    if launcher["name"] == "deepspeed":
        return f"DeepSpeed ZeRO-{launcher['zero_stage']}"
    return {"single": "no wrapper", "ddp": "DDP", "fsdp2": "FSDP2"}[launcher["name"]]


def _compute(accelerator: Any, model: Any) -> str:
    """Return the precision of a forward pass: DeepSpeed's own, or that of accelerate's autocast or FSDP2 policy."""
    if hasattr(model, "bfloat16_enabled"):
        return "bf16" if model.bfloat16_enabled() else "fp16" if model.fp16_enabled() else "fp32"
    return {"no": "fp32"}.get(accelerator.mixed_precision, str(accelerator.mixed_precision))


def _weights(model: Any) -> str:
    """Return the type that most weights have, empty where it is none of the usual, or weights are quantized."""
    sizes: Counter[str] = Counter()
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            return ""  # bitsandbytes packs them into bytes; trl has the adapter on them in bf16 wherever it runs
        sizes[str(parameter.dtype)] += getattr(parameter, "ds_numel", parameter.numel())
    names = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
    return names.get(sizes.most_common(1)[0][0], "") if sizes else ""


def _masters(model: Any, launcher: str, precision: str) -> bool:
    """Tell whether most weights are kept in fp32 whatever is computed in: accelerate upcasts what FSDP2 trains."""
    if launcher != "fsdp2" or precision == "fp32":
        return False
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return bool(trained > sum(parameter.numel() for parameter in model.parameters()) / 2)
