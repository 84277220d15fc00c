"""What early stopping and the choice of the best model need of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job


def check(prefix: str, job: Job) -> Iterator[Problem]:
    """Yield what is wrong with the limits of a job's training, whose keys begin with `prefix`."""
    method = job.method
    if method.eval_steps and not (job.dataset.heldout_fraction or job.dataset.heldout_path):
        rule = "there are no held-out rows to evaluate on; set dataset.heldout_fraction or dataset.heldout_path."
        yield Problem(f"{prefix}method.eval_steps", rule)
    wants = [
        name
        for name in ("early_stopping_patience", "load_best_model_at_end")
        if getattr(method, name) and not method.eval_steps
    ]
    for name in wants:
        yield Problem(f"{prefix}method.{name}", "needs evaluations during the training; set method.eval_steps.")
    if method.early_stopping_patience or method.load_best_model_at_end:
        yield from _direction(prefix, method.metric_for_best_model, greater=method.greater_is_better)


def _direction(prefix: str, metric: str, *, greater: bool) -> Iterator[Problem]:
    key = f"{prefix}method.greater_is_better"
    name = metric.removeprefix("eval_")
    if name == "loss" and greater:
        yield Problem(key, "less loss is better; set it to false, or choose another metric_for_best_model.")
    if "accurac" in name and not greater:
        yield Problem(key, f"more {name} is better; set it to true.")
