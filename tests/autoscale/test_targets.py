"""One number of `slo` or of a recipe changes what autoscalers aim at."""

from __future__ import annotations

from largeforge.autoscale.targets import targets
from largeforge.recipe.schema import Autoscaling, Slo

PROMISED = {
    "objectives": {
        "first_token": {"indicator": "ttft", "objective": 0.95, "threshold_ms": 300},
        "availability": {"indicator": "availability", "objective": 0.999},
    }
}


def by_name(scaling: dict[str, object], slo: dict[str, object]) -> dict[str, float]:
    found = targets(Autoscaling.model_validate(scaling), Slo.model_validate(slo), max_num_seqs=64)
    return {target.name: target.value for target in found}


def test_what_is_promised_and_what_a_replica_takes_are_targets() -> None:
    assert by_name({}, PROMISED) == {"waiting": 4, "in_flight": 51, "slo-first_token": 300, "cache_use": 0.9}


def test_one_number_changes_its_target() -> None:
    stricter = {"objectives": {**PROMISED["objectives"], "first_token": {
        "indicator": "ttft", "objective": 0.99, "threshold_ms": 200,
    }}}  # fmt: skip
    assert by_name({}, stricter)["slo-first_token"] == 200
    assert by_name({"in_flight": 0.5}, PROMISED)["in_flight"] == 32
    assert by_name({"gpu_use": 0.8, "cache_use": 0}, {}) == {"waiting": 4, "in_flight": 51, "gpu_use": 0.8}
    assert "slo-first_token" not in by_name({"latency": False}, PROMISED)


def test_a_replica_is_aimed_at_one_request_at_least() -> None:
    assert targets(Autoscaling(in_flight=0.1), Slo(), max_num_seqs=4)[1].value == 1
