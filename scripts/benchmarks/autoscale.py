"""Replay traffic through the decisions and defaults of autoscaling, beside fixed capacity and a plain threshold.

Nothing is started: replicas are a model (`_autoscale_model.py`) in which an answer takes 4 s on an empty replica and
8 s on one with all of its 64 sequences in flight, a start takes 90 s, eight replicas of one GPU fit, and 95 % of the
answers are to take 16 s at most. With `--log` the traffic is what a gateway has logged. Equal seeds give equal
results.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from largeforge.autoscale import Observation, decide, start, targets
from largeforge.recipe.schema import Autoscaling, Slo
from scripts.benchmarks._autoscale_model import Figures, Machine, Policy, replay
from scripts.benchmarks._autoscale_traces import Trace, recorded, synthetic
from scripts.tables import columns

SUMMARY = "answers over the SLO and GPU hours of autoscaling, beside fixed capacity and a plain threshold"
FULL = 0.8
"""Share of a replica's sequences that fixed capacity is planned with."""
ALONE = {"latency": False, "waiting": 1e9, "cache_use": 0.0}
"""Settings that leave requests in flight alone to decide."""
WAITS_S = 300.0
"""How long the gateway lets requests wait where experts may stop altogether."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "HPA's windows": {**ALONE, "up_s": 0, "panic": 0},
    "slo": {},
    "predictive": {"predictive": True},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "slo": {}, "up_s: 0": {"up_s": 0}, "up_s: 30": {"up_s": 30}, "panic: 0": {"panic": 0}, "panic: 1.5": {"panic": 1.5},
    "down_s: 60": {"down_s": 60}, "down_s: 900": {"down_s": 900}, "in_flight: 0.6": {"in_flight": 0.6},
    "in_flight: 0.9": {"in_flight": 0.9}, "latency: false": {"latency": False}, "tolerance: 0": {"tolerance": 0},
    "waiting: 16": {"waiting": 16}, "predictive": {"predictive": True},
    "predictive, weeks: 1": {"predictive": True, "weeks": 1},
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seeds", type=int, default=3, help="replays of each (default: %(default)s)")
    parser.add_argument("--trace", default="", help="only traces whose name has this")
    parser.add_argument("--log", type=Path, action="append", default=[], help="a gateway's log, in place of synthetic "
                        "traces; may be given several times")  # fmt: skip
    parser.add_argument("--expert", default="", help="only requests of this expert, of logs")
    parser.add_argument("--variants", action="store_true", help="compare settings, one changed at a time")
    parser.add_argument("--start-s", type=float, default=Machine().start_s, help="seconds that a start takes "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    """Print the table; fail where the defaults lose to a plain threshold on both figures."""
    machine = Machine(start_s=options.start_s)
    traces = [recorded(path, expert=options.expert) for path in options.log] or synthetic()
    rows: list[dict[str, Any]] = []
    for trace in traces:
        if options.trace in trace.name:
            rows += _rows(trace, machine, options)
            print(f"{trace.name}: done", file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=1) if options.json else _table(rows))
    lost = [] if options.variants else _lost(rows)
    for name in lost:
        print(f"not kept: {name}", file=sys.stderr)
    return 1 if lost else 0


def _rows(trace: Trace, machine: Machine, options: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[str, Figures] = {}
    if not options.variants:
        for name, rate in (("fixed, at peak", trace.peak), ("fixed, at mean", trace.mean)):
            num = max(fixed(rate(seed), machine) for seed in range(options.seeds))
            found[name] = _replayed(trace, machine, options, lambda num=num: lambda seen, now: num, running=num)
        found["threshold"] = _replayed(trace, machine, options, lambda: threshold(machine))
    for name, changed in (VARIANTS if options.variants else DEFAULTS).items():
        found[name] = _replayed(trace, machine, options, lambda changed=changed: ours(machine, changed),
                                learns="predictive" in changed)  # fmt: skip
    if "quiet" in trace.name and not options.variants:
        patient = replace(machine, wait_s=WAITS_S)
        for name, more in (("scale to zero", {}), ("scale to zero, predictive", {"predictive": True})):
            found[name] = _replayed(
                trace, patient, options, lambda more=more: ours(patient, {"min_replicas": 0, **more}),
                learns="predictive" in more,
            )  # fmt: skip
    return [{"trace": trace.name, "policy": name, **_told(one, options.seeds)} for name, one in found.items()]


def fixed(rate: float, machine: Machine) -> int:
    """Return the replicas that answer a rate with four fifths of their sequences in flight."""
    return min(machine.most, max(1, math.ceil(rate / machine.rate(FULL * machine.max_num_seqs))))


def threshold(machine: Machine, *, above: float = 0.8, below: float = 0.4, cooldown_s: float = 60.0) -> Policy:
    """Return the plain rule: one more above a share of the sequences in flight, one less below another, then wait."""
    state = {"wanted": 1, "changed": -cooldown_s}

    def policy(seen: Observation, now: float) -> int:
        used = seen.demand / (max(1, seen.ready) * machine.max_num_seqs)
        change = 1 if used > above else -1 if used < below and state["wanted"] > 1 else 0
        if change and now - state["changed"] >= cooldown_s:
            state.update(wanted=min(machine.most, state["wanted"] + change), changed=now)
        return int(state["wanted"])

    return policy


def ours(machine: Machine, changed: dict[str, Any]) -> Policy:
    """Return the decisions of autoscaling with some settings changed."""
    scaling = Autoscaling(**{"cache_use": 0.0, **changed})
    promised = {"indicator": "latency", "objective": 0.95, "threshold_ms": machine.slo_s * 1000}
    aims = targets(scaling, Slo.model_validate({"objectives": {"answer": promised}}), max_num_seqs=machine.max_num_seqs)
    state = start(0.0, running=1)

    def policy(seen: Observation, now: float) -> int:
        nonlocal state
        state, decision = decide(scaling, aims, state, seen, now)
        return decision.wanted

    return policy


def _replayed(
    trace: Trace, machine: Machine, options: argparse.Namespace, make: Callable[[], Policy], *, running: int = 1,
    learns: bool = False,
) -> Figures:  # fmt: skip
    parts = [
        replay(trace, make(), machine, seed=seed, running=running, learns=learns) for seed in range(options.seeds)
    ]  # fmt: skip
    return sum(parts, Figures())


def _told(figures: Figures, seeds: int) -> dict[str, Any]:
    requests = max(1, figures.requests)
    return {
        "over_slo": figures.over_slo / requests, "refused": figures.refused / requests,
        "gpu_h": figures.gpu_s / 3600 / seeds, "starts": figures.starts / seeds, "highest": figures.highest,
    }  # fmt: skip


def _lost(rows: list[dict[str, Any]]) -> list[str]:
    """Return the traces in which the defaults have more answers over the SLO than a threshold, and cost more."""
    by_name = {(row["trace"], row["policy"]): row for row in rows}
    pairs = [
        (name, by_name[name, "slo"], by_name[name, "threshold"]) for name in dict.fromkeys(r["trace"] for r in rows)
    ]
    return [
        name for name, one, plain in pairs if one["over_slo"] > plain["over_slo"] and one["gpu_h"] > plain["gpu_h"]
    ]  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> str:
    table = [["trace", "policy", "over SLO", "refused", "GPU hours", "× first", "starts"]]
    first: dict[str, float] = {}
    for row in rows:
        whole = first.setdefault(row["trace"], row["gpu_h"])
        table.append([
            row["trace"], row["policy"], f"{row['over_slo']:.2%}", f"{row['refused']:.2%}", f"{row['gpu_h']:.1f}",
            f"{row['gpu_h'] / whole:.2f}", f"{row['starts']:.0f}",
        ])  # fmt: skip
    return columns(table)
