"""What a training's progress says of the hardware, of time and of money."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge import progress
from largeforge.estimate.duration import training_flops
from largeforge.forecast.plan import with_forecasts
from tests.fakes.recorded import Desk

if TYPE_CHECKING:
    from largeforge.plan import Plan


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def planned(desk: Desk, *words: str) -> Plan:
    return with_forecasts(desk.plan("memory_check=warn", *words))


def event(kind: str, time: float, stage: str = "train", **fields: Any) -> dict[str, Any]:
    return {"time": time, "stage": stage, "kind": kind, **fields}


def shown(plan: Plan, *events: dict[str, Any], earlier: dict[str, float] | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    sink = progress.enriched(plan, earlier or {}, found.append)
    for one in events:
        sink(one)
    return found


H100 = ("hardware=h100", "hardware.num_gpus=1", "hardware.price_per_hour=3.6", "method.gradient_checkpointing=on")
STEP = {"step": 5, "total": 10, "tokens_per_s": 1000.0, "seconds": 30.0, "seconds_left": 30.0}


def test_mfu_is_the_arithmetic_of_the_tokens_over_the_peak_rate(desk: Desk) -> None:
    plan = planned(desk, *H100)
    last = shown(plan, event("started", 0), event("progress", 60, **STEP))[-1]
    training = plan.forecasts["train"].training
    assert training is not None and training.schedule is not None
    load, length = training.load, training.schedule.length
    peak = plan.machine.rates.bf16_tflops * 1e12
    assert load.checkpointing
    assert last["mfu"] < training_flops(load, tokens=1000, length=length) / peak, "recomputation is no use"
    needed = training_flops(replace(load, checkpointing=False), tokens=1000, length=length)
    assert last["mfu"] == pytest.approx(needed / peak, rel=1e-3)


def test_cost_counts_every_second_of_the_stage_and_of_the_attempts_before(desk: Desk) -> None:
    events = [event("started", 100), event("progress", 160, **STEP)]
    first = shown(planned(desk, *H100), *events)[-1]
    assert (first["seconds_so_far"], first["cost_usd"], first["cost_left_usd"]) == (60.0, 0.06, 0.03)
    resumed = shown(planned(desk, *H100), *events, earlier={"train": 1000.0})[-1]
    assert (resumed["seconds_so_far"], resumed["cost_usd"], resumed["cost_left_usd"]) == (1060.0, 1.06, 0.03)
    assert first["usable_memory_gib"] == 15.68, "of the 16 that the recipe names"


def test_without_a_price_nothing_is_said_of_money(desk: Desk) -> None:
    last = shown(planned(desk), event("started", 100), event("progress", 160, **STEP))[-1]
    assert last["mfu"] > 0
    assert not {"cost_usd", "cost_left_usd"} & set(last)


def test_other_stages_pass_as_they_are(desk: Desk) -> None:
    given = event("progress", 160, stage="evaluate", step=1, total=2)
    assert shown(planned(desk), given) == [given]


def test_attempts_before_count_until_their_last_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    recorded = [
        event("run_started", 0, stage=""),
        event("started", 10), event("progress", 30),  # and then the runner was killed
        event("run_started", 1000, stage=""),
        event("started", 1010), event("started", 1011, stage="other"), event("progress", 1040),
        event("failed", 1050), event("run_failed", 1060, stage=""),
        event("run_started", 2000, stage=""),
        event("started", 2000), event("progress", "x"),
        event("started", 2001, stage="other"), event("finished", 2010, stage="other", seconds=9.0),
    ]  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in recorded) + '{"half')
    assert progress.earlier_seconds(path) == {"train": 20.0 + 40.0}
    assert progress.earlier_seconds(tmp_path / "absent") == {}
