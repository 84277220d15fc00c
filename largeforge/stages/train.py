"""Stage `train`: load the model, hand it to the method, and say what came out.

Runs inside the launcher's worker processes. What the launcher made of the plan is verified (`training/wrapping.py`),
since accelerate falls back silently.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from largeforge.artifacts import write_text
from largeforge.card import card
from largeforge.recipe import extensions, method_extra
from largeforge.recipe.base import Strict
from largeforge.recipe.made_for import CAUSAL_LM
from largeforge.recipe.schema import Adapter, Launcher, Method, Registry
from largeforge.stages import model_card
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, load_model, load_tokenizer
from largeforge.tokens.template import sha256
from largeforge.training import distributed, extra, left_out
from largeforge.training.arguments import compute_precision
from largeforge.training.datasets import Prepared
from largeforge.training.session import Session

if TYPE_CHECKING:
    from largeforge.stages.context import Context


class Config(Strict):
    """One training."""

    reference: str
    registry: Registry
    method: Method
    adapter: Adapter
    launcher: Launcher
    seed: int
    device: str
    world_size: int
    chat_template: str = ""
    """Text of the chat template that the recipe gives; empty for the model's own."""


def run(config: Config, context: Context) -> Result:
    """Train and write the model or adapter with its tokenizer."""
    precision = compute_precision(config.method.precision, config.device)
    distributed.prepare(
        config.launcher, device=config.device, precision=precision, world_size=config.world_size, work=context.work
    )
    method, adapter = extensions.load("method", config.method.name), extensions.load("adapter", config.adapter.name)
    context.events.emit("note", text="loading libraries and model")
    source = Base(config.reference, config.registry).resolve(context)
    quantizes = adapter.footprint(config.adapter).base_weights != "as_precision"
    left_out.leave_out(config.method, base=source.location, quantizes=quantizes, launcher=config.launcher.name)
    extra.verify(method_extra.trl_config(config.method), config.method)
    tokenizer = load_tokenizer(source, renders=method.DATA_KIND != "text", chat_template=config.chat_template)
    quantization = adapter.quantization(config.adapter, precision=precision)
    device = config.device if quantization else distributed.loading_device(config.launcher.name, config.device)
    prepared = Prepared(context, config.method, tokenizer)
    statistics = prepared.check()
    _seed(config.seed)
    session = Session(
        context=context,
        method=config.method,
        adapter=config.adapter,
        registry=config.registry,
        source=source,
        launcher=config.launcher.model_dump(),
        model=load_model(
            source,
            device=device,
            precision=precision,
            quantization=quantization,
            task_type=getattr(method, "TASK_TYPE", CAUSAL_LM),
            attention=config.method.attn_implementation,
        ),
        tokenizer=tokenizer,
        prepared=prepared,
        peft_config=adapter.peft_config(config.adapter),
        seed=config.seed,
        device=config.device,
        world_size=config.world_size,
    )
    template = tokenizer.chat_template
    with extra.blamed(config.method, lambda: session.has_begun):
        metrics = method.run(config.method, session)
    if distributed.is_first():
        write_text(context.out / model_card.CARD, card(model_card.facts(context, results=metrics)))
    resolved = {**source.identity(), **({"chat_template": sha256(template)} if template else {})}
    info = {"token_lengths": asdict(statistics), "base": source.reference, "resolved": resolved}
    return Result(metrics=metrics, info=info)


def _seed(seed: int) -> None:
    """Seed all generators as trl's trainers do before they load a model: a new head is drawn from them."""
    from transformers import set_seed

    set_seed(seed)
