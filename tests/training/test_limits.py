"""When a training ends before its last step, and which evaluation is best."""

from __future__ import annotations

import math
from typing import Any

import pytest

from largeforge.errors import StageError
from largeforge.methods.sft import Config
from largeforge.signals import STOP_GRACE_S
from largeforge.training.limits import Limits, Stop


def limits(**method: Any) -> Limits:
    return Limits(Config(**method))


def test_a_step_ends_a_training_by_its_hours_or_by_an_order() -> None:
    two = limits(max_hours=2)
    assert two.after_step(ordered=False, seconds=7199, saving_s=0) is Stop.NO
    assert two.after_step(ordered=False, seconds=7200, saving_s=0) is Stop.TIME
    assert two.after_step(ordered=True, seconds=7200, saving_s=0) is Stop.ORDER
    assert limits().after_step(ordered=False, seconds=1e9, saving_s=0) is Stop.NO


def test_a_checkpoint_that_takes_too_long_is_not_begun_on_leaving() -> None:
    assert limits().after_step(ordered=True, seconds=1, saving_s=STOP_GRACE_S / 2) is Stop.ORDER
    assert limits().after_step(ordered=True, seconds=1, saving_s=STOP_GRACE_S) is Stop.ORDER_AT_ONCE


def judged(found: Limits, values: list[float]) -> tuple[list[bool], int]:
    """Return which evaluations were the best so far, and after how many the training ended."""
    best: float | None = None
    is_best = []
    for count, value in enumerate(values, 1):
        judgement = found.after_evaluation({"eval_loss": value}, best)
        is_best.append(judgement.is_best)
        best = value if judgement.is_best else best
        if judgement.stops:
            return is_best, count
    return is_best, 0


def test_evaluations_without_improvement_end_a_training() -> None:
    patient = {"eval_steps": 1, "early_stopping_patience": 2}
    assert judged(limits(**patient), [3, 2, 2.5, 1, 1, 2]) == ([True, True, False, True, False, False], 6)
    small = limits(**patient, early_stopping_threshold=0.5)
    assert judged(small, [3, 2.9, 2.8]) == ([True, True, True], 3)
    more = limits(**patient, metric_for_best_model="eval_loss", greater_is_better=True)
    assert judged(more, [1, 2, 1, 1.5]) == ([True, True, False, False], 4)
    assert judged(limits(**patient), [math.nan, 1, math.nan, 2]) == ([False, True, False, False], 4)


def test_without_limits_no_evaluation_matters() -> None:
    assert judged(limits(eval_steps=1), [3, 4, 5, 6]) == ([False] * 4, 0)
    assert judged(limits(eval_steps=1, load_best_model_at_end=True), [3, 4, 5, 2]) == ([True, False, False, True], 0)


def test_a_metric_that_no_evaluation_has_is_refused_by_name() -> None:
    found = limits(load_best_model_at_end=True, metric_for_best_model="rewards/acuracies")
    metrics = {"eval_loss": 1.0, "eval_rewards/accuracies": 0.5, "epoch": 1.0}
    with pytest.raises(StageError, match=r"there is loss, rewards/accuracies; did you mean rewards/accuracies\?"):
        found.after_evaluation(metrics, None)
