"""Rewards as trl calls them, and what trl would refuse only once it has started."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from largeforge.errors import StageError
from largeforge.methods import grpo
from largeforge.recipe import extensions

PROMPTS = [[{"role": "user", "content": "1 + 1"}], [{"role": "user", "content": "2 + 2"}]]


def reward(name, **settings):
    training = SimpleNamespace(
        tokenizer=lambda text, add_special_tokens: {"input_ids": list(text.split())}, other_model=lambda reference: None
    )
    return grpo._function("mine", extensions.load("reward", name).Config(**settings), training)


def test_a_reward_is_called_as_trl_calls_it_and_named_as_in_the_recipe():
    function = reward("exact_match")
    turns = [[{"role": "assistant", "content": "2"}], [{"role": "assistant", "content": "5"}]]
    assert function.__name__ == "mine"
    given = {"completion_ids": [[1], [2]], "trainer_state": None, "log_metric": print}
    assert function(prompts=PROMPTS, completions=turns, answer=["2", "4"], **given) == [1, 0]


def test_an_answer_that_only_calls_tools_is_empty_text():
    turns = [[{"role": "assistant", "tool_calls": []}], [{"role": "assistant", "content": "one two three"}]]
    found = reward("length", minimum=1, maximum=2)(prompts=PROMPTS, completions=turns, answer=["", ""])
    assert found == [0, 0]


@pytest.mark.parametrize(
    ("settings", "processes", "fits"),
    [
        ({"per_device_train_batch_size": 8}, 1, True),
        ({"per_device_train_batch_size": 2}, 1, False),
        ({"per_device_train_batch_size": 2}, 4, True),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, 1, True),
        ({"per_device_train_batch_size": 2, "steps_per_generation": 8}, 1, True),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "steps_per_generation": 1}, 1, False),
    ],
)
def test_answers_generated_at_once_make_whole_groups(settings, processes, fits):
    reason = grpo.refusal(grpo.Config(**settings), processes=processes)
    assert (reason == "") == fits
    assert fits or "no multiple of 8" in reason


def test_evaluation_holds_all_answers_to_its_prompts():
    config = grpo.Config(per_device_train_batch_size=20, num_generations=8)
    assert grpo._eval_batch(config, {"per_device_eval_batch_size": 20}) == 16
    assert grpo._eval_batch(config, {"per_device_eval_batch_size": 2}) == 8


def test_rows_with_tools_are_refused():
    with pytest.raises(StageError, match="leave `tools` out of the data"):
        grpo._without_tools(SimpleNamespace(column_names=["prompt", "answer", "tools"]))
