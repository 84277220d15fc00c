"""The memory benchmark: its points file, its verdicts, and a real trace."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.benchmarks._memory_grid import cpu_grid, cuda_grid, point, traced_grid
from scripts.benchmarks._memory_points import Measured, estimate, false_fits, percentiles, read, summary, write

ROOT = Path(__file__).parents[2]
SMALL = point("qwen2.5-0.5b", batch=1, length=512, lora_r=16)


def test_points_are_read_as_they_were_written(tmp_path: Path) -> None:
    measured = [
        Measured(SMALL, {"peak": 10**9}, "traced"),
        Measured(
            replace(SMALL, method="dpo", checkpointing=False), {"failed": "out of memory", "capacity": 1}, "traced"
        ),
    ]
    write(tmp_path / "points.json", "traced", "none", measured)
    assert read(tmp_path / "points.json") == measured


def test_a_points_file_that_is_not_there_has_no_points(tmp_path: Path) -> None:
    assert read(tmp_path / "none.json") == []


@pytest.mark.parametrize("grid", [traced_grid(), cuda_grid(), cpu_grid()], ids=["traced", "cuda", "cpu"])
def test_every_point_of_a_grid_has_a_name_of_its_own_and_an_estimate(grid: list) -> None:  # type: ignore[type-arg]
    labels = [one.label for one in grid]
    assert len(set(labels)) == len(labels)
    assert all(estimate(one, "cuda").total > 0 for one in grid)


def test_the_grid_of_a_gpu_asks_for_what_an_acceptance_needs() -> None:
    grid = cuda_grid()
    assert len(grid) >= 20
    assert {one.method for one in grid} == {"sft", "dpo"}
    assert {one.checkpointing for one in grid} == {True, False}
    assert any(one.quantized for one in grid) and any(one.lora_r == 0 for one in grid)


def test_running_out_counts_as_wrong_only_where_the_estimate_said_it_fits() -> None:
    needed = estimate(SMALL, "cuda").total
    roomy, tight = (
        Measured(SMALL, {"failed": "out of memory", "capacity": capacity}, "cuda")
        for capacity in (2 * needed, needed / 2)
    )
    assert false_fits([roomy, tight]) == [roomy]
    seen = Measured(SMALL, {"peak": needed}, "cuda")
    assert "said to fit and ran out: 1" in summary([seen, roomy, tight])


def test_percentiles_are_of_the_size_of_errors() -> None:
    median, p95 = percentiles([-0.01, 0.02, -0.03, 0.04, -0.5])
    assert (median, p95) == (0.03, 0.5)


@pytest.mark.e2e
@pytest.mark.thorough
def test_a_step_is_traced_without_a_gpu_and_resumed_without_tracing_again(tmp_path: Path) -> None:
    output = tmp_path / "points.json"
    command = [
        sys.executable, "-m", "scripts.benchmarks", "memory", "--traced", "--points", SMALL.label,
        "--output", str(output),
    ]  # fmt: skip
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "1 points: median error" in first.stdout
    document = json.loads(output.read_text())
    kinds = document["points"][0]["seen"]["phases"]["forward/backward"]
    parameters = 494_032_768
    assert kinds["weights"] == pytest.approx(2 * parameters, rel=0.001)
    assert abs(read(output)[0].error) < 0.05
    again = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout
    assert "[1/1" not in again.stderr
