"""Experts that are named for something that is not their task."""

from __future__ import annotations

from typing import Any

import pytest

from largeforge.recipe import task_checks
from largeforge.recipe.schema import Topology

WRITES, EMBEDS, SCORES = ({"model": "m", "task": task} for task in ("generate", "embed", "score"))


def faults(fallback: str = "general", **experts: dict[str, Any]) -> list[str]:
    topology = Topology.model_validate({"experts": {"general": WRITES, **experts}, "fallback": fallback})
    return [str(problem) for problem in task_checks.check(topology)]


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"fallback": "v", "v": EMBEDS}, "topology.fallback = v: must be an expert that writes answers"),
        ({"v": {**EMBEDS, "keywords": ["x"]}}, "topology.experts.v.keywords: choose who writes an answer"),
        ({"v": {**EMBEDS, "fallback": ["general"]}}, "v.fallback: general has task: generate, and v has task: embed"),
        ({"v": EMBEDS, "s": {**SCORES, "variants": {"v": 0.5}}}, "s.variants: v has task: embed"),
        ({"v": EMBEDS, "g": {**WRITES, "shadow": {"expert": "v"}}}, "g.shadow: v has task: embed"),
    ],
)
def test_task_that_does_not_fit_is_refused(experts, message):
    (fault,) = faults(**experts)
    assert message in fault


def test_what_fits_passes():
    assert faults(v={**EMBEDS, "fallback": ["w"]}, w=EMBEDS, other={**WRITES, "fallback": ["general"]}) == []


def test_topology_that_only_embeds_passes():
    topology = Topology.model_validate({"experts": {"v": EMBEDS}, "fallback": "v"})
    assert list(task_checks.check(topology)) == []
