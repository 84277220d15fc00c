"""What early stopping and the choice of the best model need of a job."""

from __future__ import annotations

import pytest

JOB = """\
defaults:
  - /dataset: jsonl
  - /method: sft
  - _self_
name: mine
model: {ref: 'hub:a/b'}
dataset: {path: a.jsonl}
"""


@pytest.mark.parametrize(
    ("overrides", "key", "rule"),
    [
        (["method.early_stopping_patience=3"], "method.early_stopping_patience", "set method.eval_steps"),
        (["method.load_best_model_at_end=true"], "method.load_best_model_at_end", "set method.eval_steps"),
        (["method.eval_steps=10", "dataset.heldout_fraction=0"], "method.eval_steps", "no held-out rows"),
        (
            ["method.eval_steps=10", "method.early_stopping_patience=3", "method.greater_is_better=true"],
            "method.greater_is_better",
            "less loss is better",
        ),
        (
            [
                "method.eval_steps=10",
                "method.load_best_model_at_end=true",
                "method.metric_for_best_model=eval_mean_token_accuracy",
            ],
            "method.greater_is_better",
            "more mean_token_accuracy is better",
        ),
    ],
)
def test_a_limit_that_cannot_work_is_refused(folder, overrides, key, rule):
    folder.write(JOB)
    problems = {problem.key: problem for problem in folder.problems(*overrides)}
    assert rule in problems[key].rule


def test_limits_that_can_work_are_taken(folder):
    folder.write(JOB)
    watched = ["method.eval_steps=10", "method.early_stopping_patience=3", "method.load_best_model_at_end=true"]
    assert folder.recipe(*watched).method.early_stopping_patience == 3
    apart = folder.recipe("method.eval_steps=10", "dataset.heldout_fraction=0", "dataset.heldout_path=b.jsonl")
    assert apart.method.eval_steps == 10
