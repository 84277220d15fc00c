"""Merge a LoRA adapter into its base, so that it can be served or trained on as a whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Registry
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, load_adapter, load_model, load_tokenizer, task_type
from largeforge.stages.models import ResolvedModel

if TYPE_CHECKING:
    from largeforge.stages.context import Context


class Config(Strict):
    """Which base the adapter belongs to."""

    reference: str
    registry: Registry


def run(config: Config, context: Context) -> Result:
    """Write the merged model with the tokenizer that the adapter was trained with."""
    source = Base(config.reference, config.registry).resolve(context)
    context.events.emit("note", text="loading the base and its adapter")
    folder = context.inputs["adapter"]
    adapter = ResolvedModel(str(folder), context.stage)
    model = load_adapter(load_model(source, device="cpu", precision="stored", task_type=task_type(adapter)), folder)
    merged = model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(context.out)
    load_tokenizer(adapter, renders=False).save_pretrained(context.out)
    return Result(info={"base": source.reference})
