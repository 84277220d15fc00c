"""One number of `slo` is changed, and all that follow from it change: rules, panels, load test, canary, autoscaler."""

from __future__ import annotations

import json
from typing import Any

import pytest

from largeforge.autoscale import targets
from largeforge.monitoring import dashboards, rules
from largeforge.recipe import promises
from largeforge.recipe.sections.autoscaling import Autoscaling
from largeforge.recipe.sections.load_test import LoadTest
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.recipe.sections.serving import Targets
from largeforge.recipe.sections.slos import Slo


def followed(threshold_ms: float, objective: float) -> dict[str, Any]:
    """Return all that follows from a latency that is promised."""
    promised = {"indicator": "latency", "objective": objective, "threshold_ms": threshold_ms}
    slo = Slo.model_validate({"objectives": {"quick": promised}})
    load = promises.load_test(LoadTest(requests_per_second=1), Targets(), slo)
    return {
        "rules": json.dumps(rules.groups(slo)),
        "panels": json.dumps(dashboards.files(slo, deployment="shop")),
        "load test": (load.gates, load.slo),
        "canary": promises.analysis(Analysis(), slo),
        "autoscaler": targets(Autoscaling(enabled=True), slo, max_num_seqs=8),
    }


@pytest.mark.parametrize(("threshold_ms", "objective"), [(900, 0.95), (700, 0.99)])
def test_another_number_changes_all_five(threshold_ms: float, objective: float) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    before, after = followed(700, 0.95), followed(threshold_ms, objective)
    assert before == followed(700, 0.95)
    same = [what for what in before if before[what] == after[what]]
    assert not same, f"unchanged: {same}"
