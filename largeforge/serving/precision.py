"""In which precision vLLM is to compute on a CPU.

Plain float32 is exact and stable there. Its kernel for weights of 4 bits knows 16-bit numbers only (`cpu_gemm_wna16` is
not implemented for float); float16, since bfloat16 goes through AMX attention, which ended in SIGILL on some CPUs.
"""

from __future__ import annotations

import json
from pathlib import Path

PLAIN, OF_4_BITS = "float32", "float16"


def on_cpu(location: str) -> str:
    """Return vLLM's name of the precision for a model's files."""
    try:
        config = json.loads((Path(location) / "config.json").read_text(encoding="utf-8"))
        how = config.get("quantization_config") or {}
        packed = how.get("quant_method") in ("awq", "gptq") or how.get("format") == "pack-quantized"
    except (OSError, ValueError, AttributeError):
        return PLAIN
    return OF_4_BITS if packed else PLAIN
