"""A transformers callback that reports progress and evaluations."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from largeforge.training.peak_memory import peak_memory_bytes
from largeforge.training.utilization import gpu_utilization

if TYPE_CHECKING:
    from largeforge.stages.context import Context

_SHOWN = {
    "step", "loss", "learning_rate", "grad_norm", "epoch", "num_input_tokens_seen", "num_tokens", "total_flos",
    "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss",
}  # fmt: skip
"""Keys of transformers' log that have a field of their own in the event, or say nothing of the method."""


def callback(context: Context, *, device: str) -> Any:
    """Return the callback."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = time.monotonic()
            self.first_step = 0
            self.first_tokens = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started, self.first_step = time.monotonic(), state.global_step
            self.first_tokens = state.num_input_tokens_seen
            for logs in state.log_history:
                kind = "progress" if "loss" in logs else "eval" if "eval_loss" in logs else ""
                if kind and context.recorded.get(kind, 0) < logs["step"]:
                    self.tell_again(logs, state)

        def tell_again(self, logs: dict[str, Any], state: Any) -> None:
            """Tell of a step before the checkpoint that is continued from, which nobody heard of: the runner died."""
            if "loss" not in logs:
                context.events.emit("eval", step=logs["step"], metrics=_numbers(logs))
                return
            context.events.emit(
                "progress", step=logs["step"], total=state.max_steps, unit="steps", **_told(logs),
                epoch=round(float(logs["epoch"]), 3), metrics=_numbers(logs),
            )  # fmt: skip

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            seconds = self._seconds()
            steps = max(state.global_step - self.first_step, 1)
            context.events.emit(
                "progress", step=state.global_step, total=state.max_steps, unit="steps", **_told(logs),
                epoch=round(float(state.epoch or 0), 3),
                tokens=int(state.num_input_tokens_seen), tokens_per_s=round(self.tokens_per_s(state), 1),
                seconds=round(seconds, 1),
                seconds_left=round(seconds / steps * (state.max_steps - state.global_step), 1),
                memory_gib=round(peak_memory_bytes(device) / 2**30, 3),
                metrics=_numbers(logs), **_utilization(device),
            )  # fmt: skip

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **_: Any) -> None:
            context.events.emit("eval", step=state.global_step, metrics=_numbers(metrics))

        def tokens_per_s(self, state: Any) -> float:
            """Return the tokens learnt from in a second since this process began or continued."""
            return float(state.num_input_tokens_seen - self.first_tokens) / self._seconds()

        def _seconds(self) -> float:
            return max(time.monotonic() - self.started, 1e-6)

    return Watcher()


def _utilization(device: str) -> dict[str, float]:
    known = gpu_utilization(device)
    return {} if known is None else {"gpu_utilization": known}


def _told(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(logs.get(name, 0.0)) for name in ("loss", "learning_rate", "grad_norm")}


def _numbers(logs: dict[str, Any]) -> dict[str, float]:
    """Return what else a log says that is a number."""
    return {
        key: float(value)
        for key, value in logs.items()
        if key not in _SHOWN and isinstance(value, int | float) and math.isfinite(value)
    }
