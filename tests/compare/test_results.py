"""Results of two stages: bytes of weights, metrics that are results, and what is merely effort."""

from __future__ import annotations

import math

from largeforge.compare.results import Metric, pair
from largeforge.recorded import StageResult


def trained(sha256: str, **metrics: float) -> StageResult:
    return StageResult("train", {"model.safetensors": sha256, "trainer.json": sha256 + "?"}, metrics)


def test_times_rates_and_memory_are_no_results() -> None:
    efforts = {"train_seconds": 1.0, "tokens_per_s": 5.0, "peak_memory_gib": 2.0, "latency_p50_ms": 3.0}
    slower = {name: 2 * value for name, value in efforts.items()}
    found = pair("train", trained("a", loss=1.0, **efforts), trained("a", loss=1.0, **slower))
    assert [metric.name for metric in found.metrics] == ["loss"]
    assert found.same


def test_only_files_with_weights_are_compared_by_their_bytes() -> None:
    same = pair("train", trained("a"), StageResult("train", {"model.safetensors": "a", "trainer.json": "b"}, {}))
    assert (same.weights, same.same) == (True, True)
    assert pair("train", trained("a"), trained("b")).weights is False
    assert pair("prepare", StageResult("prepare", {"train.jsonl": "a"}, {}), trained("a")).weights is None


def test_numbers_that_are_none_are_equal_to_each_other() -> None:
    assert Metric("loss", math.nan, math.nan).same
    assert not Metric("loss", math.nan, 1.0).same
    assert Metric("loss", 0.0, 1.0).percent is None
    assert not Metric("loss", None, 1.0).same
