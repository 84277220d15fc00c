"""Load models and tokenizers for training, judging and merging."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.errors import ModelError
from largeforge.recipe import made_for
from largeforge.recipe.made_for import CAUSAL_LM, SEQ_CLS
from largeforge.stages.models import ResolvedModel, checked_folder, resolve
from largeforge.training import left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.schema import Registry
    from largeforge.stages.context import Context


@dataclass(frozen=True)
class Base:
    """Where a stage finds the model that its job starts from."""

    reference: str
    """Model reference, or empty when the input `base` holds the files."""
    registry: Registry

    def resolve(self, context: Context) -> ResolvedModel:
        """Return the files of the base."""
        if not self.reference:
            return ResolvedModel(str(checked_folder(context.inputs["base"])), "job", lock=context.lock)
        return resolve(self.reference, registry=self.registry, inputs=context.inputs, lock=context.lock)


def load_model(
    source: ResolvedModel,
    *,
    device: str,
    precision: str = "auto",
    quantization: Any = None,
    task_type: str = CAUSAL_LM,
    attention: str = "auto",
) -> Any:
    """Load the weights of a causal language model onto a device.

    `precision` is fp32, bf16, `stored` (as in the files), or `auto` (by the device); `quantization` is
    transformers' configuration of how to quantize them while loading, or None. With the `task_type` SEQ_CLS (peft's
    name) the model scores: its head has one output, drawn from torch's generator where the files have none.
    `attention` names kernels as transformers does; `auto` leaves the choice to it.
    Raises ModelError when the files are missing, broken, an adapter, or those of a model that scores and was to write.
    """
    left_out.have_no_optional_parts()
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    default = torch.float32 if device == "cpu" else torch.bfloat16
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "stored": "auto"}.get(precision, default)
    more: dict[str, Any] = (
        {} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}
    )
    if attention != "auto":
        more["attn_implementation"] = attention
    scores = task_type == SEQ_CLS
    _refuse_another_kind(source, scores=scores)
    architecture = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    if scores:
        more["num_labels"] = 1
    try:
        model = architecture.from_pretrained(source.location, revision=source.revision or None, dtype=dtype, **more)
    except Exception as error:
        raise _broken(source, error) from error
    return model if quantization is not None else model.to(device)


def _refuse_another_kind(source: ResolvedModel, *, scores: bool) -> None:
    """Refuse what transformers would load all the same: an adapter on its base, a model that scores with a new head."""
    if source.is_adapter:
        raise ModelError(f"{source.reference} {made_for.IS_ADAPTER}")
    if not scores and task_type(source) == SEQ_CLS:
        raise ModelError(f"{source.reference} {made_for.SCORES}")


def task_type(source: ResolvedModel) -> str:
    """Return what a model is made for, in peft's words: SEQ_CLS for one that scores, otherwise CAUSAL_LM.

    Raises ModelError when the files are missing or broken.
    """
    left_out.have_no_optional_parts()
    from transformers import AutoConfig

    adapter = Path(source.location) / "adapter_config.json"
    try:
        if adapter.is_file():
            return str(json.loads(adapter.read_text(encoding="utf-8")).get("task_type") or CAUSAL_LM)
        config = AutoConfig.from_pretrained(source.location, revision=source.revision or None)
    except Exception as error:
        raise _broken(source, error) from error
    return made_for.of_config({"architectures": config.architectures})


def load_tokenizer(source: ResolvedModel, *, renders: bool = True, chat_template: str = "") -> Any:
    """Load a tokenizer and make sure that it can pad, and render conversations unless `renders` is false.

    `chat_template` is a template to use instead of the tokenizer's own.
    Raises ModelError when the files are missing, broken, or without a chat template that is needed.
    """
    left_out.have_no_optional_parts()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision or None)
    except Exception as error:
        raise _broken(source, error) from error
    if chat_template:
        tokenizer.chat_template = chat_template
    if renders and tokenizer.chat_template is None:
        rule = "has no chat template in its tokenizer; give one with model.chat_template=FILE.jinja"
        raise ModelError(f"{source.reference} ({source.location}) {rule}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a LoRA adapter on a loaded model.

    Raises ModelError when the adapter's files are missing or broken.
    """
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(checked_folder(folder)))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"adapter {folder} cannot be loaded: {type(error).__name__}: {error}") from error


def render(
    tokenizer: Any, messages: Sequence[dict[str, Any]], *, generation_prompt: bool, tools: Sequence[Any] | None = None
) -> list[int]:
    """Return the token ids of a conversation, and the tools it may call, under the tokenizer's chat template."""
    if not messages:
        return []
    ids = tokenizer.apply_chat_template(
        list(messages),
        tools=list(tools) if tools else None,
        add_generation_prompt=generation_prompt,
        tokenize=True,
        return_dict=False,
    )
    return [int(token) for token in ids]


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of plain text with the token that ends it, as trl's SFTTrainer tokenizes it."""
    ended = text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token
    return [int(token) for token in tokenizer(ended)["input_ids"]]


def _broken(source: ResolvedModel, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    where = "" if source.location in source.reference else f" ({source.location})"
    return ModelError(f"model {source.reference}{where} cannot be loaded: {type(error).__name__}: {reason}")
