"""Signals as Prometheus counts them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.monitoring import names, signals


def counted(expression: str, series: dict[str, float], tmp_path: Path) -> None:
    """Let promtool say that an expression has a value: the one of the series `wanted`."""
    if not shutil.which("promtool"):
        pytest.skip("needs promtool")
    wanted = series.pop("wanted")
    test: dict[str, Any] = {
        "interval": "15s",
        "input_series": [{"series": one, "values": f"{value:g}x20"} for one, value in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": wanted}]}
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
    series: dict[str, float] = {
        f'{names.REPLICA_UP}{{expert="{expert}",replica="{replica}"}}': up
        for expert in ("general", "support")
        for replica, up in (("a", 0), ("b", 0), ("c", 1))
    }
    series |= {
        f'{names.REPLICA_DRAINED}{{expert="general",replica="{replica}"}}': value for replica, value in drained.items()
    }
    counted(signals.expression("servers_down", ""), {**series, "wanted": wanted}, tmp_path)
