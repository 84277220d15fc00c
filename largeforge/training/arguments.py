"""The keyword arguments that every trl config takes, from a method's settings and the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.training import TrainingMethod

SAME = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps", "optim",
    "per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "max_grad_norm",
    "logging_steps", "save_steps",
)  # fmt: skip
"""Settings that have the same name and meaning in transformers' `TrainingArguments`."""


def arguments(config: TrainingMethod, *, device: str, seed: int, folder: Path, evaluates: bool) -> dict[str, Any]:
    """Return the arguments; `folder` is where checkpoints go, `evaluates` whether there are rows to do so with.

    What `config.extra` says comes last.
    """
    on_gpu = device == "cuda"
    compares = config.load_best_model_at_end or config.early_stopping_patience > 0
    return {
        **{name: getattr(config, name) for name in SAME},
        "output_dir": str(folder),
        "use_cpu": not on_gpu,
        "bf16": compute_precision(config.precision, device) == "bf16",
        "gradient_checkpointing": {"auto": on_gpu, "on": True, "off": False}[config.gradient_checkpointing],
        "use_liger_kernel": config.use_liger_kernel,
        "torch_compile": config.torch_compile,
        "seed": seed,
        "data_seed": seed,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": config.eval_steps if evaluates else None,
        "per_device_eval_batch_size": config.per_device_train_batch_size,
        "metric_for_best_model": config.metric_for_best_model if compares else None,
        "greater_is_better": config.greater_is_better if compares else None,
        "load_best_model_at_end": False,  # training/keeping.py does: transformers wants save_steps to fit eval_steps
        "save_strategy": "steps",
        "save_total_limit": None,  # training/checkpoints.py keeps count: only sealed ones are worth keeping
        "save_only_model": False,
        "ignore_data_skip": False,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # transformers would show a mean of earlier losses instead of the NaN
        "include_num_input_tokens_seen": "non_padding",
        "report_to": "none",
        "disable_tqdm": True,
        **config.extra,
    }


def compute_precision(precision: str, device: str) -> str:
    """Return what `auto` means on a device: bf16 on a GPU, fp32 on a CPU."""
    return {"cuda": "bf16", "cpu": "fp32"}[device] if precision == "auto" else precision
