"""Write a trained model so that its files are those of a training in one process, however it was divided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.training import distributed

if TYPE_CHECKING:
    from pathlib import Path


def save_model(trainer: Any, out: Path) -> None:
    """Write the trained weights into `out`; called in every process, the first one writes.

    An adapter is written alone, a whole model without the second name of tied weights, and in the type that
    it was loaded in (FSDP2 trains copies in fp32).
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    gathered = _gathered(trainer, model)
    if distributed.is_first():
        model.config.use_cache = True  # off in training; whoever generates with the files wants it on
        model.save_pretrained(str(out), state_dict=gathered)
    distributed.wait_for_all()


def _gathered(trainer: Any, model: Any) -> dict[str, Any] | None:
    """Return all weights that are to be saved where processes hold parts of them; None where each holds all."""
    is_adapter = hasattr(model, "peft_config")
    if trainer.is_fsdp_enabled:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=is_adapter)
        found: dict[str, Any] = get_model_state_dict(model, options=options)
    elif trainer.is_deepspeed_enabled and trainer.accelerator.deepspeed_plugin.zero_stage == 3:
        found = trainer.model_wrapped._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=is_adapter)
    else:
        return None
    if is_adapter or not found:  # only the first process is given the weights
        return found
    tied, dtype = model.all_tied_weights_keys, _dtype(model)
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in found.items()
        if name not in tied
    }


def _dtype(model: Any) -> Any:
    """Return the type that the model was loaded in; saving a checkpoint leaves its name in the configuration."""
    import torch

    return getattr(torch, str(model.config.dtype).removeprefix("torch."))
