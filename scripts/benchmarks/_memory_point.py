"""One measurement of training memory: a model of random weights, rows of exact length, our own method code.

Runs in a process of its own. Needs torch, transformers, trl, peft, accelerate and datasets.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from largeforge.estimate.decoders import shape
from largeforge.estimate.footprints import DPO, KTO, ORPO, REWARD, SFT, AdapterFootprint
from largeforge.estimate.load import TrainingLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_WORDS = 64
_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% if not loop.last %} {% endif %}{% endfor %}"

FOOTPRINTS = {"sft": SFT, "dpo": DPO, "orpo": ORPO, "kto": KTO, "reward": REWARD}


@dataclass(frozen=True)
class Point:
    """What is trained, in the terms of a recipe."""

    model: str
    architecture: Mapping[str, Any] = field(repr=False)
    method: Literal["sft", "dpo", "orpo", "kto", "reward"] = "sft"
    lora_r: int = 0
    """0 trains all weights."""
    quantized: bool = False
    batch: int = 1
    length: int = 1024
    rows: Literal["equal", "padded", "packed"] = "equal"
    """All rows as long as `length`, or some shorter and padded, or short ones joined."""
    checkpointing: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    optimizer: str = "adamw_torch_fused"

    @property
    def label(self) -> str:
        """Name in tables and in the points file."""
        adapter = f"lora{self.lora_r}" if self.lora_r else "full"
        parts = [self.model, self.method, ("q" if self.quantized else "") + adapter, f"{self.batch}x{self.length}"]
        parts += [] if self.rows == "equal" else [self.rows]
        parts += ["checkpointing" if self.checkpointing else "kept"]
        parts += [] if self.precision == "bf16" else [self.precision]
        parts += [] if self.optimizer == "adamw_torch_fused" else [self.optimizer]
        return " ".join(parts)

    def settings(self) -> dict[str, Any]:
        """Return all fields but the architecture, and of those only what is not the default."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if name != "architecture" and value != defaults[name]}


def load_of(point: Point, device: Literal["cuda", "cpu"] = "cuda") -> TrainingLoad:
    """Return the point as the estimator takes it."""
    nf4: Literal["nf4", "as_precision"] = "nf4" if point.quantized else "as_precision"
    return TrainingLoad(
        shape=shape(point.architecture), method=FOOTPRINTS[point.method],
        adapter=AdapterFootprint(rank=point.lora_r, base_weights=nf4), batch=point.batch, length=point.length,
        weights=point.precision, compute=point.precision, optimizer=point.optimizer,
        checkpointing=point.checkpointing, device=device, rows=point.rows,
    )  # fmt: skip


def config_of(point: Point) -> Any:
    """Return the transformers configuration of the point's model."""
    from transformers import AutoConfig

    fields = dict(point.architecture)
    head = {"num_labels": 1, "pad_token_id": 0} if point.method == "reward" else {}
    return AutoConfig.for_model(fields.pop("model_type"), **{**fields, **head})


def architecture_of(point: Point) -> Any:
    """Return the transformers class of the point's model."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification if point.method == "reward" else AutoModelForCausalLM


def tokenizer() -> Any:
    """Return a tokenizer for which every word of the generated rows is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<eos>": 1} | {f"w{number}": number + 2 for number in range(_WORDS)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    made.chat_template = _TEMPLATE
    return made


def generated_rows(point: Point, count: int) -> list[dict[str, Any]]:
    """Return rows whose conversations have exactly the point's length in tokens; with padding, every other is half."""
    rows = []
    for number in range(count):
        length = point.length // 2 if point.rows == "padded" and number % point.batch else point.length
        length = point.length // 4 if point.rows == "packed" else length
        prompt, answer = _words(8), _words(length - 8)
        if point.method == "kto":
            rows.append({"prompt": _said("user", prompt), "completion": _said("assistant", answer),
                         "label": number % 2 == 0})  # fmt: skip
        elif point.method != "sft":
            rows.append({"prompt": _said("user", prompt), "chosen": _said("assistant", answer),
                         "rejected": _said("assistant", answer)})  # fmt: skip
        else:
            rows.append({"messages": _said("user", prompt) + _said("assistant", answer)})
    return rows


def run(point: Point, model: Any, *, steps: int, device: str, folder: Path, fit: Callable[[Any], None]) -> None:
    """Train with LargeForge's own method code; `fit` gets the trl trainer instead of the train stage's loop."""
    from largeforge.recipe import extensions

    method, adapter = extensions.load("method", point.method), extensions.load("adapter", _adapter(point))
    settings = {"completion_only_loss": False, "packing": point.rows == "packed"} if point.method == "sft" else {}
    config = method.Config(
        max_length=point.length, per_device_train_batch_size=point.batch, max_steps=steps, precision=point.precision,
        gradient_checkpointing="on" if point.checkpointing else "off", optim=point.optimizer, logging_steps=steps,
        save_steps=10**6, **settings,
    )  # fmt: skip
    count = point.batch * (steps + 1) * (8 if point.rows == "packed" else 1)
    training = _Training(
        model=model, tokenizer=tokenizer(), device=device, folder=folder, rows=generated_rows(point, count), fitted=fit,
        peft_config=adapter.peft_config(adapter.Config(**_adapter_settings(point))),
    )  # fmt: skip
    method.run(config, training)


@dataclass
class _Training:
    """What a method is given, on rows that are in memory; see `recipe.training.Training`."""

    model: Any
    tokenizer: Any
    peft_config: Any
    device: str
    folder: Path
    rows: list[dict[str, Any]]
    fitted: Callable[[Any], None]
    seed: int = 0

    def arguments(self, config: Any) -> dict[str, Any]:
        from largeforge.training.arguments import arguments

        given = arguments(config, device=self.device, seed=self.seed, folder=self.folder, evaluates=False)
        return given | {"save_strategy": "no", "logging_first_step": False}

    def tokenized(self, split: str, *, learn: str = "all") -> Any:
        from datasets import Dataset

        if split == "heldout":
            return None
        conversations = [self.tokenizer.apply_chat_template(row["messages"], return_dict=False) for row in self.rows]
        return Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in conversations])

    def examples(self, split: str) -> Any:
        from datasets import Dataset

        return Dataset.from_list(self.rows) if split == "train" else None

    def fit(self, trainer: Any) -> dict[str, float]:
        self.fitted(trainer)
        return {}


def _adapter(point: Point) -> str:
    return "lora" if point.lora_r else "none"


def _adapter_settings(point: Point) -> dict[str, Any]:
    return {"lora_r": point.lora_r} if point.lora_r else {}


def _words(count: int) -> str:
    return " ".join(f"w{number % _WORDS}" for number in range(count))


def _said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]
