"""What a training method is given, and how its trainer is run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.recipe import further_models
from largeforge.signals import Signals
from largeforge.training import arguments, datasets, distributed, samples, saving, watcher, wrapping
from largeforge.training.checkpoints import Store
from largeforge.training.clock import Clock
from largeforge.training.keeping import Keeper
from largeforge.training.other_models import OtherModel, OtherModels
from largeforge.training.peak_memory import peak_memory_bytes

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
    has_begun: bool = False
    """Whether the method has its trainer, and trains."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; it survives an interruption."""
        return self.context.work / "checkpoints"

    def arguments(self, config: TrainingMethod) -> dict[str, Any]:
        """Return the keyword arguments that every trl config takes, for this device."""
        return arguments.arguments(
            config, device=self.device, seed=self.seed, folder=self.checkpoints, evaluates=self._evaluates(config)
        )

    def _evaluates(self, config: TrainingMethod) -> bool:
        heldout = self.context.inputs["data"] / "heldout.jsonl"
        found = heldout.is_file() and heldout.stat().st_size > 0
        if config.eval_steps and not found and (config.load_best_model_at_end or config.early_stopping_patience):
            raise StageError("there are no held-out rows by which the best model could be told")
        return config.eval_steps > 0 and found

    def tokenized(self, split: Split, *, learn: Learn = "completion") -> Any:
        """Return rows as token ids with labels; None for held-out rows that are not wanted."""
        return self.prepared.tokenized(split, learn=learn)

    def examples(self, split: Split) -> Any:
        """Return rows as trl's own columns; None for held-out rows that are not wanted."""
        return self.prepared.examples(split)

    @cached_property
    def others(self) -> OtherModels:
        """The further models of this training, loaded as they are asked for."""
        precision = arguments.compute_precision(self.method.precision, self.device)
        named = further_models.of_settings("method", self.method)
        return OtherModels(self.context, self.registry, named, device=self.device, precision=precision)

    def other_model(self, reference: str, *, precision: str = "auto") -> OtherModel:
        """Return a further model that the method's settings name, frozen."""
        return self.others.get(reference, precision=precision)

    def fit(self, trainer: Any) -> dict[str, float]:
        """Train from the newest trusted checkpoint, save, and return the final metrics."""
        self.has_begun = True
        answering = samples.callback(self.context, method=self.method, model=self.model, tokenizer=self.tokenizer)
        if answering is not None:
            trainer.add_callback(answering)
        with Signals() as signals:
            keeper = Keeper(
                trainer, store=Store(self.checkpoints, self.method.save_total_limit),
                clock=Clock(self.context.work / "clock.json"), signals=signals, method=self.method,
                context=self.context,
            )  # fmt: skip
            keeper.install()
            for callback in (watcher.callback(self.context, device=self.device), self._verification(trainer)):
                trainer.add_callback(callback)
            resume = keeper.resume()
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            keeper.finish()
        saving.save_model(trainer, self.context.out)
        if distributed.is_first():
            self.tokenizer.save_pretrained(str(self.context.out))
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        tokens = float(trainer.state.num_input_tokens_seen)
        return {
            "loss": float(losses[-1]),
            "steps": float(trainer.state.global_step),
            "train_seconds": round(keeper.clock.seconds(), 3),
            "tokens": tokens,
            "tokens_per_s": round(tokens / max(keeper.useful_s, 1e-6), 1),
            "peak_memory_gib": round(peak_memory_bytes(self.device) / 2**30, 3),
            **keeper.best,
        }

    def _verification(self, trainer: Any) -> Any:
        precision = arguments.compute_precision(self.method.precision, self.device)
        return wrapping.callback(
            trainer, launcher=self.launcher, world_size=self.world_size, device=self.device, precision=precision
        )
