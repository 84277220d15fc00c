"""What quantizing a job's model needs of the host's memory and of the disk, roughly.

The tools hold the model in memory as it is stored, and the activations of all calibration rows at one layer; GPTQ also
a Hessian for each linear layer of one block. They hand a GPU one layer at a time, so that its memory is no limit. vLLM
comes after them, with both models at once only where they fit. Time is not forecast: the tools differ too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge import processor
from largeforge.estimate.memory import GIB, Memory, bytes_per_value
from largeforge.estimate.overhead import process_bytes
from largeforge.forecast.stage import Forecast
from largeforge.recipe import extensions
from largeforge.recipe.quantization import Quantizer, settings_of

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.models import Models
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Job, Recipe

HOST_UNKNOWN = "a model is quantized in the host's memory, and how much the machine with that GPU has is not known"
_SERVER_BYTES = 1.5 * GIB
"""A vLLM server on a CPU besides weights and KV cache."""
_ROUGHLY = "quantizing is forecast roughly: what the tools hold of a model, its calibration rows and one block"


def forecast(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what the stage needs at most, over all of the job's choices."""
    job = recipe.training_jobs[name]
    known = models.of(job.model)
    given = job.quantization
    if known.shape is None or not isinstance(given, Quantizer):
        return Forecast()
    stored = bytes_per_value(known.weights if known.weights in ("fp32", "bf16", "fp16") else "bf16")
    size = known.shape.parameters * float(stored)
    disk = size + sum(_made(known.shape, float(stored), choice["name"]) for choice in settings_of(given))
    memory = Memory({"quantizing": _tool(known.shape, job, size), "serving": _server(recipe, machine, known.shape)})
    if machine.device == "cpu":
        return Forecast(memory=memory, usable_bytes=machine.usable_bytes, disk_bytes=disk, assumptions=(_ROUGHLY,))
    if not machine.is_here:
        return Forecast(memory=memory, disk_bytes=disk, assumptions=(HOST_UNKNOWN,))
    usable = processor.memory_limit_gib() * GIB
    return Forecast(memory=memory, usable_bytes=usable, disk_bytes=disk, assumptions=(_ROUGHLY,))


def _tool(shape: Shape, job: Job, size: float) -> dict[str, float]:
    given = job.quantization
    assert isinstance(given, Quantizer)
    rows = given.calibration_rows * min(given.calibration_length, job.method.max_length)
    calibrated = any(
        module.calibrated(module.Config(**choice))
        for choice in settings_of(given)
        for module in [extensions.load("quantization", choice["name"])]
    )
    widest = max((linear.inputs for linear in shape.linears), default=0)
    hessians = 4.0 * 4.0 * widest**2 if calibrated else 0.0
    return {
        "weights": size, "activations": (8.0 * rows * shape.hidden_size if calibrated else 0.0) + hessians,
        "overhead": process_bytes("cpu"),
    }  # fmt: skip


def _server(recipe: Recipe, machine: Machine, shape: Shape) -> dict[str, float]:
    """Return what the original's server needs of the host; on a GPU its weights are not there."""
    if machine.device != "cpu":
        return {"overhead": _SERVER_BYTES}
    cache = float(recipe.serving.cpu_kvcache_gib) * GIB
    return {"weights": 4.0 * shape.parameters, "kv_cache": cache, "overhead": _SERVER_BYTES}


def _made(shape: Shape, stored: float, name: str) -> float:
    """Return the bytes of a quantized model: its linear layers in few bits, with scales, and the rest as it was."""
    bits = float(extensions.load("quantization", name).BITS)
    linear = float(sum(one.weights for one in shape.linears))
    return linear * bits / 8 * 1.05 + (shape.parameters - linear) * stored if bits else 0.0
