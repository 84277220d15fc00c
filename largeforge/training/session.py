"""What a training method is given, and how its trainer is run."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from largeforge.training import arguments, checkpoints, datasets, distributed, samples, saving, watcher, wrapping

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.schema import Adapter, Registry
    from largeforge.recipe.training import Learn, Split, TrainingMethod
    from largeforge.stages.context import Context
    from largeforge.stages.models import ResolvedModel


@dataclass
class Session:
    """What a method trains with; see `recipe.training.Training`."""

    context: Context
    method: TrainingMethod
    adapter: Adapter
    registry: Registry
    source: ResolvedModel
    """Files of the model that the training starts from."""
    launcher: dict[str, Any]
    model: Any
    tokenizer: Any
    prepared: datasets.Prepared
    """The rows of this job."""
    peft_config: Any
    seed: int
    device: str
    world_size: int

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; it survives an interruption."""
        return self.context.work / "checkpoints"

    def arguments(self, config: TrainingMethod) -> dict[str, Any]:
        """Return the keyword arguments that every trl config takes, for this device."""
        return arguments.arguments(config, device=self.device, seed=self.seed, folder=self.checkpoints)

    def tokenized(self, split: Split, *, learn: Learn = "completion") -> Any:
        """Return rows as token ids with labels; None for held-out rows that are not wanted."""
        return self.prepared.tokenized(split, learn=learn)

    def examples(self, split: Split) -> Any:
        """Return rows as trl's own columns; None for held-out rows that are not wanted."""
        return self.prepared.examples(split)

    def fit(self, trainer: Any) -> dict[str, float]:
        """Train from the newest trusted checkpoint, save, and return the final metrics."""
        answering = samples.callback(self.context, method=self.method, model=self.model, tokenizer=self.tokenizer)
        if answering is not None:
            trainer.add_callback(answering)
        watching = watcher.callback(self.context, device=self.device)
        trainer.add_callback(watching)
        trainer.add_callback(self._verification(trainer))
        resume = distributed.from_first(checkpoints.newest(self.checkpoints) if distributed.is_first() else None)
        if resume is not None:
            self.context.events.emit("note", text=f"continuing from {resume.name}")
        started = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        seconds = time.monotonic() - started
        saving.save_model(trainer, self.context.out)
        if distributed.is_first():
            self.tokenizer.save_pretrained(str(self.context.out))
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {
            "loss": float(losses[-1]),
            "steps": float(trainer.state.global_step),
            "train_seconds": round(seconds, 3),
            "tokens": float(trainer.state.num_input_tokens_seen),
            "tokens_per_s": round(watching.tokens_per_s(trainer.state), 1),
            "peak_memory_gib": round(peak_memory_bytes(self.device) / 2**30, 3),
        }

    def _verification(self, trainer: Any) -> Any:
        precision = arguments.compute_precision(self.method.precision, self.device)
        return wrapping.callback(
            trainer, launcher=self.launcher, world_size=self.world_size, device=self.device, precision=precision
        )


def peak_memory_bytes(device: str) -> float:
    """Return the most memory that this process has held: what torch reserved of a GPU, or resident on a CPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    import torch

    return float(torch.cuda.max_memory_reserved())
