"""The arithmetic of `scripts/bench rollout`: traffic, bounds, the other tests, and that a broken promise is noticed."""

from __future__ import annotations

import argparse
import json

import pytest

from largeforge.recipe.sections.rollouts import Rollout
from largeforge.rollout.sequential import Counts
from scripts.benchmarks import rollout
from scripts.benchmarks._rollout_tests import TESTS, conditional, z_score
from scripts.benchmarks._rollout_traffic import Scenario, Traffic

BROKEN = Scenario("broken", canary_errors=0.3, slower=2.0, wrong=0.5)


def options(**given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    rollout.add_arguments(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **given})


def test_traffic_has_what_was_planted_in_the_canary_alone() -> None:
    traffic = Traffic(BROKEN, 1)
    canary, stable = traffic.period(0.0, 1000.0, 0.5).canary, traffic.period(0.0, 1000.0, 0.5).stable
    assert canary.requests == pytest.approx(10_000, rel=0.1)
    assert canary.errors / canary.requests == pytest.approx(0.3, abs=0.03)
    assert stable.errors / stable.requests == pytest.approx(0.001, abs=0.002)
    assert canary.judge.counts.share == pytest.approx(0.55, abs=0.1)
    assert stable.judge.counts.share == pytest.approx(0.1, abs=0.05)
    assert canary.duration is not None and stable.duration is not None
    assert canary.duration.slower(7).share > 5 * stable.duration.slower(7).share, "slower than a second"


def test_an_outage_hits_both() -> None:
    traffic = Traffic(Scenario("outage", outage=True), 1)
    periods = [traffic.period(now * 10.0, 10.0, 0.5) for now in range(160)]
    worst = [period for period in periods if period.stable.errors > 10]
    assert 5 <= len(worst) <= 7
    assert all(period.canary.errors > 10 for period in worst)


def test_equal_seeds_end_equally_and_count_users_once() -> None:
    first = rollout.replay(Rollout(), BROKEN, 3, every=10.0)
    assert first == rollout.replay(Rollout(), BROKEN, 3, every=10.0)
    assert first.rolled_back and 0 < first.users <= first.canary_requests
    assert rollout.replay_naive(Rollout(), BROKEN, 3, every=10.0).rolled_back


def test_all_users_of_a_small_share_are_known_after_many_requests() -> None:
    traffic = Traffic(Scenario("long"), 1)
    traffic.period(0.0, 10_000.0, 0.05)
    assert traffic.users == pytest.approx(250, rel=0.01)


def test_the_bound_of_no_false_alarm_is_the_rule_of_three() -> None:
    assert rollout.highest(0, 1000) == pytest.approx(1 - 0.05**0.001, rel=1e-6)
    assert rollout.highest(10, 10) == 1.0
    assert rollout.highest(3, 1000) > rollout.highest(2, 1000) > 0.002


@pytest.mark.parametrize("name", TESTS)
def test_every_test_finds_what_is_broken(name: str) -> None:
    is_worse = TESTS[name](0.01)
    assert any(is_worse(Counts(3, 5), Counts(0, 95)) for _ in range(8))
    calm = TESTS[name](0.01)
    assert not any(calm(Counts(0, 5), Counts(1, 95)) for _ in range(20))


def test_the_conditional_test_is_the_ratio_of_hypergeometric_likelihoods() -> None:
    # one error among one request of each: by odds w it is the canary's with w / (1 + w) instead of 1 / 2
    gain = sum(2 * odds / (1 + odds) for odds in rollout_odds()) / len(rollout_odds())
    assert conditional(1 / (gain - 0.01))(Counts(1, 1), Counts(0, 1))
    assert not conditional(1 / (gain + 0.01))(Counts(1, 1), Counts(0, 1))


def rollout_odds() -> tuple[float, ...]:
    from largeforge.rollout.sequential import ODDS

    return ODDS


def test_the_z_score_is_the_pooled_one() -> None:
    assert z_score(Counts(30, 100), Counts(20, 100)) == pytest.approx(1.633, abs=1e-3)
    assert z_score(Counts(0, 10), Counts(0, 10)) == 0.0


def test_a_row_is_printed_and_a_broken_promise_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = options(runs=10, scenario="errors 5 %", only="rollouts", json=True)
    scenario = next(scenario for scenario in rollout.SCENARIOS if scenario.name == "errors 5 %")
    monkeypatch.setattr(rollout, "SCENARIOS", (scenario,))
    assert rollout.run(only) == 0
    (row,) = json.loads(capsys.readouterr().out)["rollouts"]
    assert (row["scenario"], row["runs"], row["rolled_back"], row["promoted"]) == ("errors 5 %", 10, 10, 0)
    assert row["requests"][0] < 200
    monkeypatch.setattr(rollout, "LIMIT", 1)
    assert rollout.run(options(runs=10, only="rollouts")) == 1
    told = capsys.readouterr()
    assert "not kept: errors 5 %" in told.err
    assert "100.0%" in told.out
