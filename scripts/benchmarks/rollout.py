"""Replay traffic with planted regressions through whole rollouts, and see what is sent back, when, and what wrongly.

Nothing is started: counts are drawn at random, period by period, and go through the code and the defaults of
`largeforge.rollout`. In the same traffic, beside it, a rollout by the usual z-test of each metric at each look (at 1
%, with Bonferroni's correction for metrics, not for looks). Equal seeds give equal results. Then tests of errors
alone, at equal alpha, with no difference tolerated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from largeforge.recipe.sections.rollouts import Analysis, Rollout
from largeforge.rollout import Arm, Observation, decide, start
from largeforge.rollout.metrics import TIMES, Test, count, edge_of, tests
from largeforge.rollout.sequential import Counts
from scripts.benchmarks._rollout_tests import TESTS, z_score
from scripts.benchmarks._rollout_traffic import Scenario, Traffic
from scripts.tables import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

SUMMARY = "what rollouts find of planted regressions, how soon, and what they send back wrongly"

SCENARIOS = (
    Scenario("nothing"),
    Scenario("nothing, stable fails 0.8 %", errors=0.008),
    Scenario("nothing, a day", errors=0.003, day=True),
    Scenario("nothing, an outage of both", outage=True),
    Scenario("nothing, fine buckets", fine=True),
    Scenario("nothing, 1 % of users fail 40 %", unlucky=0.01),
    Scenario("the same, clustering 3", unlucky=0.01, clustering=3),
    Scenario("errors 0.5 %", canary_errors=0.005),
    Scenario("errors 1 %", canary_errors=0.01),
    Scenario("errors 2 %", canary_errors=0.02),
    Scenario("errors 5 %", canary_errors=0.05),
    Scenario("errors 5 %, stable 0.8 %", errors=0.008, canary_errors=0.05),
    Scenario("errors 5 %, a day", errors=0.003, canary_errors=0.05, day=True),
    Scenario("errors 5 %, an outage of both", canary_errors=0.05, outage=True),
    Scenario("errors 5 %, clustering 3", canary_errors=0.05, clustering=3),
    Scenario("errors 5 % after 900 s", canary_errors=0.05, from_s=900),
    Scenario("slower by 10 %", slower=1.1),
    Scenario("slower by 25 %", slower=1.25),
    Scenario("slower by 25 %, fine buckets", slower=1.25, fine=True),
    Scenario("slower by 50 %", slower=1.5),
    Scenario("slower by 100 %", slower=2.0),
    Scenario("wrong answers 2 %", wrong=0.02),
    Scenario("wrong answers 5 %", wrong=0.05),
    Scenario("wrong answers 10 %", wrong=0.1),
    Scenario("wrong answers 30 %", wrong=0.3),
    Scenario("errors 1 %, slower by 25 %, wrong 5 %", canary_errors=0.01, slower=1.25, wrong=0.05),
)
BEFORE_S = 300.0
"""How long stable is observed before a rollout."""
LONGEST_S = 14_400.0
"""A replay that goes on for longer counts as held."""
LIMIT = 200
"""Canary requests within which 5 % of errors should be found."""


@dataclass(frozen=True)
class Replay:
    """How one rollout ended."""

    rolled_back: bool
    promoted: bool
    canary_requests: int
    """Since the regression began."""
    seconds: float
    users: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--runs",
        type=int,
        default=1000,
        help="replays of each scenario that a promise is about, and "
        "five times as many as of the others and of the tests of errors alone (default: %(default)s)",
    )
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks (default: %(default)s)")
    parser.add_argument("--scenario", default="", help="only scenarios whose name has this")
    parser.add_argument("--only", choices=("rollouts", "tests"), help="only one of the two tables")
    parser.add_argument("--seed", type=int, default=0, help="where random numbers begin (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    """Print the tables; fail where the defaults do not keep what is promised of them."""
    rollouts = [] if options.only == "tests" else _rollouts(options)
    compared = [] if options.only == "rollouts" else _tests(options)
    if options.json:
        print(json.dumps({"rollouts": rollouts, "tests": compared}, indent=1))
    else:
        _show(options, rollouts, compared)
    broken = [
        row for row in rollouts
        if (row["null"] and not row["clustered"] and row["rolled_back"] > 0.01 * row["runs"])
        or (row["scenario"] == "errors 5 %" and row["within_limit"] < 0.95 * row["runs"])
    ]  # fmt: skip
    for row in broken:
        print(f"not kept: {row['scenario']}", file=sys.stderr)
    return 1 if broken else 0


def _rollouts(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for scenario in SCENARIOS:
        if options.scenario not in scenario.name:
            continue
        settings = Rollout(analysis=Analysis(clustering=scenario.clustering))
        started, ours, naive = time.monotonic(), [], []
        runs = options.runs if scenario.is_promised else max(1, options.runs // 5)
        for number in range(runs):
            seed = options.seed * 1_000_003 + number
            ours.append(replay(settings, scenario, seed, every=options.every))
            naive.append(replay_naive(settings, scenario, seed, every=options.every))
        rows.append({"scenario": scenario.name, "null": scenario.is_null, "clustered": bool(scenario.unlucky)})
        rows[-1] |= {"runs": runs, **_summary(ours), "naive": _summary(naive)}
        told = f"{scenario.name}: {rows[-1]['rolled_back']} of {runs} sent back, canary requests {rows[-1]['requests']}"
        print(f"{told}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def replay(settings: Rollout, scenario: Scenario, seed: int, *, every: float) -> Replay:
    """Return how a rollout ended by the code that rollouts have."""
    traffic, now, requests = Traffic(scenario, seed), 0.0, 0
    state, decision = start(settings, now, before=traffic.before(BEFORE_S))
    while state.phase == "running" and now < LONGEST_S:
        period = traffic.period(now, every, state.share)
        now += every
        requests += period.canary.requests if now > scenario.from_s else 0
        state, decision = decide(settings, state, period, now)
    late = now <= scenario.from_s and not scenario.is_null
    rolled_back = decision.action == "roll_back" and not late
    return Replay(rolled_back, decision.action == "promote", requests, now - scenario.from_s, traffic.users)


def replay_naive(settings: Rollout, scenario: Scenario, seed: int, *, every: float) -> Replay:
    """Return how the same rollout ends by repeated z-tests of each metric's counts in each step."""
    traffic, now, requests, step = Traffic(scenario, seed), 0.0, 0, 0
    before, whole, since = traffic.before(BEFORE_S), Observation(), 0.0
    shares = settings.shares
    watched = [test for test in tests(settings.analysis) if test.name in (test.metric, "error_share")]
    limit = NormalDist().inv_cdf(1 - settings.analysis.alpha / len(watched))
    while now < LONGEST_S and shares[step] < 1:
        period = traffic.period(now, every, shares[step])
        now += every
        requests += period.canary.requests if now > scenario.from_s else 0
        whole = whole + period
        if any(_z(settings, test, whole, before) > limit for test in watched):
            late = now <= scenario.from_s and not scenario.is_null
            return Replay(not late, False, requests, now - scenario.from_s, traffic.users)
        if now - since >= settings.bake_s and whole.canary.requests >= settings.min_requests:
            step, since, whole = step + 1, now, Observation()
    return Replay(False, True, requests, now - scenario.from_s, traffic.users)


def _z(settings: Rollout, test: Test, whole: Observation, before: Arm) -> float:
    edge = edge_of(settings.analysis, test, whole.canary, before) if test.metric in TIMES else 0.0
    return z_score(count(whole.canary, test.metric, edge), count(whole.stable, test.metric, edge))


def _summary(replays: Sequence[Replay]) -> dict[str, Any]:
    found = [replay for replay in replays if replay.rolled_back]
    promoted = [replay for replay in replays if replay.promoted]
    return {
        "rolled_back": len(found),
        "at_most": highest(len(found), len(replays)),
        "promoted": len(promoted),
        "within_limit": sum(replay.canary_requests <= LIMIT for replay in found),
        "requests": _median_and_p95([replay.canary_requests for replay in found]),
        "seconds": _median_and_p95([replay.seconds for replay in found]),
        "users": _median_and_p95([replay.users for replay in found]),
        "promoted_seconds": _median_and_p95([replay.seconds for replay in promoted]),
    }


def highest(hits: int, runs: int, *, alpha: float = 0.05) -> float:
    """Return the upper bound of a share (Clopper and Pearson, one-sided): with it, so few hits have a chance of
    alpha."""
    low, high = hits / runs, 1.0
    if hits == runs:
        return 1.0
    for _ in range(60):
        share = (low + high) / 2
        terms = [
            math.lgamma(runs + 1) - math.lgamma(hit + 1) - math.lgamma(runs - hit + 1)
            + hit * math.log(share) + (runs - hit) * math.log1p(-share)
            for hit in range(hits + 1)
        ]  # fmt: skip
        if sum(math.exp(term) for term in terms) > alpha:
            low = share
        else:
            high = share
    return high


def _median_and_p95(values: Sequence[float]) -> list[int]:
    if not values:
        return []
    ordered = sorted(values)
    return [round(statistics.median(ordered)), round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))])]


CELLS = (
    ("nothing", 0.001, 0.001, False),
    ("nothing, stable 0.8 %", 0.008, 0.008, False),
    ("nothing, outages", 0.001, 0.001, True),
    ("1 %", 0.001, 0.01, False),
    ("2 %", 0.001, 0.02, False),
    ("5 %", 0.001, 0.05, False),
    ("5 %, stable 0.8 %", 0.008, 0.05, False),
)
"""Stable's share of errors, the canary's, and whether a third of all requests fail in 5 of 100 periods."""
LOOKS, CANARY, STABLE = 300, 5, 95
"""Looks, and requests between two."""


def _tests(options: argparse.Namespace) -> list[dict[str, Any]]:
    import numpy

    rows: list[dict[str, Any]] = []
    runs = max(1, options.runs // 5)
    for number, (name, stable, canary, outages) in enumerate(CELLS):
        found: dict[str, list[int]] = {test: [] for test in TESTS}
        for index in range(runs):
            random = numpy.random.default_rng([options.seed, number, index])
            down = random.random(LOOKS) < (0.05 if outages else 0.0)
            ours = random.binomial(CANARY, numpy.where(down, 0.33, canary)).tolist()
            theirs = random.binomial(STABLE, numpy.where(down, 0.33, stable)).tolist()
            for test, build in TESTS.items():
                is_worse = build(0.01)
                for look, (bad, stable_bad) in enumerate(zip(ours, theirs, strict=True), 1):
                    if is_worse(Counts(bad, CANARY), Counts(stable_bad, STABLE)):
                        found[test].append(look * CANARY)
                        break
        for test, requests in found.items():
            cells = {"rolled_back": len(requests), "requests": _median_and_p95(requests)}
            rows.append({"errors": name, "test": test, "runs": runs, **cells})
        print(f"tests, {name}", file=sys.stderr, flush=True)
    return rows


def _show(options: argparse.Namespace, rollouts: list[dict[str, Any]], compared: list[dict[str, Any]]) -> None:
    fewer = max(1, options.runs // 5)
    if rollouts:
        table = [
            ["planted", "sent back", "at most", f"by {LIMIT}", "requests", "seconds", "users", "z-tests", "requests"]
        ]  # fmt: skip
        for row in rollouts:
            at_most = f"{row['at_most']:.2%}" if row["null"] else ""
            soon = f"{row['within_limit'] / row['runs']:.1%}"
            found = [_pair(row[key]) for key in ("requests", "seconds", "users")]
            naive = [_share({**row["naive"], "runs": row["runs"]}), _pair(row["naive"]["requests"])]
            table.append([row["scenario"], _share(row), at_most, soon, *found, *naive])
        print(f"{options.runs} or {fewer} replays each; median / p95 of those sent back\n\n{columns(table)}\n")
    if compared:
        names = list(TESTS)
        table = [["errors of the canary", *names]]
        for name, *_ in CELLS:
            cells = {row["test"]: row for row in compared if row["errors"] == name}
            table.append([name, *(f"{_share(cells[test])}  {_pair(cells[test]['requests'])}" for test in names)])
        print(f"{fewer} runs each: share found within {LOOKS * CANARY} canary requests, median / p95 of requests\n")
        print(columns(table))


def _share(row: dict[str, Any]) -> str:
    return f"{row['rolled_back'] / row['runs']:.1%}"


def _pair(values: list[int]) -> str:
    return " / ".join(f"{value:,}" for value in values) or "-"
