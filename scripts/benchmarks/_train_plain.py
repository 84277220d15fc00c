"""An ordinary trl script, as its documentation writes them: `python -m scripts.benchmarks._train_plain SETTINGS`.

SETTINGS is JSON: `model` (folder), `data` (JSONL of prompt and completion), `trl` (fields of SFTConfig), `peft`
(fields of LoraConfig, or null), `four_bits`, `dtype`. Prints one line of JSON: when each optimizer step ended,
in seconds since the epoch, the losses that were logged, the tokens seen, and the peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: dict[int, float] = {}
        self.tokens: dict[int, int] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available() and not args.use_cpu:
            torch.cuda.synchronize()
        self.ends[state.global_step] = time.time()
        self.tokens[state.global_step] = int(state.num_input_tokens_seen)


def main() -> None:
    """Train and print."""
    settings = json.loads(sys.argv[1])
    more: dict[str, Any] = {}
    if settings["four_bits"]:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, settings["dtype"]),
        )  # fmt: skip
    if not settings["trl"].get("use_cpu"):
        more["device_map"] = {"": 0}
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=settings["dtype"], **more)
    clock = _Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**settings["trl"]),
        train_dataset=load_dataset("json", data_files=settings["data"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        peft_config=LoraConfig(**settings["peft"], task_type="CAUSAL_LM") if settings["peft"] else None,
        callbacks=[clock],
    )
    trainer.train()
    logs = trainer.state.log_history
    on_gpu = not settings["trl"].get("use_cpu")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seen = {
        "ends": clock.ends,
        "losses": {entry["step"]: entry["loss"] for entry in logs if "loss" in entry},
        "tokens": clock.tokens,
        "peak": torch.cuda.max_memory_reserved() if on_gpu else rss,
        "attention": trainer.model.config._attn_implementation,
    }
    print("\n" + json.dumps({"measured": seen}), flush=True)


if __name__ == "__main__":
    main()
