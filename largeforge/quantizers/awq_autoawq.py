"""Weights of 4 bits by AWQ (arXiv:2306.00978), with AutoAWQ: the format that most published AWQ models have.

AutoAWQ is archived upstream and knows the layers of certain families only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from largeforge.quantizers import _w4a16
from largeforge.recipe.quantization import Quantizer

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = "autoawq"
BITS = 4.0
_FAMILIES = ("gemma", "gemma2", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe", "starcoder2")
"""Of those in AutoAWQ 0.2.9 (`awq/models/auto.py`), the ones that vLLM and this version of transformers also know."""
_PACK = 8
"""Numbers of 4 bits in an int32, along the output."""


class Config(Quantizer):
    """Settings of AutoAWQ."""

    name: Literal["awq_autoawq"] = "awq_autoawq"
    group_size: Literal[32, 64, 128] = 128
    """Weights that share a scale and a zero point; it must divide the inputs of every linear layer."""
    apply_clip: bool = True
    """Whether extreme weights are cut where that loses less than it wins."""


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return True


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why AutoAWQ could not make it, or vLLM not serve it."""
    if target.shape is not None and target.shape.model_type not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        yield f"AutoAWQ does not know the layers of {target.shape.model_type}, only of {known}; awq does"
    yield from _w4a16.unservable(target, group_size=config.group_size, pack=_PACK)


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the quantized model."""
    import torch
    from awq import AutoAWQForCausalLM
    from transformers import AutoTokenizer

    job.note("loading the model")
    dtype = torch.float32 if job.device == "cpu" else torch.float16
    model = AutoAWQForCausalLM.from_pretrained(job.model, device_map="cpu", torch_dtype=dtype, use_cache=False)
    rows = [list(row) for row in job.rows]
    block = min(max(map(len, rows)), sum(map(len, rows)))
    job.note("quantizing")
    model.quantize(
        AutoTokenizer.from_pretrained(job.model),
        quant_config={"zero_point": True, "q_group_size": config.group_size, "w_bit": 4, "version": "GEMM"},
        calib_data=rows,
        max_calib_samples=len(rows),
        max_calib_seq_len=block,
        apply_clip=config.apply_clip,
    )
    job.note("writing the quantized model")
    model.save_quantized(job.out)
