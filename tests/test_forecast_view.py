"""Forecasts are readable on a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from largeforge.estimate.memory import GIB, Memory
from largeforge.estimate.ranges import Range
from largeforge.forecast.stage import Forecast
from largeforge.forecast.text import duration
from largeforge.forecast_view import render


def shown(forecasts: dict[str, Forecast]) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(Group(*render(forecasts)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def forecast(**gib: float) -> Forecast:
    return Forecast(Memory({"peak": {part: size * GIB for part, size in gib.items()}}), usable_bytes=24 * GIB)


def test_parts_that_are_next_to_nothing_in_every_stage_take_no_column() -> None:
    lines = shown(
        {
            "general.evaluate": forecast(
                weights=0.003, optimizer=0.01, adapter=0.001, activations=0.1, logits=0.2, kv_cache=0.002, overhead=0.6
            ),
            "serve/general": forecast(weights=0.003, activations=0.01, kv_cache=1.0, overhead=2.3),
        }
    )
    assert lines[0].split() == ["GiB", "activ", "logits", "KV", "other", "peak", "of", "usable"]
    assert lines[1].split() == ["general.evaluate", "0.1", "0.2", "0.00", "0.6", "0.9", "24.0", "4%", "fits"]
    assert lines[2].split()[0] == "serve/general"
    assert lines[2].endswith("fits")


def test_the_verdict_is_there_whatever_the_names_and_numbers() -> None:
    parts = dict.fromkeys(("weights", "gradients", "optimizer", "adapter", "activations", "logits", "reference"), 99.9)
    lines = shown({f"customer_support.{stage}": forecast(**parts, overhead=1.0) for stage in ("train", "evaluate")})
    words = " ".join(lines)
    assert (words.count("too big"), words.count("…")) == (2, 0)


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.01, "18-72 s"), (1.0, "30-120 min"), (99.0, "50-198 h"), (2400.0, "50-200 days")],
)
def test_a_duration_has_the_unit_that_a_person_would_choose(hours: float, text: str) -> None:
    assert duration(Range(hours / 2, hours, hours * 2)) == text
