"""What all quantizers share: their settings, what they are given, and why vLLM could not serve what they make.

A quantizer is one module in `largeforge/quantizers/` with

    Config(Quantizer)                its settings
    ENVIRONMENT                      name of the environment that it runs in; empty when it needs no packages
    BITS                             bits of a quantized weight, scales not counted
    calibrated(config)               whether it reads training rows
    unservable(config, target)       yields why vLLM could not serve the result there; pure, without torch
    quantize(config, job)            writes config.json and weights; runs in a process of that environment
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field

from largeforge.recipe import extensions
from largeforge.recipe.base import Extension, Strict

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.recipe.schema import Job

NONE = "none"
"""The choice that keeps a model as it is."""
_SHARED = ("calibration_rows", "calibration_length", "acceptance")


class Acceptance(Strict):
    """What a quantized model must show beside the original before it takes its place.

    Both are served by vLLM on the target hardware and asked the same, in turns.
    """

    margin: float = Field(default=0.02, ge=0)
    """How much may be lost of the log-probability that the model gives to the answers of held-out rows, in nats a
    token; the interval of the loss must lie below it."""
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    """Share of greedy answers that must be the original's, word for word."""
    judged_rows: int = Field(default=200, ge=5)
    """Held-out rows to compare on, at most."""
    max_new_tokens: int = Field(default=64, gt=0)
    """Tokens of a greedy answer."""
    max_size_ratio: float = Field(default=1.0, gt=0)
    """Size of the weights on disk, as a share of the original's, that it must be below; not asked of what is quantized
    only as it is loaded."""
    max_memory_ratio: float = Field(default=1.0, gt=0)
    """Memory of the server, as a share of the original's, that it must be below: of its weights on a GPU, of the whole
    process on a CPU."""
    min_speed_ratio: float = Field(default=1.0, ge=0)
    """Generated tokens a second, as a multiple of the original's, that it must be above."""
    rounds: int = Field(default=11, ge=3)
    """Rounds of generation of each, in turns; of eleven, two that something else disturbed change nothing."""
    concurrency: int = Field(default=16, gt=0)
    """Requests in flight while the speed is measured."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the intervals that losses and speeds are judged by."""


class Quantizer(Extension):
    """Settings of every quantizer."""

    fallback: list[str] = []
    """Choices to try with their own settings, one after the other, when this one is refused; `none` keeps the model
    as it is. When the last one is refused, the run ends with exit code 3."""
    calibration_rows: int = Field(default=256, gt=0)
    """Training rows that it is calibrated with, drawn by their hash; a quantizer without calibration reads none."""
    calibration_length: int = Field(default=512, gt=0)
    """Tokens of such a row that are read, at most."""
    acceptance: Acceptance = Acceptance()
    """What the result must show."""


@dataclass(frozen=True)
class Target:
    """Where the result is going to be served."""

    device: str
    shape: Shape | None = None
    """Widths of the model; None where they are not known, and then nothing is said of them."""
    compute_capability: float = 0.0
    """Of an NVIDIA GPU, such as 8.9; 0 where it is not known or has none."""
    tensor_parallel_size: int = 1
    other_vllm: bool = False
    """Whether an interpreter is named whose vLLM is not the one that was looked into."""
    avx512: bool = True
    """Whether a CPU has vectors of 512 bits."""


@dataclass(frozen=True)
class QuantizingJob:
    """What a quantizer is given in its process."""

    model: str
    """Folder of the original."""
    out: str
    """Folder for the result."""
    device: str
    rows: Sequence[Sequence[int]] = ()
    """Token ids to calibrate with."""
    note: Callable[[str], None] = field(default=lambda text: None)


def no_kernel(target: Target, *, below: float, what: str) -> Iterator[str]:
    """Yield why a GPU is too old for the kernels that vLLM has."""
    if target.device == "cuda" and 0 < target.compute_capability < below:
        has = f"this GPU has {target.compute_capability:g}"
        yield f"vLLM serves {what} from compute capability {below:g} on, and {has}"


def undivided(target: Target, *, inputs: int, outputs: int = 1) -> Iterator[str]:
    """Yield the linear layers whose widths, on each of the GPUs that share them, are no multiples of two numbers."""
    if target.shape is None:
        return
    for linear in target.shape.linears:
        rows, columns = linear.inputs, linear.outputs
        if target.tensor_parallel_size > 1:  # vLLM splits these along their input, all others along their output
            along_input = linear.name in ("o_proj", "down_proj")
            rows = rows // target.tensor_parallel_size if along_input else rows
            columns = columns if along_input else columns // target.tensor_parallel_size
        if rows % inputs:
            yield f"{linear.name} has {rows} inputs, which {inputs} does not divide"
        if columns % outputs:
            yield f"{linear.name} has {columns} outputs, which {outputs} does not divide"


def is_quantized(job: Job) -> bool:
    """Whether the recipe asks for a job's model to be quantized."""
    return job.quantization is not None and job.quantization.name != NONE


def settings_of(given: Quantizer) -> list[dict[str, Any]]:
    """Return the settings of a recipe's choice and of each after it, in the order in which they are tried.

    Those after it have their own settings; how they are calibrated and judged is said once, by the first.
    """
    shared = {key: value for key, value in given.model_dump(mode="json").items() if key in _SHARED}
    found = [given.model_dump(mode="json")]
    for name in given.fallback:
        own = extensions.load("quantization", name).Config().model_dump(mode="json")
        found.append({key: shared.get(key, value) for key, value in own.items()})
    return found


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what is made, without those that decide whether it is kept."""
    return {key: value for key, value in config.items() if key not in ("fallback", "acceptance")}
