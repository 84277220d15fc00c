"""What `scripts/bench train` trains: models of random weights, rows of varied length, and settings for both sides."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = 3000
_VOCABULARY = 4096


@dataclass(frozen=True)
class Case:
    """One training that both sides do."""

    name: str
    model: str
    """Name of a choice under `conf/model/`."""
    batch: int
    length: int
    """`max_length`; the rows in the middle of the distribution have about a third of it."""
    steps: int
    adapter: str = "none"
    changes: tuple[tuple[str, Any], ...] = ()
    """Fields of the architecture that differ from the model's."""
    ours: tuple[str, ...] = ()
    """Overrides that LargeForge gets and the plain script does not; none means that both do exactly the same."""
    rows: int = 2000

    @property
    def is_same(self) -> bool:
        """Whether both sides must log the same losses."""
        return not self.ours


_MEDIUM = (("hidden_size", 384), ("intermediate_size", 1024), ("num_hidden_layers", 6), ("num_attention_heads", 6),
           ("num_key_value_heads", 6), ("vocab_size", 4096))  # fmt: skip

CPU = (
    Case("0.8M full", "tiny_general", batch=32, length=128, steps=60),
    Case("0.8M LoRA", "tiny_general", batch=32, length=128, steps=60, adapter="lora"),
    Case("12M full", "tiny_general", batch=8, length=256, steps=30, changes=_MEDIUM),
)
_PACKED = ("method.packing=true",)
CUDA = tuple(
    Case(
        f"{size} {adapter} {length // 1024}k{' packed' if ours else ''}", model, batch=max(1, 16384 // length),
        length=length, steps=24, adapter=adapter, ours=ours,
    )
    for size, model, adapter in (
        ("1.5B", "qwen2_5_1_5b_instruct", "none"),
        ("8B", "qwen3_8b", "lora"),
        ("8B", "qwen3_8b", "qlora"),
    )
    for length in (2048, 8192)
    for ours in ((), _PACKED)
)  # fmt: skip


def write_model(case: Case, folder: Path, *, device: str) -> None:
    """Write a model of random weights with a tokenizer of words."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from largeforge.recipe.folders import shipped_root
    from largeforge.stages.init import Config, train_tokenizer

    chosen = yaml.safe_load((shipped_root() / "conf" / "model" / f"{case.model}.yaml").read_text(encoding="utf-8"))
    fields = {**chosen["architecture"], **dict(case.changes)}
    fields["vocab_size"] = max(fields["vocab_size"], _VOCABULARY)
    config = Config.model_validate({"architecture": fields, "tokenizer": {"vocab_size": _VOCABULARY}, "seed": 0})
    made = train_tokenizer([_text(random.Random(number), 50) for number in range(2000)], config)
    torch.manual_seed(0)
    with torch.device(device):
        shape = AutoConfig.for_model(
            fields.pop("model_type"), **fields, eos_token_id=made.eos_token_id, pad_token_id=made.pad_token_id
        )
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        AutoModelForCausalLM.from_config(shape, dtype=dtype).save_pretrained(folder)
    made.save_pretrained(folder)


def write_rows(case: Case, path: Path) -> None:
    """Write prompts and completions in trl's conversational form; lengths are log-normal."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(case.rows):
            size = min((case.length - 24) // 5, max(4, int(case.length / 15 * generator.lognormvariate(0, 0.7))))
            prompt, answer = _text(generator, size // 4), _text(generator, size - size // 4)
            row = {"prompt": [{"role": "user", "content": prompt}],
                   "completion": [{"role": "assistant", "content": answer}]}  # fmt: skip
            file.write(json.dumps(row) + "\n")


def _text(generator: random.Random, words: int) -> str:
    """Return words of four to five tokens each."""
    return " ".join(f"w{generator.randrange(_WORDS)}" for _ in range(words))
