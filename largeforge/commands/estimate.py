"""Say what a model needs to be trained or served, on hardware that you have or think of buying.

No recipe, no download of weights, no GPU: the model's config.json is enough. Without --hardware, every
profile of conf/hardware/ is a row.

  python -m largeforge estimate qwen2_5_7b_instruct
  python -m largeforge estimate llama_3_1_8b_instruct --hardware rtx_4090,a100_80gb --method dpo --length 4096
  python -m largeforge estimate qwen2_5_72b_instruct --hardware h100 --gpus 8 --sharding fsdp2
  python -m largeforge estimate hub:mistralai/Mistral-7B-v0.1 --serve

MODEL is a choice of conf/model/, a model reference (hub:…, path:…, run:…) or a folder with a config.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.estimate.shape import Shape
    from largeforge.forecast.models import KnownModel
    from largeforge.forecast.whatif import Case
    from largeforge.hardware import Machine

_METHODS = ("sft", "pretrain", "dpo", "orpo", "kto", "reward", "distill", "grpo")
MOST_DIGITS = 9
"""Digits of the largest number that is believed."""
_ADAPTERS = ("none", "lora", "qlora")
_SHARDINGS = ("none", "ddp", "fsdp2", "zero1", "zero2", "zero3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a choice of conf/model/, a model reference or a folder")
    add("--hardware", default="", metavar="NAME,…", help="profiles of conf/hardware/; `auto` is this machine (all)")
    add("--gpus", type=_positive, default=1, metavar="N", help="GPUs that share the work (1)")
    add("--serve", action="store_true", help="serving with vLLM instead of training")
    add("--method", choices=_METHODS, default="sft", help="training method (sft)")
    add("--adapter", choices=_ADAPTERS, help="one way of training instead of a column for each")
    add("--rank", type=_positive, default=16, metavar="N", help="rank of LoRA (16)")
    add("--teacher", default="", metavar="MODEL", help="model that `distill` learns from")
    add("--completion", type=_positive, default=256, metavar="TOKENS", help="of --length, what `grpo` generates (256)")
    add("--sharding", choices=_SHARDINGS, help="how training is spread over GPUs (fsdp2 when there are several)")
    add("--batch", type=_positive, default=1, metavar="ROWS", help="rows per GPU and forward pass (1)")
    add("--accumulation", type=_positive, default=1, metavar="N", help="forward passes per optimizer step (1)")
    add("--length", type=_positive, default=2048, metavar="TOKENS", help="tokens of a row or of a request (2048)")
    add("--checkpointing", choices=("on", "off"), default="on", help="recompute activations (on)")
    add("--optimizer", default="adamw_torch_fused", metavar="NAME", help="as transformers names it")
    add("--precision", choices=("bf16", "fp32"), help="of the weights and the arithmetic (fp32 on a CPU)")
    add("--json", action="store_true", help="print the numbers as JSON, with where the memory goes")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of hardware against ways of training, or of what a server has room for."""
    from largeforge.forecast import whatif

    model = _model(arguments.model)
    machines = _machines(arguments.hardware, arguments.gpus)
    if arguments.serve:
        cases = [
            whatif.serving(model, name, machine, length=arguments.length, gpus=arguments.gpus)
            for name, machine in machines.items()
        ]
    else:
        load = whatif.Training(
            method=arguments.method, rank=arguments.rank, batch=arguments.batch, length=arguments.length,
            checkpointing=arguments.checkpointing == "on", optimizer=arguments.optimizer,
            precision=arguments.precision or "", gpus=arguments.gpus,
            sharding=arguments.sharding or ("none" if arguments.gpus == 1 else "fsdp2"),
            teacher=_model(arguments.teacher) if arguments.teacher else None,
            accumulation=arguments.accumulation, completion_length=arguments.completion,
        )  # fmt: skip
        adapters = [arguments.adapter] if arguments.adapter else list(_ADAPTERS)
        cases = [load.on(model, name, machine, adapter) for name, machine in machines.items() for adapter in adapters]
    if arguments.json:
        print(json.dumps([case.as_dict() for case in cases], indent=2))
    else:
        _show(arguments, model, cases)
    return 0


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {10**MOST_DIGITS - 1}, not {text[:20]!r}")
    return number


def _model(text: str) -> KnownModel:
    """Return what is known of a model; raises RecipeError when its shape is not."""
    from largeforge.errors import Problem, RecipeError, nearest
    from largeforge.forecast.models import Models
    from largeforge.recipe import sources
    from largeforge.recipe.schema import Model, Recipe, Registry

    recipe = Recipe.model_construct(registry=Registry())
    choices = sources.choices("model")
    if text in choices:
        import yaml

        known = Models(recipe).of(Model.model_validate(yaml.safe_load(choices[text].read_text(encoding="utf-8"))))
    else:
        reference = f"path:{text}" if Path(text).is_dir() else text
        try:
            known = Models(recipe).of(reference)
        except ValueError:
            rule = "is neither a choice of conf/model/, nor a reference such as hub:org/name, nor a folder."
            raise RecipeError([Problem("MODEL", rule, given=repr(text), nearest=nearest(text, choices))]) from None
    if known.shape is None:
        raise RecipeError([Problem("MODEL", f"{known.note}.", given=repr(text))])
    return known


def _machines(names: str, gpus: int) -> dict[str, Machine]:
    """Return the machines by the name that a recipe calls them, the smallest first."""
    from largeforge.errors import Problem, RecipeError, listed, nearest
    from largeforge.hardware import machine
    from largeforge.recipe import sources
    from largeforge.recipe.profiles import completed, named

    choices = sources.choices("hardware")
    wanted = [name for name in names.split(",") if name] or [name for name in choices if name not in ("cpu", "auto")]
    machines = {}
    for name in wanted:
        profile = named(name)
        if profile is None:
            rule = f"no such profile; there is: {listed(choices)}."
            raise RecipeError([Problem("--hardware", rule, given=repr(name), nearest=nearest(name, choices))])
        machines[name] = machine(completed(profile).model_copy(update={"num_gpus": gpus}))
    return dict(sorted(machines.items(), key=lambda item: item[1].usable_bytes))


def _show(arguments: argparse.Namespace, model: KnownModel, cases: Sequence[Case]) -> None:
    from rich.console import Console
    from rich.text import Text

    from largeforge.forecast.text import count
    from largeforge.forecast_view import serving_cases, training_cases

    assert model.shape is not None
    console = Console()
    what = f"{count(model.shape.parameters)} parameters"
    if model.shape.active_parameters < 0.8 * model.shape.parameters:
        what += f", {count(model.shape.active_parameters)} of them for each token"
    console.print(Text(f"{arguments.model}: {what}", "bold"))
    console.print(Text(_setting(arguments, model.shape), "dim"), end="\n\n")
    console.print(serving_cases(cases) if arguments.serve else training_cases(cases))
    notes = [model.note, *(text for case in cases for text in case.forecast.assumptions)]
    reasons: dict[str, list[str]] = {}
    for case in cases:
        if case.forecast.needed_bytes <= case.forecast.usable_bytes:  # or else "too big" says it
            reasons.setdefault(case.forecast.refusal, []).append(case.hardware)
    notes += [f"{', '.join(names)}: {reason}" for reason, names in reasons.items() if reason]
    for place, note in enumerate(note for note in dict.fromkeys(notes) if note):
        console.print(Text(f"{'' if place else chr(10)}· {note}", "dim"))


def _setting(arguments: argparse.Namespace, shape: Shape) -> str:
    gpus = f"{arguments.gpus} GPU{'s' if arguments.gpus > 1 else ''}"
    if arguments.serve:
        length = min(arguments.length, shape.max_positions or arguments.length)
        most = ", the most that it can read," if length < arguments.length else ","
        return f"vLLM with its defaults, requests of {length} tokens{most} on {gpus}; peak of each GPU"
    sharding = arguments.sharding or "fsdp2"
    spread = f" ({sharding})" if arguments.gpus > 1 else ""
    return (
        f"{arguments.method}, {arguments.batch} × {arguments.length} tokens, checkpointing {arguments.checkpointing}, "
        f"on {gpus}{spread}; peak of each GPU"
    )
