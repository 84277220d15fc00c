"""A transformers callback that reports progress and seals checkpoints."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.training import checkpoints, distributed

if TYPE_CHECKING:
    from largeforge.stages.context import Context

_SHOWN = {"loss", "learning_rate", "grad_norm", "epoch", "num_input_tokens_seen", "num_tokens", "total_flos"}
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

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise StageError(
                    f"the loss became {loss} at step {state.global_step}: lower method.learning_rate "
                    "or method.max_grad_norm; the last checkpoint is kept"
                )
            seconds = self._seconds()
            steps = max(state.global_step - self.first_step, 1)
            context.events.emit(
                "progress", step=state.global_step, total=state.max_steps, unit="steps", loss=loss,
                learning_rate=float(logs.get("learning_rate", 0.0)), grad_norm=float(logs.get("grad_norm", 0.0)),
                epoch=round(float(state.epoch or 0), 3),
                tokens=int(state.num_input_tokens_seen), tokens_per_s=round(self.tokens_per_s(state), 1),
                seconds=round(seconds, 1),
                seconds_left=round(seconds / steps * (state.max_steps - state.global_step), 1),
                memory_gib=round(_peak_memory_gib(device), 3),
                metrics=_numbers(logs),
            )  # fmt: skip

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **_: Any) -> None:
            context.events.emit("eval", step=state.global_step, metrics=_numbers(metrics))

        def tokens_per_s(self, state: Any) -> float:
            """Return the tokens learnt from in a second since this process began or continued."""
            return float(state.num_input_tokens_seen - self.first_tokens) / self._seconds()

        def _seconds(self) -> float:
            return max(time.monotonic() - self.started, 1e-6)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            distributed.wait_for_all()  # each process writes a part
            if distributed.is_first():
                checkpoints.seal(context.work / "checkpoints" / f"checkpoint-{state.global_step}")

    return Watcher()


def _numbers(logs: dict[str, Any]) -> dict[str, float]:
    """Return what else a log says that is a number."""
    return {
        key: float(value)
        for key, value in logs.items()
        if key not in _SHOWN and isinstance(value, int | float) and math.isfinite(value)
    }


def _peak_memory_gib(device: str) -> float:
    from largeforge.training.session import peak_memory_bytes

    return peak_memory_bytes(device) / 2**30
