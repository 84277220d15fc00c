"""One number of `slo` is changed, and all that docs/slo.md says follows from it changes, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from largeforge.autoscale import targets
from largeforge.monitoring import dashboards, rules
from largeforge.recipe import promises
from largeforge.recipe.sections.autoscaling import Autoscaling
from largeforge.recipe.sections.load_test import LoadTest
from largeforge.recipe.sections.rollouts import Analysis
from largeforge.recipe.sections.serving import Targets
from largeforge.recipe.sections.slos import LATENCIES, Slo
from tests.guides import page

Follows = dict[str, set[str]]
"""What follows from an objective: place to the names of what is there."""


def follows(guide: str) -> dict[str, Follows]:
    """Return what a guide says follows from each indicator."""
    rows = re.findall(r"^\| `([a-z_]+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", guide, re.M)
    found = {}
    for indicator, load_test, canary, servers in rows:
        assert servers in ("yes", "–") and all(cell == "–" or "`" in cell for cell in (load_test, canary))
        found[indicator] = {
            "load test": set(re.findall(r"`([^`]+)`", load_test)), "canary": set(re.findall(r"`([^`]+)`", canary)),
            "autoscaler": {"slo-promised"} if servers == "yes" else set(),
        }  # fmt: skip
    return found


GUIDE = follows(page("slo"))


def slo_of(indicator: str, objective: float, threshold_ms: float) -> Slo:
    late = {"threshold_ms": threshold_ms} if indicator in LATENCIES else {}
    promised = {"indicator": indicator, "objective": objective, **late}
    # of another that stays as it is, nothing may change
    kept = {"indicator": "latency", "objective": 0.5, "threshold_ms": 90000}
    return Slo.model_validate(
        {"objectives": {"promised": promised, **({} if indicator in LATENCIES else {"kept": kept})}}
    )


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted keys."""
    if not isinstance(value, Mapping):
        return {at: value}
    return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{at}.{name}".strip(".")).items()}


def followed(slo: Slo) -> dict[str, dict[str, Any]]:
    """Return all that follows from objectives, by place and name."""
    load = promises.load_test(LoadTest(requests_per_second=1), Targets(), slo)
    return {
        "load test": {**load.gates, **flat(load.slo.model_dump(), "slo")},
        "canary": flat(promises.analysis(Analysis(), slo).model_dump()),
        "autoscaler": {one.name: one for one in targets(Autoscaling(enabled=True), slo, max_num_seqs=8)},
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the names of what differs; percentiles are left open, as in the guide."""
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return {re.sub(r"_p\d+_", "_p…_", name) for name in names}


@pytest.mark.parametrize("indicator", sorted(GUIDE))
def test_another_objective_changes_what_the_guide_says_and_nothing_else(indicator: str) -> None:
    before, after = (followed(slo_of(indicator, *number)) for number in ((0.95, 700), (0.99, 900)))
    assert before == followed(slo_of(indicator, 0.95, 700))
    assert {place: changed(before[place], after[place]) for place in before} == GUIDE[indicator]


@pytest.mark.parametrize("number", [(0.99, 700), (0.95, 900)], ids=["objective", "threshold"])
@pytest.mark.parametrize("indicator", LATENCIES)
def test_either_number_of_a_latency_reaches_all_places(indicator: str, number: tuple[float, float]) -> None:
    before, after = (followed(slo_of(indicator, *one)) for one in ((0.95, 700), number))
    assert {place for place in before if before[place] != after[place]} == {
        place for place, found in GUIDE[indicator].items() if found
    }


@pytest.mark.parametrize("indicator", sorted(GUIDE))
def test_every_objective_has_rules_and_panels_of_its_own(indicator: str) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    before, after = (slo_of(indicator, *number) for number in ((0.95, 700), (0.99, 900)))
    for made in (rules.groups, lambda slo: dashboards.files(slo, deployment="shop")):
        old, new = json.dumps(made(before)), json.dumps(made(after))
        assert old != new and old == json.dumps(made(before))
        assert "0.95" in old and "0.95" not in new.replace("histogram_quantile(0.95", "")


@pytest.mark.parametrize("indicator", sorted(GUIDE))
def test_only_times_are_bounds_of_histograms(indicator: str) -> None:
    slo = slo_of(indicator, 0.95, 700)
    assert slo.thresholds_ms() == ({indicator: [700]} if indicator in LATENCIES else {"latency": [90000]})
