"""What a model would need on some hardware, without a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from largeforge.errors import Problem, RecipeError
from largeforge.estimate import footprints
from largeforge.estimate.footprints import AdapterFootprint, MethodFootprint
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.memory import GIB
from largeforge.estimate.serving import Server, serving_memory
from largeforge.estimate.sharding import Sharding, Strategy
from largeforge.estimate.stored import BASES, BITS
from largeforge.estimate.throughput import Load, Speed, in_flight_limit
from largeforge.estimate.training import training_memory
from largeforge.forecast.stage import Forecast, ServingForecast

if TYPE_CHECKING:
    from largeforge.forecast.models import KnownModel
    from largeforge.hardware import Machine

LARGE_GPU_BYTES = 70 * GIB
PROMPT_SHARE = 0.75
"""Share of a request's tokens that are its prompt."""


@dataclass(frozen=True)
class Case:
    """One cell of the answer."""

    hardware: str
    title: str
    forecast: Forecast

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return {"hardware": self.hardware, "case": self.title, **self.forecast.as_dict()}


@dataclass(frozen=True)
class Training:
    """A training whose hardware and adapter are open; names are those of recipes."""

    method: str
    rank: int
    batch: int
    length: int
    checkpointing: bool
    optimizer: str
    precision: str
    """Empty for bf16 on a GPU and fp32 on a CPU."""
    gpus: int
    sharding: Strategy
    teacher: KnownModel | None = None
    accumulation: int = 1
    completion_length: int = 256
    """Of `length`, what is generated before each step (`grpo`)."""

    def on(self, model: KnownModel, hardware: str, machine: Machine, adapter: str) -> Case:
        """Return what it needs on hardware of that name, with `none`, `lora` or `qlora` as the adapter.

        Raises RecipeError for an optimizer that is not known.
        """
        assert model.shape is not None
        precision: Literal["fp32", "bf16"] = "fp32" if machine.device == "cpu" else "bf16"
        if self.precision:
            precision = "fp32" if self.precision == "fp32" else "bf16"
        trained = AdapterFootprint(rank=self.rank, base_weights="nf4" if adapter == "qlora" else "as_precision")
        load = TrainingLoad(
            shape=model.shape,
            method=self._method(),
            adapter=footprints.FULL if adapter == "none" else trained,
            sharding=Sharding(self.sharding, self.gpus),
            batch=self.batch,
            length=self.length,
            weights=precision,
            compute=precision,
            optimizer=self.optimizer,
            checkpointing=self.checkpointing,
            accumulation=self.accumulation,
            device=machine.device,
        )
        try:
            memory = training_memory(load)
        except ValueError as error:
            raise RecipeError([Problem("--optimizer", f"{error}.", given=repr(self.optimizer))]) from None
        title = {"none": "all weights", "lora": f"LoRA {self.rank}", "qlora": f"QLoRA {self.rank}"}[adapter]
        return Case(hardware, title, Forecast(memory=memory, usable_bytes=machine.usable_bytes))

    def _method(self) -> MethodFootprint:
        method: MethodFootprint = getattr(footprints, self.method.upper())
        if method.generations:
            method = replace(method, completion_length=self.completion_length)
        if self.teacher is not None and self.teacher.shape is not None:
            method = footprints.with_teacher(method, self.teacher.shape)
        if self.method == "distill" and method.teacher is None:
            raise RecipeError([Problem("--teacher", "is required: distill learns from another model.")])
        return method


def serving(model: KnownModel, hardware: str, machine: Machine, *, length: int, gpus: int) -> Case:
    """Return what vLLM with its defaults has room for, over `gpus` GPUs with tensor parallelism."""
    assert model.shape is not None
    known = model.weights in BASES or model.weights in BITS
    stored = model.weights if known else "bf16"
    weights = "fp32" if machine.device == "cpu" else "bf16" if stored == "fp32" else stored
    longest = min(length, model.shape.max_positions or length)
    server = Server(
        model.shape, weights=weights, max_model_len=longest, tensor_parallel_size=gpus, device=machine.device,
        max_num_seqs=default_num_seqs(machine),
    )  # fmt: skip
    found = serving_memory(server, usable_bytes=machine.usable_bytes, gpu=machine.gpu, num_gpus=machine.num_gpus)
    load = Load(max(1, round(longest * PROMPT_SHARE)), max(1, longest - round(longest * PROMPT_SHARE)))
    speed = Speed(server, machine.rates, in_flight_limit(server, found.sequences(longest)))
    spare = (found.num_blocks - 1 - found.cache.blocks(found.max_model_len)) * found.cache.block_bytes
    forecast = Forecast(
        memory=found.memory, usable_bytes=found.budget_bytes, spare_bytes=spare, refusal=found.problem,
        assumptions=() if known else (f"its weights are {model.weights}, and counted as bf16",),
        serving=ServingForecast(found, speed if speed.is_known else None, load, ()),
    )  # fmt: skip
    return Case(hardware, "vLLM", forecast)


def default_num_seqs(machine: Machine) -> int:
    """Return vLLM's own `max_num_seqs` (vllm/engine/arg_utils.py, `get_batch_defaults`)."""
    large = machine.device == "cuda" and machine.usable_bytes >= LARGE_GPU_BYTES
    return 1024 if large and "a100" not in machine.gpu.lower() else 256
