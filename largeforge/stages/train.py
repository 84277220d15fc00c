"""Train: load, hand to the method, keep checkpoints, report, save.

Runs inside the launcher's worker process. What the launcher made of the plan is verified, since
accelerate falls back silently to fewer processes.
"""

from __future__ import annotations

import math
import os
import resource
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from largeforge.data import lengths
from largeforge.data.rows import read_rows
from largeforge.errors import StageError
from largeforge.recipe import extensions
from largeforge.recipe.base import Strict
from largeforge.recipe.schema import Adapter, Method, Registry
from largeforge.stages import checkpoints
from largeforge.stages.context import Result
from largeforge.stages.loading import Base, load_model, load_tokenizer, render

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.training import TrainingMethod
    from largeforge.stages.context import Context


class Config(Strict):
    """One training."""

    reference: str
    registry: Registry
    method: Method
    adapter: Adapter
    seed: int
    device: str
    world_size: int


def run(config: Config, context: Context) -> Result:
    """Train and write the model or adapter with its tokenizer."""
    _verify_world_size(config)
    method = extensions.load("method", config.method.name)
    adapter = extensions.load("adapter", config.adapter.name)
    context.events.emit("note", text="loading libraries and model")
    source = Base(config.reference, config.registry).resolve(context)
    tokenizer = load_tokenizer(source)
    rows = read_rows(context.inputs["data"] / "train.jsonl")
    statistics = lengths.check(rows, _counter(tokenizer), config.method.max_length)
    training = Training(
        config=config,
        context=context,
        model=load_model(source, device=config.device, precision=config.method.precision),
        tokenizer=tokenizer,
        peft_config=adapter.peft_config(config.adapter),
        rows=[{key: value for key, value in row.items() if key != "source"} for row in rows],
        checkpoints=context.work / "checkpoints",
    )
    metrics = method.run(config.method, training)
    info = {"token_lengths": asdict(statistics), "base": source.reference, "resolved": source.identity()}
    return Result(metrics=metrics, info=info)


@dataclass
class Training:
    """What a method trains with; see `recipe.training.Training`."""

    config: Config
    context: Context
    model: Any
    tokenizer: Any
    peft_config: Any
    rows: list[dict[str, Any]]
    checkpoints: Path

    def arguments(self, config: TrainingMethod) -> dict[str, Any]:
        """Return the keyword arguments that every trl config takes, for this device."""
        on_gpu = self.config.device == "cuda"
        same = (
            "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps", "optim",
            "per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "max_grad_norm",
            "logging_steps", "save_steps", "save_total_limit",
        )  # fmt: skip
        return {
            **{name: getattr(config, name) for name in same},
            "output_dir": str(self.checkpoints),
            "use_cpu": not on_gpu,
            "bf16": on_gpu if config.precision == "auto" else config.precision == "bf16",
            "gradient_checkpointing": {"auto": on_gpu, "on": True, "off": False}[config.gradient_checkpointing],
            "seed": self.config.seed,
            "data_seed": self.config.seed,
            "save_strategy": "steps",
            "save_only_model": False,
            "ignore_data_skip": False,
            "logging_first_step": True,
            "include_num_input_tokens_seen": "non_padding",
            "report_to": "none",
            "disable_tqdm": True,
        }

    def fit(self, trainer: Any) -> dict[str, float]:
        """Train from the newest trusted checkpoint, save, and return the final metrics."""
        watcher = _watcher(self.context)
        trainer.add_callback(watcher)
        resume = checkpoints.newest(self.checkpoints)
        if resume is not None:
            self.context.events.emit("note", text=f"continuing from {resume.name}")
        started = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        seconds = time.monotonic() - started
        if trainer.is_world_process_zero():
            trained = trainer.accelerator.unwrap_model(trainer.model)
            trained.config.use_cache = True  # off in training; whoever generates with the files wants it on
            trained.save_pretrained(str(self.context.out))
            self.tokenizer.save_pretrained(str(self.context.out))
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {
            "loss": float(losses[-1]),
            "steps": float(trainer.state.global_step),
            "train_seconds": round(seconds, 3),
            "tokens": float(trainer.state.num_input_tokens_seen),
            "tokens_per_s": round(watcher.tokens_per_s(trainer.state), 1),
            "peak_memory_gib": round(_peak_memory_bytes(self.config.device) / 2**30, 3),
        }


def _peak_memory_bytes(device: str) -> float:
    """Return the most memory that this process has held: what torch reserved of a GPU, or resident on a CPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    import torch

    return float(torch.cuda.max_memory_reserved())


def _verify_world_size(config: Config) -> None:
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != config.world_size:
        raise StageError(f"the launcher started {found} processes where the plan has {config.world_size}")


def _counter(tokenizer: Any) -> Any:
    def count(row: dict[str, Any]) -> int:
        if "messages" in row:
            return len(render(tokenizer, row["messages"], generation_prompt=False))
        sides = (row["prompt"] + row[side] for side in ("chosen", "rejected"))
        return max(len(render(tokenizer, messages, generation_prompt=False)) for messages in sides)

    return count


def _watcher(context: Context) -> Any:
    """Return a transformers callback that reports progress and seals checkpoints."""
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
                tokens_per_s=round(self.tokens_per_s(state), 1),
                seconds_left=round(seconds / steps * (state.max_steps - state.global_step), 1),
            )  # fmt: skip

        def tokens_per_s(self, state: Any) -> float:
            """Return the tokens learnt from in a second since this process began or continued."""
            return float(state.num_input_tokens_seen - self.first_tokens) / self._seconds()

        def _seconds(self) -> float:
            return max(time.monotonic() - self.started, 1e-6)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                checkpoints.seal(context.work / "checkpoints" / f"checkpoint-{state.global_step}")

    return Watcher()
