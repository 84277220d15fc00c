"""Trace a training step on fake tensors: every byte that torch would hand out, and none spent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, TrainerCallback

from scripts.benchmarks import _memory_point as points
from scripts.benchmarks._memory_cuda import emulated
from scripts.benchmarks._memory_tracker import LiveBytes

STEPS = 2
"""The optimizer's states exist from the first step on, so the second is the one that repeats."""


def trace(point: points.Point) -> dict[str, Any]:
    """Return `peak` in bytes and the peaks of the `phases` of a step, with their kinds."""
    live, config = LiveBytes(), points.config_of(point)

    def built(*_: Any, **__: Any) -> Any:
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[point.precision]
        model = points.architecture_of(point).from_config(config, dtype=dtype)
        live.mark(list(model.parameters()), "weights")
        return model

    def reference(*_: Any, **__: Any) -> Any:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        live.mark(list(model.parameters()), "reference")
        return model

    def fit(trainer: Any) -> None:
        live.mark([p for p in trainer.model.parameters() if p.requires_grad and point.lora_r], "adapter")
        trainer.add_callback(_Phases(live))
        trainer._get_train_sampler = lambda dataset=None: SequentialSampler(trainer.train_dataset)
        trainer.train()

    with (
        tempfile.TemporaryDirectory() as folder,
        patch("largeforge.methods._reference.copy", SimpleNamespace(deepcopy=reference)),
        patch.object(FakeTensorMode, "__deepcopy__", lambda self, memo: self, create=True),
        emulated(point.rows),
        FakeTensorMode(),
        live,
    ):
        points.run(point, built(), steps=STEPS, device="cpu", folder=Path(folder), fit=fit)
    steps = {phase: peak for phase, peak in live.peaks.items() if phase != "loading"}
    phases = {phase: {kind: size for kind, size in kinds.items() if size} for phase, (_, kinds) in steps.items()}
    return {"peak": max(peak for peak, _ in steps.values()), "phases": phases}


class _Phases(TrainerCallback):
    def __init__(self, live: LiveBytes):
        self.live = live

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.live.begin("forward/backward" if state.global_step else "first forward/backward")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.live.mark([p.grad for p in model.parameters() if p.grad is not None], "gradients")
        self.live.begin("optimizer step")

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.live.mark([list(values.values()) for values in optimizer.state.values()], "optimizer")
        self.live.begin("optimizer step")
