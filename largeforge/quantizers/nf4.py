"""Weights of 4 bits in bitsandbytes' NF4 (arXiv:2305.14314), quantized each time the model is loaded.

Nothing is calibrated and the files stay as large as they were: only `config.json` says how to load them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from largeforge.recipe.quantization import Quantizer

if TYPE_CHECKING:
    from largeforge.recipe.quantization import QuantizingJob, Target

ENVIRONMENT = ""
BITS = 4.0
AT_LOAD = True


class Config(Quantizer):
    """Settings of NF4."""

    name: Literal["nf4"] = "nf4"
    double_quant: bool = True
    """Whether the scales are quantized, too."""


def calibrated(config: Config) -> bool:
    """Whether it reads training rows."""
    return False


def unservable(config: Config, target: Target) -> Iterator[str]:
    """Yield why vLLM could not serve it: the version that LargeForge installs has no bitsandbytes any more."""
    if not target.other_vllm:
        yield "vLLM 0.32 does not load bitsandbytes; name an interpreter with one that does in serving.python"
    elif target.device == "cpu":
        yield "no vLLM loads bitsandbytes on a CPU"


def quantize(config: Config, job: QuantizingJob) -> None:
    """Write the original's configuration with how to load it."""
    original = json.loads((Path(job.model) / "config.json").read_text(encoding="utf-8"))
    stored = str(original.get("dtype") or original.get("torch_dtype") or "bfloat16")
    settings = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": stored, "bnb_4bit_use_double_quant": config.double_quant,
    }  # fmt: skip
    text = json.dumps({**original, "quantization_config": settings}, indent=2)
    (Path(job.out) / "config.json").write_text(text + "\n", encoding="utf-8")
