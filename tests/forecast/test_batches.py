"""The rows of a step are divided so that they fit, and a step stays what it is."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError


def batches(plan):
    method = plan.recipe.method
    return method.per_device_train_batch_size, method.gradient_accumulation_steps


def test_a_larger_card_gets_a_larger_batch_of_the_same_step(forecast_of):
    words = ("+recipe=sft_qwen7b", "method.train_batch_size=64", "method.max_length=2048")
    found = {card: forecast_of(*words, f"hardware={card}") for card in ("rtx_4090", "h100")}
    sizes = {card: batches(plan) for card, plan in found.items()}
    assert all(batch * accumulated == 64 for batch, accumulated in sizes.values())
    assert sizes["h100"][0] > sizes["rtx_4090"][0] >= 1
    assert all(plan.forecasts["train"].verdict == "fits" for plan in found.values())
    twice = sizes["rtx_4090"][0] * 2
    words = (*words[:1], *words[2:], f"method.per_device_train_batch_size={twice}", "hardware=rtx_4090")
    assert forecast_of(*words).forecasts["train"].verdict != "fits", "a larger batch would have fitted"


def test_what_is_run_has_the_batches_that_were_found(forecast_of):
    plan = forecast_of("+recipe=sft_qwen7b", "method.train_batch_size=64", "hardware=h100")
    train = next(stage for stage in plan.stages if stage.name == "train")
    batch, accumulated = batches(plan)
    assert train.config["method"]["per_device_train_batch_size"] == batch
    assert plan.lock["recipe"]["method"]["gradient_accumulation_steps"] == accumulated


def test_rows_that_cannot_be_shared_out_are_refused(forecast_of):
    with pytest.raises(RecipeError, match=r"method\.train_batch_size = 30: must be a multiple of the 4 processes"):
        forecast_of(
            "+recipe=sft_qwen7b", "method.train_batch_size=30", "launcher=ddp", "hardware=h100", "hardware.num_gpus=4"
        )


def test_a_model_of_unknown_size_needs_numbers(forecast_of):
    with pytest.raises(RecipeError, match="per_device_train_batch_size and gradient_accumulation_steps instead"):
        forecast_of(
            "+recipe=sft_qwen7b", "method.train_batch_size=64", "hardware=h100", "~model.architecture",
            "model.ref=hub:example/unknown",
        )  # fmt: skip
