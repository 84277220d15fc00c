"""How long a training takes, and what that costs.

    done = schedule(lengths, rows=10_000, batch=4, epochs=3)
    hours = training_hours(load, done, machine.rates)                    from the hardware's profile
    hours = training_hours(load, done, machine.rates, achieved=...)      from earlier runs (largeforge.rates)
    price = cost(hours, machine.rates, gpus=1)

From a profile, a pass takes as long as its arithmetic, as reading the weights, or as launching its
kernels, whichever is longest; what cannot be hidden of the exchange between GPUs comes on top. From
earlier runs, the arithmetic divided by the rate that they reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.estimate.adapters import adapter_parameters, base_bytes, expert_targets
from largeforge.estimate.flops import (
    attention_flops_per_token,
    decode_flops,
    forward_flops_per_token,
    matmul_flops_per_token,
)
from largeforge.estimate.memory import bytes_per_value
from largeforge.estimate.ranges import Range

if TYPE_CHECKING:
    from largeforge.estimate.load import TrainingLoad
    from largeforge.estimate.schedule import Schedule
    from largeforge.estimate.shape import Shape
    from largeforge.hardware import Rates


@dataclass(frozen=True)
class Utilization:
    """What a training reaches of a device's peak rates."""

    arithmetic: float
    """Share of the peak arithmetic rate, recomputed activations counted as work."""
    bandwidth: float
    launch_s: float
    """Time to launch the kernels of one layer in one pass, forward or backward."""
    hidden: float
    """Share of the exchange between GPUs that happens behind arithmetic."""
    start_s: float
    """From the start of the process to the first step, weights not counted."""
    disk_bytes_per_s: float
    """Reading weights and writing checkpoints."""


GPU = (
    Utilization(0.15, 0.5, launch_s=0.9e-3, hidden=0.0, start_s=60, disk_bytes_per_s=0.3e9),
    Utilization(0.36, 0.7, launch_s=0.5e-3, hidden=0.7, start_s=25, disk_bytes_per_s=1.0e9),
    Utilization(0.55, 0.9, launch_s=0.3e-3, hidden=1.0, start_s=12, disk_bytes_per_s=3.0e9),
)
"""Slow, expected, fast. Well tuned pretraining reaches 38 to 43 % of an H100's bf16 rate (Llama Team 2024,
arXiv:2407.21783, table 4) and 46 % of a TPU's (Chowdhery et al. 2022, section 4.1), recomputation not
counted; fine-tuning with unfused kernels and short rows stays below."""
CPU = (
    Utilization(0.06, 0.3, launch_s=6e-3, hidden=0.0, start_s=20, disk_bytes_per_s=0.2e9),
    Utilization(0.18, 0.5, launch_s=2e-3, hidden=0.0, start_s=10, disk_bytes_per_s=0.5e9),
    Utilization(0.50, 0.8, launch_s=1e-3, hidden=0.0, start_s=6, disk_bytes_per_s=2.0e9),
)
"""Fitted to a model of 0.8 million parameters that is trained on one and on two cores (docs/hardware.md)."""
DEQUANTIZE = 1.5
"""Times as long as in bf16 that arithmetic with 4-bit weights takes, since each pass unpacks them first (Dettmers
et al., arXiv:2305.14314, section 3); an allowance."""
OPTIMIZER_BYTES = 28
"""Bytes that AdamW in fp32 moves for each trained parameter: reads weight, gradient and two moments, writes three."""


def training_flops(load: TrainingLoad, *, tokens: float, length: float) -> float:
    """Return all operations of a training over `tokens` tokens in sequences of `length`.

    A forward pass; twice that backward, or once in frozen layers; once more where layers recompute; a forward
    pass of the reference and of the teacher (`flops.forward_flops_per_token` has the sources).
    """
    shape, method, adapter = load.shape, load.method, load.adapter
    size = max(1, round(length))
    linear = matmul_flops_per_token(shape, head=method.logits != "none")
    attention = attention_flops_per_token(shape, size)
    per_token = 3.0 * (linear + attention) if adapter.trains_all else 2.0 * linear + 3.0 * attention
    if not adapter.trains_all:
        per_token += 6.0 * adapter_parameters(load.shape, load.adapter)
    if load.checkpointing:
        per_token += forward_flops_per_token(shape, size, head=False)
    if method.reference:
        per_token += linear + attention
    if method.teacher is not None:
        per_token += forward_flops_per_token(method.teacher, size)
    return per_token * tokens


def training_hours(
    load: TrainingLoad,
    done: Schedule,
    rates: Rates,
    *,
    achieved: Range | None = None,
    checkpoint_bytes: float = 0.0,
    num_checkpoints: int = 0,
) -> Range | None:
    """Return the hours from the start of the stage to its end; None when nothing is known to compute with.

    `achieved` is the FLOP/s of one GPU that earlier runs reached over tokens without padding.
    """
    cases = CPU if load.device == "cpu" else GPU
    if achieved is not None:
        useful = training_flops(load, tokens=done.tokens, length=done.length) / load.sharding.gpus
        working = [useful / rate for rate in (achieved.low, achieved.expected, achieved.high)]
    elif peak_tflops(load, rates):
        working = [_steps_s(load, done, rates, case) for case in cases]
    else:
        return None
    weights = _weights_bytes(load)
    moved = weights + checkpoint_bytes * num_checkpoints
    slow, expected, fast = (
        (seconds + case.start_s + moved / case.disk_bytes_per_s) / 3600
        for seconds, case in zip(working, cases, strict=True)
    )
    return Range(*sorted((slow, expected, fast)))


def cost(hours: Range, rates: Rates, *, gpus: int = 1) -> Range | None:
    """Return what the hours cost in US dollars; None without a price. `gpus` is 1 for a CPU."""
    return hours * (gpus * rates.price_per_hour) if rates.price_per_hour else None


def peak_tflops(load: TrainingLoad, rates: Rates) -> float:
    """Return the peak rate of one GPU, or of the CPU, in the precision of the training; 0 where it is not known."""
    if load.device == "cpu" or load.compute == "fp32":
        return rates.fp32_tflops
    return rates.bf16_tflops


def _steps_s(load: TrainingLoad, done: Schedule, rates: Rates, case: Utilization) -> float:
    """Return the time of all steps on each GPU."""
    per_gpu = load.sharding.gpus
    flops = training_flops(load, tokens=done.padded_tokens, length=done.length) / per_gpu
    slower = DEQUANTIZE if load.adapter.base_weights == "nf4" else 1.0
    arithmetic = flops * slower / (peak_tflops(load, rates) * 1e12 * case.arithmetic)
    passes = 3 + load.checkpointing + load.method.reference
    launching = done.micro_steps * passes * load.shape.layers * case.launch_s
    bandwidth = (rates.bandwidth_gb_per_s or 50.0) * 1e9 * case.bandwidth
    reading = done.micro_steps * passes * _weights_bytes(load) / bandwidth
    merging = done.micro_steps * passes * _merged_bytes(load) / bandwidth
    computing = max(arithmetic, launching, reading) + merging
    exchange = _exchange_s(load, done, rates)
    exposed = max(0.0, exchange - case.hidden * computing)
    updating = done.steps * _trained(load) * OPTIMIZER_BYTES * load.sharding.optimizer_share / bandwidth
    return computing + exposed + updating + _generation_s(load, done, rates, case)


def _merged_bytes(load: TrainingLoad) -> float:
    """Return what adapting the experts of a mixture moves in a pass.

    peft adds the product of its factors to a copy of the weights (`peft/tuners/lora/layer.py`, `ParamWrapper`): weights
    and product are read, both are written.
    """
    return sum(4 * 2.0 * layer.parameters for layer, _ in expert_targets(load.shape, load.adapter))


def _exchange_s(load: TrainingLoad, done: Schedule, rates: Rates) -> float:
    """Return the time that GPUs exchange: gradients once a step, and sharded weights in each pass.

    A ring moves 2 (n - 1) / n of the data for a sum, half of that to gather (Rajbhandari et al.,
    arXiv:1910.02054, section 7).
    """
    gpus = load.sharding.gpus
    if gpus == 1:
        return 0.0
    link = (rates.link_gb_per_s or 16.0) * 1e9
    share = (gpus - 1) / gpus
    gradients = 2 * share * _trained(load) * 2 * done.steps
    gathered = 0.0
    if load.sharding.weights_share < 1:
        gathered = (2 + load.checkpointing) * share * _weights_bytes(load) * done.micro_steps
    return (gradients + gathered) / link


def _generation_s(load: TrainingLoad, done: Schedule, rates: Rates, case: Utilization) -> float:
    """Return the time to generate answers with transformers: one token of the whole batch after the other."""
    method = load.method
    if not method.generations:
        return 0.0
    bandwidth = (rates.bandwidth_gb_per_s or 50.0) * 1e9 * case.bandwidth
    cache = load.shape.kv_bytes(round(done.length), 2.0) * done.batch
    reading = (_weights_bytes(load) + cache) / bandwidth
    flops = done.batch * decode_flops(load.shape, round(done.length))
    arithmetic = flops / (peak_tflops(load, rates) * 1e12 * case.arithmetic)
    step = max(reading, arithmetic, load.shape.layers * case.launch_s)
    return done.micro_steps * method.generated_share * method.completion_length * step


def _weights_bytes(load: TrainingLoad) -> float:
    return base_bytes(load.shape, load.adapter, bytes_per_value(load.weights))


def _trained(load: TrainingLoad) -> float:
    return float(load.shape.parameters if load.adapter.trains_all else adapter_parameters(load.shape, load.adapter))


def shape_key(shape: Shape) -> str:
    """Return what tells models apart whose steps take differently long."""
    return f"{shape.model_type}-{shape.parameters}-{shape.layers}x{shape.hidden_size}"
