"""The process that measures one point: `python -m scripts.benchmarks._memory_child KIND POINT`.

Prints one line of JSON. Needs no more than torch, transformers, trl, peft, accelerate, datasets and pydantic.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scripts.benchmarks import _memory_point as points

STEPS = 3


def main() -> None:
    """Measure and print."""
    kind, point = sys.argv[1], points.Point(**json.loads(sys.argv[2]))
    print("\n" + json.dumps({"measured": _real(point, kind)}), flush=True)


def _real(point: points.Point, device: str) -> dict[str, Any]:
    import torch
    import trl  # noqa: F401  (what the imports take is not the training's)
    from peft import LoraConfig  # noqa: F401

    baseline = _resident("VmRSS") if device == "cpu" else 0
    capacity = (
        torch.cuda.mem_get_info()[1] if device == "cuda" else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            patch("trl.trainer.dpo_trainer.create_model_from_path", lambda *_, **__: _model(point, device, folder)),
        ):
            model = _model(point, device, folder)
            points.run(
                point, model, steps=STEPS, device=device, folder=Path(folder), fit=lambda trainer: trainer.train()
            )
    except torch.OutOfMemoryError:
        return {"failed": "out of memory", "capacity": capacity, "device": name}
    if device == "cpu":
        return {"peak": _resident("VmHWM"), "baseline": baseline, "device": name}
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    used = _nvidia_smi() or torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0]
    return {"peak": used, "allocated": allocated, "reserved": reserved, "capacity": capacity, "device": name}


def _model(point: points.Point, device: str, folder: str) -> Any:
    """Return a model of random weights, quantized as QLoRA has it when the point says so."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[point.precision]
    with torch.device(device):
        model = points.architecture_of(point).from_config(points.config_of(point), dtype=dtype)
    if not point.quantized:
        return model
    from transformers import BitsAndBytesConfig

    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization, dtype=dtype, device_map={"": 0}
    )


def _resident(field: str) -> int:
    """Return bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _nvidia_smi() -> int:
    """Return what the driver counts for this process, context included; 0 where it does not say."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return 0
    for line in lines:
        pid, _, used = line.partition(",")
        if pid.strip() == str(os.getpid()) and used.strip().isdigit():
            return int(used) * 2**20
    return 0


if __name__ == "__main__":
    main()
