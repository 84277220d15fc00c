"""The events of trainings that nobody ran: all figures that a training on a GPU tells, without randomness."""

from __future__ import annotations

import math
from typing import Any

START = 1763690000.0
Event = dict[str, Any]


def event(kind: str, time: float = 0.0, stage: str = "train", **fields: Any) -> Event:
    """Return an event some seconds after the start."""
    return {"time": round(START + time, 3), "stage": stage, "kind": kind, **fields}


def started(*stages: str, recipe: str = "sft_qwen7b") -> Event:
    """Return the event that a run begins with."""
    return event(
        "run_started", stage="", recipe=recipe, description="Fine-tune a 7B model with LoRA", stages=list(stages),
        run_dir=f"runs/{recipe}/20251121T015320-3f9ac2d1", digest="3f9ac2d1b7e04c55a1", command="python -m largeforge",
    )  # fmt: skip


def training(
    stage: str = "train", *, steps: int = 500, until: int | None = None, every: int = 10, at: float = 10.0
) -> list[Event]:
    """Return what a training tells from its start to step `until`, one step a second."""
    found = [event("started", at, stage, title="sft of qwen2_5_7b_instruct")]
    for step in range(every, (until or steps) + 1, every):
        found.append(progress(stage, step, steps, at))
        if step % 50 == 0:
            loss = 0.9 + 2.4 * math.exp(-step / 120)
            metrics = {"eval_loss": loss, "eval_runtime": 1.2, "eval_mean_token_accuracy": 1 - loss / 5}
            found.append(event("eval", at + step, stage, step=step, metrics=metrics))
        if step % 100 == 0:
            best = {"best": step <= 300}
            found.append(event("checkpoint", at + step, stage, step=step, path=f"checkpoint-{step}", **best))
            for number in (1, 2):
                text = f"Answer {number} after {step} steps."
                asked = {"prompt": f"Question {number}?", "text": text, "reference": f"The answer {number}."}
                found.append(event("sample", at + step, stage, step=step, **asked))
    return found


def progress(stage: str, step: int, steps: int, at: float = 10.0) -> Event:
    """Return the progress at a step, as the runner passes it on."""
    loss = 0.8 + 2.5 * math.exp(-step / 100) + 0.05 * math.sin(step)
    return event(
        "progress", at + step, stage, step=step, total=steps, unit="steps", loss=loss,
        learning_rate=2e-5 * (1 - step / (steps + 1)), grad_norm=1.2 + math.sin(step) / 4,
        epoch=round(3 * step / steps, 3),
        tokens_per_s=12_400.0 + 300 * math.sin(step / 9), seconds=float(step), seconds_left=float(steps - step),
        memory_gib=round(61.2 - 6 * math.exp(-step / 20), 2), gpu_utilization=0.97,
        metrics={
            "mean_token_accuracy": 0.4 + 0.3 * (1 - math.exp(-step / 150)), "entropy": 1.4 - step / 1000,
            "train_runtime": 3.0,
        },
        usable_memory_gib=79.18, mfu=0.412, seconds_so_far=float(step), cost_usd=step / 1000,
        cost_left_usd=(steps - step) / 1000,
    )  # fmt: skip
