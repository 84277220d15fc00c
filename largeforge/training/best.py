"""The best of a training's evaluations: its checkpoint may be damaged, and its model may be the one to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.training import apart, checkpoints, distributed

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.events import Events
    from largeforge.recipe.training import TrainingMethod
    from largeforge.stages.context import Context
    from largeforge.training.checkpoints import Store


def forget_damaged(state: Any, *, store: Store, resumed: Path | None, events: Events) -> None:
    """Let another evaluation become the best when the checkpoint of the one so far is damaged."""
    best = state.best_global_step
    if best is None or store.path(best) == resumed:
        return
    if lost := _damage(store.path(best)):
        text = f"{lost}: the best model so far is lost, the best of the evaluations to come is kept"
        events.emit("note", text=text)
        state.best_global_step = state.best_metric = None


def load(trainer: Any, *, store: Store, method: TrainingMethod, context: Context) -> dict[str, float]:
    """Give the trainer the model of its best evaluation; return the step and value, nothing when the last one stays."""
    state = trainer.state
    best = state.best_global_step
    if best is None:
        return {}
    path = store.path(best)
    if lost := _damage(path):
        context.events.emit("note", text=f"{lost}: the best model is lost, the last one is kept")
        return {}
    if best != state.global_step:
        apart.bring(path, work=context.work)
        state.best_model_checkpoint = str(path)
        trainer._load_best_model()
    name = method.metric_for_best_model.removeprefix("eval_")
    text = f"keeping the model of step {best}, the best of all evaluations ({name} = {state.best_metric:.4g})"
    context.events.emit("note", text=text)
    return {"best_step": float(best), f"best_{name}": float(state.best_metric)}


def _damage(path: Path) -> checkpoints.Damaged | None:
    reason = distributed.from_first(checkpoints.damage(path) if distributed.is_first() else "")
    return checkpoints.Damaged(path, reason) if reason else None
