"""What quantizing needs of a machine: of its host memory, before anything runs."""

from __future__ import annotations

import pytest

from largeforge.errors import FitError
from largeforge.forecast.plan import refuse_what_does_not_fit, with_forecasts
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate


def plan(*words: str):
    return with_forecasts(make_plan(validate(compose(words))))


def test_a_small_model_fits_and_the_server_needs_most():
    found = plan("+recipe=quantize_small", "hardware.memory_gib=16").forecasts["quantize"]
    assert found.verdict == "fits"
    assert found.memory.peak_phase == "serving"
    assert found.disk_bytes > 0


def test_a_machine_that_is_too_small_is_refused_before_it_trains():
    with pytest.raises(FitError, match=r"quantize does not fit: .* this machine has"):
        refuse_what_does_not_fit(plan("+recipe=quantize_small", "hardware.memory_gib=2"))


def test_on_a_gpu_elsewhere_the_need_is_told_without_a_verdict():
    found = plan("+recipe=awq_qwen7b").forecasts["quantize"]
    assert found.verdict == "unknown"
    assert 14 < found.memory.total / 2**30 < 30
    more = plan("+recipe=awq_qwen7b", "quantization.calibration_rows=4096").forecasts["quantize"]
    assert more.memory.total > found.memory.total
    assert found.disk_bytes < 40e9
