"""What the runner adds to the progress of a training: how busy the hardware is, time and cost over all attempts.

A training process knows its steps; what its tokens cost in arithmetic, what the hardware could do and
what an hour of it costs are the plan's. MFU is that of Chowdhery et al. 2022 (arXiv:2204.02311, section
4.1): operations that the model needs for the tokens learnt from, recomputed activations not counted,
over the peak rate of all GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from largeforge import events
from largeforge.estimate.duration import peak_tflops, training_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from largeforge.plan import Plan, Stage

Event = dict[str, Any]

_GIB = 2**30


@dataclass(frozen=True)
class Figures:
    """What the plan knows of one training; 0 means unknown."""

    flops_per_token: float = 0.0
    """Recomputed activations not counted."""
    peak_flops_per_s: float = 0.0
    """Of all GPUs, or of the CPU."""
    usable_memory_gib: float = 0.0
    """Of one GPU, or of the machine."""
    price_per_hour: float = 0.0
    """US dollars for all that the training occupies."""


def enriched(plan: Plan, earlier: dict[str, float], sink: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a sink that completes the progress of trainings and passes every event on.

    `earlier` are the seconds that each stage has worked in attempts before this one.
    """
    known = {stage.name: figures(plan, stage) for stage in plan.stages if stage.kind == "train"}
    since: dict[str, float] = {}

    def complete(event: Event) -> None:
        name = event["stage"]
        if event["kind"] == "started":
            since[name] = event["time"]
        if event["kind"] == "progress" and name in known:
            so_far = earlier.get(name, 0.0) + event["time"] - since.get(name, event["time"])
            event = {**event, **additions(known[name], event, so_far)}
        sink(event)

    return complete


def figures(plan: Plan, stage: Stage) -> Figures:
    """Return what the plan knows of a training stage."""
    machine, forecast = plan.machine.share(stage.threads), plan.forecasts.get(stage.name)
    on_gpu = machine.device == "cuda"
    share = 1.0 if on_gpu else machine.cores / max(1, plan.machine.cores)
    if forecast is None or forecast.training is None:
        return Figures(price_per_hour=0.0 if on_gpu else machine.rates.price_per_hour * share)
    load, done = forecast.training.load, forecast.training.schedule
    gpus = load.sharding.gpus if on_gpu else 1
    needed = training_flops(replace(load, checkpointing=False), tokens=1, length=done.length if done else load.length)
    return Figures(
        flops_per_token=needed,
        peak_flops_per_s=peak_tflops(load, machine.rates) * 1e12 * gpus,
        usable_memory_gib=forecast.usable_bytes / _GIB,
        price_per_hour=machine.rates.price_per_hour * gpus * share,
    )


def additions(known: Figures, event: Event, so_far_s: float) -> Event:
    """Return the fields that complete a progress event."""
    found: Event = {"seconds_so_far": round(so_far_s, 1)}
    if known.usable_memory_gib:
        found["usable_memory_gib"] = round(known.usable_memory_gib, 2)
    tokens_per_s = event.get("tokens_per_s")
    if known.peak_flops_per_s and isinstance(tokens_per_s, int | float):
        found["mfu"] = float(f"{known.flops_per_token * tokens_per_s / known.peak_flops_per_s:.4g}")
    if known.price_per_hour:
        found["cost_usd"] = round(known.price_per_hour * so_far_s / 3600, 4)
        if isinstance(left := event.get("seconds_left"), int | float):
            found["cost_left_usd"] = round(known.price_per_hour * left / 3600, 4)
    return found


def earlier_seconds(path: Path) -> dict[str, float]:
    """Return how long each unfinished stage has worked so far, by the events of earlier attempts.

    An attempt whose runner was killed ends with its last event.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return _worked(event for line in lines if (event := events.decode(line)) is not None)
    except OSError:
        return {}


def _worked(recorded: Iterable[Event]) -> dict[str, float]:
    total: dict[str, float] = {}
    spans: dict[str, tuple[float, float]] = {}

    def close(name: str) -> None:
        start, end = spans.pop(name)
        total[name] = total.get(name, 0.0) + max(0.0, end - start)

    for event in recorded:
        name, kind, now = str(event["stage"]), event["kind"], event.get("time")
        if not isinstance(now, int | float):
            continue
        if kind == "run_started":
            for open_stage in list(spans):
                close(open_stage)
        elif kind == "started":
            spans[name] = (now, now)
        elif name in spans:
            spans[name] = (spans[name][0], now)
        if kind == "finished":
            spans.pop(name, None)
            total.pop(name, None)
    for open_stage in list(spans):
        close(open_stage)
    return total
