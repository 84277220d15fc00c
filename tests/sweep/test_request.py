"""The words of `-m`, as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.errors import RecipeError
from largeforge.sweep.request import read_request

RECIPE = """\
# @package _global_
# A recipe with a search of its own.
defaults:
  - /model: qwen2_5_7b_instruct
  - /dataset: jsonl
  - /method: sft
  - /adapter: lora
  - override /sweep: optuna
  - _self_
name: mine
dataset: {path: rows.jsonl}
sweep:
  n_trials: 7
  params:
    method.learning_rate: tag(log, interval(1e-5, 1e-3))
    adapter.lora_r: [8, 16]
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(RECIPE)
    return tmp_path


def test_words_about_the_sweep_go_to_no_trial() -> None:
    words = ["+recipe=mine", "sweep=grid", "sweep.jobs=3", "mode=plan", "method.max_steps=9", "seed=1,2"]
    request = read_request([*words, "method.learning_rate=1e-4", "adapter.lora_r=8,16"])
    values = {"seed": "2", "adapter.lora_r": "16"}
    assert request.is_plan
    assert request.settings.jobs == 3
    assert request.trial_words(values) == (
        "+recipe=mine", "method.max_steps=9", "method.learning_rate=1e-4", "seed=2", "adapter.lora_r=16",
    )  # fmt: skip


def test_a_recipe_brings_its_own_search_and_the_command_line_comes_first() -> None:
    request = read_request(["+recipe=mine"])
    assert [space.key for space in request.spaces] == ["method.learning_rate", "adapter.lora_r"]
    assert (request.settings.name, request.settings.n_trials) == ("optuna", 7)
    other = read_request(["+recipe=mine", "adapter.lora_r=4", "method.learning_rate=1e-4,1e-3"])
    assert [(space.key, space.values) for space in other.spaces] == [("method.learning_rate", ("0.0001", "0.001"))]


@pytest.mark.parametrize(
    "param",
    ["environment.python: /bin/sh,python", "dataset.path: /etc/passwd,x", "runs.root: a,b", "hydra/launcher: a,b",
     "serving.python: a,b", "registry.uri: a,b", "sweep.jobs: 1,2", "model.ref: path:/a,path:/b"],
)  # fmt: skip
def test_a_recipe_cannot_sweep_over_programs_paths_or_addresses(own: Path, param: str) -> None:
    text = RECIPE.replace("adapter.lora_r: [8, 16]", param)
    (own / "recipes" / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"sweep.params.{param.partition(':')[0]}"):
        read_request(["+recipe=mine"])


def test_a_param_with_one_value_is_no_sweep(own: Path) -> None:
    (own / "recipes" / "mine.yaml").write_text(RECIPE.replace("[8, 16]", "[8]"))
    with pytest.raises(RecipeError, match=r"sweep.params.adapter.lora_r: one value is no sweep"):
        read_request(["+recipe=mine"])


def test_hydras_names_for_the_optuna_sweeper_are_understood() -> None:
    words = ["+recipe=mine", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5", "hydra.sweeper.direction=maximize"]
    settings = read_request([*words, "hydra.sweeper.sampler.seed=3"]).settings
    assert (settings.name, settings.n_trials, settings.direction, settings.seed) == ("optuna", 5, "maximize", 3)
    with pytest.raises(RecipeError, match=r"hydra.sweeper.storage = x: sweeps are run by LargeForge itself"):
        read_request(["+recipe=mine", "hydra.sweeper.storage=x"])


def test_the_same_words_are_the_same_sweep_whatever_may_change_on_the_way() -> None:
    def folder(*words: str) -> Path:
        return read_request(["+recipe=mine", *words]).folder

    same = folder("seed=1,2", "method.max_steps=9")
    assert folder("method.max_steps=9", "seed=1,2", "sweep.jobs=2", "sweep.n_trials=9") == same
    assert folder("seed=1,2", "method.max_steps=9", "mode=plan", "sweep.objective=train.loss") == same
    assert folder("seed=1,3", "method.max_steps=9") != same
    assert folder("seed=1,2", "method.max_steps=8") != same
    assert folder("seed=1,2", "method.max_steps=9", "sweep.seed=1") != same
    assert same.parent == Path.cwd() / "runs" / "sweeps" / "mine"


@pytest.mark.parametrize("word", ["sweep.jobs=1,2", "mode=run,plan", "runs.root=a,b", "serve=true,false"])
def test_what_says_how_a_sweep_runs_has_one_value(word: str) -> None:
    with pytest.raises(RecipeError):
        read_request(["+recipe=mine", word])


def test_a_wrong_setting_is_named_with_what_is_near() -> None:
    with pytest.raises(RecipeError, match=r"sweep.n_trails.*Did you mean 'n_trials'"):
        read_request(["+recipe=mine", "sweep.n_trails=3"])
    with pytest.raises(RecipeError, match=r"sweep\.n_trials"):
        read_request(["+recipe=mine", "sweep.n_trials=0"])


def test_several_recipes_make_one_sweep() -> None:
    request = read_request(["+recipe=mine,my_expert", "dataset.path=rows.jsonl", "sweep=grid"])
    assert request.recipe == "mine+my_expert"
    assert [space.word(value) for space in request.spaces[:1] for value in space.values] == [
        "+recipe=mine",
        "+recipe=my_expert",
    ]
