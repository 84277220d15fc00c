"""The arithmetic of `scripts/bench autoscale`: traffic, the model of replicas, logs; a broken promise is noticed."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from largeforge.gateway.access import RequestLog
from largeforge.gateway.log_lines import Lines
from scripts.benchmarks import autoscale
from scripts.benchmarks._autoscale_model import Figures, Machine, replay
from scripts.benchmarks._autoscale_traces import Recorded, Trace, recorded, synthetic

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0
STEADY = Trace("steady", HOUR, lambda time: 10.0)


def options(**given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    autoscale.add_arguments(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **given})


def test_fixed_capacity_that_is_enough_answers_all_in_time_and_costs_its_hours() -> None:
    machine = Machine()
    num = autoscale.fixed(10.0, machine)
    assert num == 2, "10 requests a second at 7.1 for each replica"
    found = replay(STEADY, lambda seen, now: num, machine, seed=0, running=num)
    assert found.requests == pytest.approx(36_000, rel=0.03)
    assert found.gpu_s == pytest.approx(2 * HOUR) and found.starts == 0 and found.refused == 0
    assert 0.005 < found.over_slo / found.requests < 0.03


def test_what_is_too_little_lets_requests_wait_and_refuses_them() -> None:
    found = replay(STEADY, lambda seen, now: 1, Machine(), seed=0, running=1)
    assert found.refused / found.requests == pytest.approx(0.2, abs=0.05), "it answers 8 of 10 a second"
    assert found.over_slo / found.requests > 0.5


def test_replicas_that_start_cost_and_answer_nothing_yet() -> None:
    late = replay(STEADY, lambda seen, now: 2, Machine(start_s=600), seed=0, running=0)
    soon = replay(STEADY, lambda seen, now: 2, Machine(start_s=10), seed=0, running=0)
    assert late.starts == soon.starts == 2 and late.gpu_s == pytest.approx(soon.gpu_s, abs=10)
    assert late.refused > 5000 and soon.refused == 0


def test_equal_seeds_are_equal_and_what_was_before_is_not_counted() -> None:
    machine = Machine()
    trace = Trace("learnt", HOUR, lambda time: 5.0, before_s=HOUR)
    assert trace.arrivals(3, learns=True)[3600:] == trace.arrivals(3, learns=False)
    first = replay(trace, autoscale.ours(machine, {}), machine, seed=3, running=1, learns=True)
    assert first == replay(trace, autoscale.ours(machine, {}), machine, seed=3, running=1, learns=True)
    assert first.requests == sum(trace.arrivals(3, learns=False))


@pytest.mark.parametrize("trace", synthetic(), ids=lambda trace: trace.name)
def test_synthetic_traces_are_what_their_table_says(trace: Trace) -> None:
    rates = [trace.rate(trace.before_s + step * 60.0) for step in range(int(trace.seconds // 60))]
    assert min(rates) > 0 and max(rates) <= 37
    assert max(rates) > 3 * min(rates)


def test_a_gateways_own_log_is_replayed(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    clock = iter(range(100))
    with log.open("wb") as stream:
        lines = Lines(stream.fileno(), "largeforge.gateway.access")
        written: list[bytes] = []

        def write(message: str, fields: object) -> None:
            written.append(lines._line(message, fields))  # type: ignore[arg-type]

        requests = RequestLog(clock=lambda: float(next(clock)), write=write)
        for expert in ("general", "general", "", "mapper"):
            exchange = requests.begin({})
            exchange.expert, exchange.status = expert, 200
            requests.end("POST", "/v1/chat/completions", exchange)
        stream.write(b"".join(written) + b'{"message": "reloaded"}\n')
    assert sum(recorded(log).arrivals(0, learns=True)) == 3
    one = recorded(log, expert="mapper")
    assert one.arrivals(0, learns=False) == [1] and one.name == "gateway.log (mapper)"
    with pytest.raises(ValueError, match="has no request of nobody"):
        recorded(log, expert="nobody")


def test_requests_of_a_log_came_when_they_ended_less_their_duration(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    lines = [
        {"time": "2026-11-22T10:00:09.000Z", "message": "request", "expert": "a", "duration_ms": 9000},
        {"time": "2026-11-22T10:00:04.500Z", "message": "request", "expert": "a", "duration_ms": 500},
        {"time": "2026-11-22T10:00:04.600Z", "message": "request", "expert": "a", "duration_ms": 200},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert recorded(log).arrivals(0, learns=False) == [1, 0, 0, 0, 2]


def test_autoscaling_follows_a_step_with_fewer_gpu_hours_than_the_peak_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert autoscale.run(options(seeds=1, trace="step", json=True)) == 0
    rows = {row["policy"]: row for row in json.loads(capsys.readouterr().out)}
    ours, peak, plain = rows["slo"], rows["fixed, at peak"], rows["threshold"]
    assert ours["gpu_h"] < 0.9 * peak["gpu_h"]
    assert ours["over_slo"] < plain["over_slo"] + 0.005 and ours["starts"] < plain["starts"] / 2


def test_defaults_that_lose_on_both_figures_are_noticed() -> None:
    rows = [
        {"trace": "a", "policy": name, "over_slo": over, "gpu_h": hours}
        for name, over, hours in (("slo", 0.2, 9.0), ("threshold", 0.1, 8.0))
    ]
    assert autoscale._lost(rows) == ["a"]
    assert autoscale._lost([{**rows[0], "gpu_h": 7.0}, rows[1]]) == []


def test_recorded_traces_go_through_the_same_replay() -> None:
    machine = Machine()
    trace = Recorded("one", [5] * 1200, 1.0)
    found = replay(trace, autoscale.ours(machine, {}), machine, seed=0, running=1)
    assert found.requests == 6000 and found.highest == 1 and isinstance(found, Figures)
