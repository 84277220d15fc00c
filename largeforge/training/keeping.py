"""Make a trainer keep its checkpoints as `checkpoints.py` does, continue from them exactly, and end by `limits.py`.

transformers' Trainer is changed in two places, on the instance: `_save_checkpoint` writes into a folder aside that is
sealed and renamed once every process has written its part, and `_run_epoch` does nothing where the checkpoint that
is continued from is that of the last step (transformers 5.19 would train one step more).
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.training import apart, best, checkpoints, distributed, failures, running
from largeforge.training.limits import Limits, Stop
from largeforge.training.soundness import Soundness

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.training import TrainingMethod
    from largeforge.signals import Signals
    from largeforge.stages.context import Context
    from largeforge.training.checkpoints import Store
    from largeforge.training.clock import Clock


class Keeper:
    """Looks after one training: `install`, `resume`, then the trainer's own `train`, then `finish`."""

    def __init__(
        self, trainer: Any, *, store: Store, clock: Clock, signals: Signals, method: TrainingMethod, context: Context
    ):
        self.trainer, self.store, self.clock, self.signals = trainer, store, clock, signals
        self.method, self.context, self.limits = method, context, Limits(method)
        self.resumed: Path | None = None
        self.ended_by = ""
        """What ended the training: `steps`, `max_hours` or `early_stopping`; empty before its end."""
        self.was_over = False
        """Whether the checkpoint that is continued from is that of the last step."""
        self.was_ordered = False
        """Whether it has to leave before its end."""
        self.earlier_s = 0.0
        """Seconds that the steps before this process took; those that were lost and done again count once."""
        self.started = time.monotonic()
        self.saving_s = 0.0
        self.useful_s = 0.0
        """Seconds that all steps up to the end took, without those that were lost."""
        self.best: dict[str, float] = {}
        """Step and value of the best evaluation, where its model was asked for."""
        self.soundness = Soundness(trainer, store=store, method=method)

    # Before the training

    def install(self) -> None:
        """Take over how the trainer saves, and listen to it; what it prints would bury the reason of a failure."""
        from transformers import PrinterCallback
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.trainer.remove_callback(PrinterCallback)
        self._write = self.trainer._save_checkpoint
        self.trainer._save_checkpoint = self.save
        self.trainer.create_model_card = lambda *_, **__: None  # trl writes one beside every checkpoint
        self.trainer.add_callback(_callback(self))

    def resume(self) -> Path | None:
        """Return the checkpoint to continue from, or None; what cannot be continued from is removed."""
        newest, damaged = self.store.newest() if distributed.is_first() else (None, [])
        name = distributed.from_first(newest.name if newest else "")
        if name:
            self.resumed = self.store.folder / name  # where this host has it
            apart.bring(self.resumed, work=self.context.work)
        found = checkpoints.facts(self.resumed) if self.resumed else {}
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if found and found["processes"] != processes:
            raise StageError(
                f"{self.resumed} was written by {found['processes']} processes and cannot be continued by {processes}: "
                "use as many again, or begin anew with runs.resume=false"
            )
        self.limits.worse = found.get("worse", 0)
        self.earlier_s = found.get("seconds", 0.0)
        self.ended_by = found.get("ended_by", "")
        self.was_over = bool(self.ended_by)
        if self.was_over:
            self.trainer._run_epoch = lambda *_, **__: None
        if distributed.is_first():
            self._tell(damaged, found)
            self.store.clean(after=self.resumed)
        distributed.wait_for_all()
        return self.resumed

    def _tell(self, damaged: list[checkpoints.Damaged], found: dict[str, Any]) -> None:
        back = f"going back to {self.resumed.name}" if self.resumed else "beginning anew"
        for one in damaged:
            self.context.events.emit("note", text=f"{one}: {back}")
        if not self.resumed:
            return
        step, lost = found["step"], max(0, self.clock.earlier_step - found["step"])
        again = f"{lost} step{'s are' if lost > 1 else ' is'} done again" if lost else "nothing is done again"
        end = f", where the training had ended ({self.ended_by})" if self.ended_by else f", {again}"
        self.context.events.emit(
            "note", text=f"continuing from {self.resumed.name}: {step} of {found['steps']} steps are done{end}"
        )

    def begin(self) -> None:
        """Take up where the checkpoint was; the trainer has loaded its own part."""
        if self.resumed:
            running.restore(self.trainer, self.resumed, self.trainer.args.process_index)
            if self.method.load_best_model_at_end:
                best.forget_damaged(
                    self.trainer.state, store=self.store, resumed=self.resumed, events=self.context.events
                )
        self.soundness.begin()
        self.started = time.monotonic()

    # During the training

    def after_step(self, state: Any, control: Any) -> None:
        """End the training where a limit is reached or it was told to stop."""
        self.soundness.after_step(state.global_step)
        seconds = 0.0
        if distributed.is_first():
            self.clock.note(state.global_step)
            seconds = self.clock.seconds()
        ordered = self.signals.count > 0
        own = self.limits.after_step(ordered=ordered, seconds=seconds, saving_s=self.saving_s)
        stop = Stop(distributed.highest(int(own)))
        if stop >= Stop.ORDER:
            self.was_ordered = control.should_training_stop = True
            control.should_save = control.should_save or stop == Stop.ORDER
        elif stop == Stop.TIME and state.global_step < state.max_steps:
            self._end("max_hours", control)
            control.should_evaluate = self.trainer.args.eval_strategy != "no"

    def after_evaluation(self, metrics: dict[str, float], state: Any, control: Any) -> None:
        """Save what may be the best model; end the training where nothing has become better for too long."""
        judgement = self.limits.after_evaluation(metrics, state.best_metric)
        if judgement.is_best and self.method.load_best_model_at_end:
            control.should_save = True
        if judgement.stops and not self.ended_by and state.global_step < state.max_steps:
            self._end("early_stopping", control)

    def _end(self, why: str, control: Any) -> None:
        self.ended_by = why
        control.should_training_stop = control.should_save = True

    # Saving

    def save(self, model: Any, trial: Any) -> None:
        """Write a checkpoint in the place of the trainer's own `_save_checkpoint`; in every process."""
        began, state = time.monotonic(), self.trainer.state
        self.soundness.check_weights()
        if state.global_step >= state.max_steps and not self.ended_by:
            self.ended_by = "steps"
        try:
            best_step = self._write_parts(model, trial)
            apart.gather(self.store.saving, work=self.context.work)
            if distributed.is_first():
                self._commit(best_step, time.monotonic() - began)
        except Exception as error:
            told = failures.explained(error, self.store.saving)  # before there is room again
            if distributed.is_first():
                shutil.rmtree(self.store.saving, ignore_errors=True)
            if told is None:
                raise
            kept = self.store.steps()
            told.args = (f"{told}; {self.store.path(kept[0]).name} is kept" if kept else str(told),)
            raise told from error
        self.saving_s = time.monotonic() - began

    def _write_parts(self, model: Any, trial: Any) -> int | None:
        """Write what this process has to write, aside; return the step of the best checkpoint."""
        trainer, state = self.trainer, self.trainer.state
        written = self.store.saving / f"checkpoint-{state.global_step}"
        trainer._get_output_dir = lambda *_, **__: str(self.store.saving)
        try:
            self._write(model, trial)
        finally:
            del trainer._get_output_dir
        running.save(trainer, written, trainer.args.process_index)
        if trainer.args.should_save:
            state.best_model_checkpoint = None  # is found by its step: folders move
            state.save_to_json(str(written / "trainer_state.json"))
        if not distributed.is_first() and trainer.args.local_process_index == 0:
            checkpoints.flush(written)
        return state.best_global_step if self.method.load_best_model_at_end else None

    def _commit(self, best_step: int | None, seconds: float) -> None:
        state = self.trainer.state
        facts = {
            "step": state.global_step, "steps": state.max_steps, "ended_by": self.ended_by,
            "worse": self.limits.worse, "processes": self.trainer.args.world_size,
            "seconds": round(self._useful_s(), 3),
        }  # fmt: skip
        path = self.store.commit(state.global_step, facts, best=best_step)
        self.clock.note(state.global_step, at_once=True)
        self.context.events.emit(
            "checkpoint", step=state.global_step, path=path.name, best=best_step == state.global_step,
            seconds=round(seconds, 2),
        )  # fmt: skip

    def _useful_s(self) -> float:
        return self.earlier_s + (0.0 if self.was_over else time.monotonic() - self.started)

    # After the training

    def finish(self) -> None:
        """Say why the training ended and load the best model; raises KeyboardInterrupt when it was told to stop."""
        step, steps = self.trainer.state.global_step, self.trainer.state.max_steps
        self.useful_s = self._useful_s()
        if distributed.is_first():
            self.clock.note(step, at_once=True)
        if self.was_ordered or self.signals.count:
            kept = next(iter(self.store.steps()), None)
            where = f"checkpoint-{kept} is kept" if kept is not None else "there is no checkpoint yet"
            slow = "" if kept == step else f" (saving takes {self.saving_s:.0f} s, longer than there is)"
            self.context.events.emit("note", text=f"stopped at step {step} of {steps}: {where}{slow}")
            raise KeyboardInterrupt
        if self.ended_by == "max_hours":
            text = f"max_hours = {self.method.max_hours:g} are over: ended at step {step} of {steps}"
            self.context.events.emit("note", text=text)
        if self.ended_by == "early_stopping":
            since = f"{self.limits.worse} evaluation{'s' if self.limits.worse > 1 else ''}"
            metric = self.method.metric_for_best_model
            text = f"{metric} has not become better in {since}: ended at step {step} of {steps}"
            self.context.events.emit("note", text=text)
        if self.method.load_best_model_at_end:
            self.best = best.load(self.trainer, store=self.store, method=self.method, context=self.context)


def _callback(keeper: Keeper) -> Any:
    """Return what makes a trainer call the keeper."""
    from transformers import TrainerCallback

    class Keeping(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            keeper.begin()

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if keeper.was_over:
                control.should_training_stop = True

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            keeper.after_step(state, control)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                keeper.soundness.check_report(
                    float(logs["loss"]), float(logs.get("grad_norm", 0.0)), float(logs["learning_rate"])
                )

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **_: Any) -> None:
            keeper.after_evaluation(metrics, state, control)

    return Keeping()
