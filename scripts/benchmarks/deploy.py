"""Deployments to real hosts beside Ansible: a run that changes nothing, one file changed, updates, going back.

Boots hosts with systemd and ssh on this machine (root; see tests/hosts), deploys a gateway and a model server on each
(the stand-in for vLLM, so that nothing but the deployment takes time), and lets ansible-core put the same files,
account and unit there. A client asks all the time during updates.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from scripts.benchmarks import _deploy_playbook as playbook
from scripts.benchmarks import _peers
from scripts.tables import columns

SUMMARY = "deployments to 1, 3 and 10 real hosts beside Ansible, updates under load, going back"
ANSIBLE = _peers.Packages("ansible", ("ansible-core==2.19.14",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--hosts", default="1,3,10", help="numbers of hosts (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, and return 0."""
    from tests.hosts.lab import LENT
    from tests.hosts.machines import machines

    ansible = _peers.install(ANSIBLE, _peers.cache_folder())
    found: dict[str, dict[str, float]] = {}
    for number in (int(word) for word in options.hosts.split(",")):
        with machines(number, bind=LENT) as hosts, tempfile.TemporaryDirectory() as folder:
            found[str(number)] = _measure(hosts, Path(folder), ansible, runs=options.runs, updates=number == 3)
        print(_table(found), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _measure(hosts, folder: Path, ansible: Path, *, runs: int, updates: bool) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return seconds by what was measured, for some hosts."""
    from tests.hosts.lab import Lab

    lab = Lab(folder / "lab", hosts)
    lab.prepare()
    first = lab.deploy()
    addresses = {host.name: host.address for host in hosts}
    peer, models = folder / "ansible", lab.folder / "models" / "v1"
    playbook.write(peer, addresses=addresses, key=hosts.key, known_hosts=hosts.known_hosts, models=models)
    argv = hosts.inside(str(ansible / "ansible-playbook"), "-i", "inventory.ini", "playbook.yaml")
    _timed(argv, peer)
    figures = {"first": first.seconds}
    for what in ("no-op", "one file"):
        own, other = [], []
        for attempt in range(runs):
            words = [] if what == "no-op" else [f"description='number {attempt}'"]
            own.append(lab.deploy(*words).seconds)
            if what == "one file":
                playbook.change(peer, models=models, text=str(attempt))
            other.append(_timed(argv, peer))
        figures[what], figures[f"{what}, ansible"] = statistics.median(own), statistics.median(other)
        if what == "no-op":
            assert set(lab.deployed()["changed"].values()) == {0}, lab.deployed()
        else:
            assert set(lab.deployed()["changed"].values()) == {1}, lab.deployed()
    return {**figures, **(_updates(lab) if updates else {})}


def _updates(lab) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return what updates and going back cost a client that asks all the time."""
    figures: dict[str, float] = {}
    failed = 0
    lab.deploy()
    with lab.asked() as asked:
        lab.deploy(lab.model("v2"), "deploy.rollout.strategy=fixed")
    failed += len(asked["failures"])
    figures["fixed: without one of the servers"] = max(entry["down_s"] for entry in lab.deployed()["replaced"])
    lab.deploy(lab.model("v3"), "deploy.rollout.strategy=blue_green", "deploy.rollout.standby=true")
    with lab.asked() as asked:
        time.sleep(1)
        began = time.time()
        back = lab.run("rollback", "lab", "shop")
        assert back.code == 0, back.output
    failed += len(asked["failures"])
    switched = asked["first"][next(model for model in asked["first"] if model.endswith("v2"))]
    figures |= {"rollback: to the switch": switched - began, "rollback: to its end": back.seconds}
    figures["requests failed"] = float(failed)
    figures["requests answered"] = float(sum(asked["answered"].values()))
    return figures


def _timed(argv: list[str], folder: Path) -> float:
    started = time.monotonic()
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return time.monotonic() - started


def _table(found: dict[str, dict[str, float]]) -> str:
    rows = [["hosts", "no-op", "Ansible", "ratio", "one file", "Ansible", "ratio"]]
    for number, figures in found.items():
        cells = [number]
        for what in ("no-op", "one file"):
            own, other = figures[what], figures[f"{what}, ansible"]
            cells += [f"{own:.1f} s", f"{other:.1f} s", f"{own / other:.2f}"]
        rows.append(cells)
    known = ("first", "no-op", "one file")
    others = [
        f"{number} hosts, {what}: {value:.1f}"
        for number, figures in found.items()
        for what, value in figures.items()
        if not what.startswith(known)
    ]
    return "\n".join(["", columns(rows), *others])
