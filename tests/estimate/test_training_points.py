"""The estimate of training memory, held against every point that was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.benchmarks._memory_grid import HELD_OUT
from scripts.benchmarks._memory_points import Measured, false_fits, percentiles, read

FILES = sorted((Path(__file__).parent / "points").glob("*.json"))
TRACED = read(Path(__file__).parent / "points" / "traced.json")
FURTHEST_BELOW = 0.03
"""An estimate may be that much below what was seen; the margin that a plan keeps is larger."""


def _found(measured: list[Measured]) -> list[Measured]:
    return [one for one in measured if "peak" in one.seen]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_estimates_are_within_the_goal_of_what_was_measured(path: Path) -> None:
    median, p95 = percentiles([one.error for one in _found(read(path))])
    assert median <= 0.05
    assert p95 <= 0.10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_that_was_said_to_fit_ran_out_of_memory(path: Path) -> None:
    assert false_fits(read(path)) == []


def test_no_traced_point_needs_much_more_than_was_estimated() -> None:
    below = {one.point.label: one.error for one in _found(TRACED) if one.error < -FURTHEST_BELOW}
    assert below == {}


def test_models_that_no_formula_was_adjusted_to_are_met_as_well() -> None:
    held_out = [one for one in _found(TRACED) if one.point.model in HELD_OUT]
    assert len({one.point.model for one in held_out}) == len(HELD_OUT)
    median, p95 = percentiles([one.error for one in held_out])
    assert median <= 0.03
    assert p95 <= 0.08


def test_traced_points_cover_what_recipes_can_ask_for() -> None:
    points = [one.point for one in _found(TRACED)]
    assert len(points) >= 40
    assert {(point.method, point.lora_r > 0) for point in points} == {
        (method, adapted) for method in ("sft", "dpo", "orpo", "kto", "reward") for adapted in (False, True)
    }  # fmt: skip
    assert {point.rows for point in points} == {"equal", "padded", "packed"}
    assert {point.checkpointing for point in points} == {True, False}
