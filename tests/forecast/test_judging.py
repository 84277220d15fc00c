"""Judging and comparing by a server of vLLM: what it needs beside what the model in this process needs."""

from __future__ import annotations

import pytest

from largeforge.errors import FitError
from largeforge.estimate.memory import GIB
from largeforge.forecast.plan import refuse_what_does_not_fit

SFT = ("+recipe=sft_qwen7b", "hardware=l4", "method.max_length=512")
ANSWERS = ("+evaluation=[f1]",)


def test_log_probabilities_start_no_server(forecast_of):
    found = forecast_of(*SFT, "parity.check=never").forecasts["evaluate"]
    assert found.serving is None
    assert "kv_cache" not in found.memory.parts


def test_answers_on_a_gpu_take_vllms_share_of_it(forecast_of):
    found = forecast_of(*SFT, *ANSWERS).forecasts
    for name in ("evaluate", "parity"):
        assert found[name].verdict == "fits"
        assert found[name].memory.total == pytest.approx(0.9 * found["train"].usable_bytes, rel=0.03)
        assert found[name].memory.parts["kv_cache"] > GIB
    own = forecast_of(*SFT, *ANSWERS, "judging.engine=transformers").forecasts["evaluate"]
    assert own.serving is None
    assert own.memory.total < found["evaluate"].memory.total


def test_a_share_that_is_too_small_is_refused_with_the_override_that_helps(forecast_of):
    plan = forecast_of(*SFT, *ANSWERS, "serving.gpu_memory_utilization=0.5")
    with pytest.raises(FitError) as refused:
        refuse_what_does_not_fit(plan)
    told = str(refused.value)
    assert "evaluate does not fit" in told
    assert "serving.gpu_memory_utilization=0.92" in told
    refuse_what_does_not_fit(forecast_of(*SFT, *ANSWERS, "serving.gpu_memory_utilization=0.92"))


def test_a_server_on_a_cpu_counts_with_its_cache(forecast_of):
    words = ("+recipe=quickstart", "hardware.memory_gib=8", "jobs.general.parity.check=always")
    little, much = (
        forecast_of(*words, f"serving.cpu_kvcache_gib={size}").forecasts["general.parity"].memory.total
        for size in (1, 3)
    )
    assert much - little == pytest.approx(2 * GIB, rel=1e-4)
