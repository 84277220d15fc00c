"""The metric that ranks trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.schema import Recipe, Sweep
from largeforge.recipe.validate import validate
from largeforge.sweep.objective import choose, direction, metrics_of, named


def recipe(*words: str) -> Recipe:
    return validate(compose(list(words)))


@pytest.fixture
def expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    return recipe("+recipe=my_expert", "dataset.path=rows.jsonl")


def test_metrics_are_those_of_evaluations_their_base_and_training(expert: Recipe) -> None:
    found = metrics_of(expert)
    assert {"loss", "exact_match", "vs_base.exact_match", "base.loss", "train.loss"} <= set(found)
    assert {"mapper.exact_match", "general.train.loss"} <= set(metrics_of(recipe("+recipe=quickstart")))


def test_without_a_word_the_first_gate_is_meant(expert: Recipe) -> None:
    assert choose([expert], Sweep(), []) == ("vs_base.loss", "minimize")
    no_gates = expert.model_copy(update={"gates": {}, "evaluation": {}})
    assert choose([no_gates], Sweep(), []) == ("train.loss", "minimize")


def test_of_several_jobs_the_swept_one_is_meant_or_one_must_be_named() -> None:
    quickstart = recipe("+recipe=quickstart")
    swept = ["jobs.mapper.method.learning_rate"]
    assert choose([quickstart], Sweep(), swept) == ("mapper.exact_match", "maximize")
    with pytest.raises(RecipeError, match="is required where several jobs"):
        choose([quickstart], Sweep(), ["seed"])


def test_a_metric_that_nothing_measures_is_refused_with_the_nearest(expert: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"exact_mach.*Did you mean 'exact_match'"):
        choose([expert], Sweep(objective="exact_mach"), [])
    without = expert.model_copy(update={"evaluation": {}, "gates": {}})
    with pytest.raises(RecipeError, match="not every trial measures it"):
        choose([expert, without], Sweep(objective="exact_match"), [])


def test_losses_and_times_are_minimized_unless_told_otherwise() -> None:
    assert direction("mapper.vs_base.loss", Sweep()) == "minimize"
    assert direction("train.train_seconds", Sweep()) == "minimize"
    assert direction("vs_base.exact_match", Sweep()) == "maximize"
    assert direction("exact_match", Sweep(direction="minimize")) == "minimize"


def test_stages_name_their_metrics_and_what_is_no_number_is_left_out() -> None:
    assert named("evaluate", {"loss": 1, "bad": float("nan"), "word": "nan"}) == {"loss": 1.0}
    assert named("mapper.evaluate", {"vs_base.loss": -0.5}) == {"mapper.vs_base.loss": -0.5}
    assert named("mapper.train", {"loss": 0.5}) == {"mapper.train.loss": 0.5}
