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
_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + ' <eos> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


@dataclass(frozen=True)
class Case:
    """One training that both sides do."""

    name: str
    model: str
    """Name of a choice under `conf/model/`."""
    batch: int
    length: int
    """`max_length`; rows have a fifth of it in the middle of their distribution."""
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
    Case("0.8M full", "tiny_general", batch=32, length=128, steps=120),
    Case("0.8M LoRA", "tiny_general", batch=32, length=128, steps=120, adapter="lora"),
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
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    from largeforge.recipe.folders import shipped_root

    chosen = yaml.safe_load((shipped_root() / "conf" / "model" / f"{case.model}.yaml").read_text(encoding="utf-8"))
    fields = {"vocab_size": 4096, **chosen["architecture"], **dict(case.changes)}
    fields["vocab_size"] = max(fields["vocab_size"], 4096)
    vocabulary = {text: number for number, text in enumerate(("<pad>", "<eos>", "<|user|>", "<|assistant|>"))}
    vocabulary |= {f"w{number}": number + 4 for number in range(_WORDS)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    made.chat_template = _TEMPLATE
    torch.manual_seed(0)
    with torch.device(device):
        config = AutoConfig.for_model(fields.pop("model_type"), **fields, eos_token_id=1, pad_token_id=0)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    made.save_pretrained(folder)


def write_rows(case: Case, path: Path) -> None:
    """Write prompts and completions in trl's conversational form; lengths are log-normal up to `length`."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(case.rows):
            size = min(case.length - 8, max(12, int(case.length / 5 * generator.lognormvariate(0, 0.7))))
            words = [f"w{generator.randrange(_WORDS)}" for _ in range(size)]
            prompt, answer = " ".join(words[: size // 4]), " ".join(words[size // 4 :])
            row = {"prompt": [{"role": "user", "content": prompt}],
                   "completion": [{"role": "assistant", "content": answer}]}  # fmt: skip
            file.write(json.dumps(row) + "\n")
