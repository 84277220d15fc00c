"""A stage that ran out of memory although its plan fits is told what needs less."""

from __future__ import annotations

import re

from largeforge.forecast.shortage import SPARE, after_shortage


def test_overrides_that_need_less_than_was_planned(forecast_of):
    plan = forecast_of("+recipe=sft_qwen7b", "hardware=h100", "method.per_device_train_batch_size=8")
    text = after_shortage(plan, "train")
    planned = plan.forecasts["train"].needed_bytes / 2**30
    assert f"The plan had {planned:.1f} GiB of" in text
    words = re.search(r"method\.per_device_train_batch_size=(\d+) method\.gradient_accumulation_steps=(\d+)", text)
    assert words is not None, text
    assert int(words[1]) * int(words[2]) == 8 * plan.recipe.method.gradient_accumulation_steps
    assert float(re.search(r"([\d.]+) GiB, [\d.]+ less", text)[1]) <= SPARE * planned + 0.05
    assert "other programs" not in text
    assert "other programs have the rest, or a limit is set" in after_shortage(plan, "train", reached_gib=planned / 2)
    assert "other programs" not in after_shortage(plan, "train", reached_gib=planned)


def test_a_stage_without_a_forecast_has_nothing_to_say(forecast_of):
    assert after_shortage(forecast_of("+recipe=sft_qwen7b", "hardware=h100"), "prepare") == ""
