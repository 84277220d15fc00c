"""Signals as Prometheus counts them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.monitoring import names, signals

FIVE_MINUTES = "5m"
DAY = 24 * 12
"""Samples of a day, of which there is one every five minutes."""


def is_counted(
    expression: str, series: dict[str, str], wanted: float | None, tmp_path: Path, *, interval: str = "15s",
    at: str = "4m",
) -> None:  # fmt: skip
    """Let promtool say that an expression has a value, to three digits, or none."""
    if not shutil.which("promtool"):
        pytest.skip("needs promtool")
    samples = [] if wanted is None else [{"labels": "{}", "value": wanted}]
    test: dict[str, Any] = {
        "interval": interval,
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {"expr": f"round({expression}, 0.001)", "eval_time": at, "exp_samples": samples}
        ],
    }  # fmt: skip
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"tests": [test]}))
    ended = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("drained", "wanted"), [({}, 2), ({"a": 1}, 1), ({"a": 1, "b": 1}, 0), ({"a": 0, "c": 1}, 2)]
)  # fmt: skip
def test_servers_that_are_drained_are_not_missed(drained: dict[str, int], wanted: float, tmp_path: Path) -> None:
    series = {
        f'{names.REPLICA_UP}{{expert="{expert}",replica="{replica}"}}': f"{up}x20"
        for expert in ("general", "support")
        for replica, up in (("a", 0), ("b", 0), ("c", 1))
    }
    series |= {
        f'{names.REPLICA_DRAINED}{{expert="general",replica="{replica}"}}': f"{value}x20"
        for replica, value in drained.items()
    }
    is_counted(f"({signals.expression('servers_down', '')})", series, wanted, tmp_path)


def machines(metric: str, number: int, *, days: int = 9) -> dict[str, str]:
    return {f'{metric}{{host="{host}"}}': f"0.5x{days * DAY}" for host in range(number)}


def tokens(*per_day: tuple[int, int]) -> dict[str, str]:
    """Return tokens that are counted: for so many days, so many every five minutes."""
    values, total = ["0"], 0
    for days, each in per_day:
        values.append(f"{total + each}+{each}x{days * DAY - 1}")
        total += each * days * DAY
    return {f'{names.TOKENS}{{expert="general",kind="completion"}}': " ".join(values)}


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        (machines(names.GPU_USE, 2) | tokens((9, 3000)), 1),
        (machines(names.GPU_USE, 2) | tokens((8, 3000), (1, 1500)), 2),
        (machines(names.GPU_USE, 2) | tokens((8, 3000), (1, 6000)), 0.5),
        (machines("DCGM_FI_DEV_GPU_UTIL", 2) | tokens((8, 3000), (1, 1500)), 2),
        (machines(names.SERVER_UP, 1) | tokens((8, 3000), (1, 1500)), 2),
        ({f'{names.GPU_USE}{{host="a"}}': f"1x{9 * DAY}",
          f'{names.GPU_USE}{{host="b"}}': f"_x{8 * DAY} 1x{DAY}"} | tokens((9, 3000)), 2),
        (machines(names.GPU_USE, 2) | tokens((8, 3000), (1, 0)), None),
        (machines(names.GPU_USE, 2) | tokens((2, 0), (7, 3000)), None),
        (tokens((9, 3000)), None),
    ],
    ids=["the same", "half of the tokens", "twice the tokens", "by DCGM", "without GPUs", "twice the GPUs",
         "no tokens today", "no tokens a week ago", "no machines"],
)  # fmt: skip
def test_a_token_costs_more_where_machines_answer_with_fewer(
    series: dict[str, str], wanted: float | None, tmp_path: Path
) -> None:
    expression = signals.expression("cost_per_token_vs_week_before", "")
    is_counted(expression, series, wanted, tmp_path, interval=FIVE_MINUTES, at="9d")


def test_a_new_deployment_has_nothing_to_compare_its_cost_with(tmp_path: Path) -> None:
    series = machines(names.GPU_USE, 2, days=5) | tokens((5, 3000))
    expression = signals.expression("cost_per_token_vs_week_before", "")
    is_counted(expression, series, None, tmp_path, interval=FIVE_MINUTES, at="5d")


@pytest.mark.parametrize(("at", "wanted"), [("30m", 75), ("50m", 75), ("90m", None)])
def test_a_slow_start_of_a_server_is_told_for_an_hour(at: str, wanted: float | None, tmp_path: Path) -> None:
    series = {
        f'{metric}{{host="{host}",server="general"}}': f"{value}x30"
        for host, took, began in (("a", 75, 600), ("b", 30, 1200), ("c", 500, -7200))
        for metric, value in ((names.SERVER_START, took), (names.SERVER_STARTED, began))
    }
    is_counted(signals.expression("model_load_s", ""), series, wanted, tmp_path, interval=FIVE_MINUTES, at=at)


@pytest.mark.parametrize(("failed", "wanted"), [("0+3x40", 0.2), ("0x40", 0)])
def test_errors_are_counted_by_the_second(failed: str, wanted: float, tmp_path: Path) -> None:
    series = {f'{names.REQUESTS}{{status="200"}}': "0+30x40", f'{names.REQUESTS}{{status="503"}}': failed}
    is_counted(signals.expression("errors_per_s", ""), series, wanted, tmp_path, at="8m")


def test_the_pages_of_hosts_have_the_names_that_are_asked_for() -> None:
    agent = Path("largeforge/deploy/agent")
    told = json.dumps({path.name: path.read_text() for path in agent.glob("*.py")})
    for metric in (names.SERVER_UP, names.SERVER_START, names.SERVER_STARTED, names.GPU_USE):
        assert f'\\"{metric}\\"' in told, metric
