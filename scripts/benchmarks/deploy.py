"""Deployments to real hosts beside Ansible: a run that changes nothing, one file changed, updates, going back.

Boots hosts with systemd and ssh on this machine (root; see tests/hosts), deploys a gateway and a model server on each
(the stand-in for vLLM, so that nothing but the deployment takes time), and lets ansible-core put the same files,
account and unit there, as fast as it does that: pipelining, connections that stay, no facts, no search for Python. Both
run from compiled bytecode, as installed packages do, and take turns. A client asks all the time during updates.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.benchmarks import _deploy_playbook as playbook
from scripts.benchmarks import _deploy_simulated as simulated
from scripts.benchmarks import _peers
from scripts.tables import columns

SUMMARY = "deployments to 1, 3 and 10 real hosts beside Ansible, updates under load, going back"
ANSIBLE = _peers.Packages("ansible", ("ansible-core==2.19.14",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--hosts", default="1,3,10", help="numbers of hosts (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (%(default)s)")
    parser.add_argument("--updates", action="store_true", help="only updates under load and going back, no Ansible")
    parser.add_argument(
        "--simulate", metavar="HOSTS", help="instead: updates of so many hosts that are played, 100,1000"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, and return 0."""
    if options.simulate:
        rows = [row for word in options.simulate.split(",") for row in simulated.measure(int(word))]
        print(columns([["hosts", "update", "controller", "files sent", "in all", "on paper"], *rows], left=2))
        return 0
    from tests.hosts.lab import LENT
    from tests.hosts.machines import machines

    ansible = None if options.updates else _peers.install(ANSIBLE, _peers.cache_folder())
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in (int(word) for word in options.hosts.split(",")):
            with machines(number, bind=LENT) as hosts, tempfile.TemporaryDirectory() as folder:
                found[str(number)] = _measure(hosts, Path(folder), ansible, runs=options.runs)
            print(_table(found, beside_ansible=ansible is not None), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _measure(hosts, folder: Path, ansible: Path | None, *, runs: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return seconds by what was measured, for some hosts."""
    from tests.hosts.lab import Lab

    lab = Lab(folder / "lab", hosts)
    lab.prepare()
    figures = {"first": lab.deploy().seconds}
    if ansible is not None:
        figures |= _beside_ansible(lab, hosts, folder / "ansible", ansible, runs=runs)
    return {**figures, **_updates(lab)}


def _beside_ansible(lab, hosts, peer: Path, ansible: Path, *, runs: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return what runs take that change nothing, or one file."""
    addresses = {host.name: host.address for host in hosts}
    models = lab.folder / "models" / "v1"
    playbook.write(peer, addresses=addresses, key=hosts.key, known_hosts=hosts.known_hosts, models=models)
    argv = hosts.inside(str(ansible / "ansible-playbook"), "-i", "inventory.ini", "playbook.yaml")
    _timed(argv, peer)
    figures: dict[str, float] = {}
    for what in ("no-op", "one file"):
        own, other = [], []
        for attempt in range(runs):
            words = [] if what == "no-op" else [f"description='number {attempt}'"]
            own.append(lab.deploy(*words).seconds)
            if what == "one file":
                playbook.change(peer, models=models, text=str(attempt))
            other.append(_timed(argv, peer, changed=int(what == "one file")))
        figures[what], figures[f"{what}, ansible"] = statistics.median(own), statistics.median(other)
        if what == "no-op":
            assert set(lab.deployed()["changed"].values()) == {0}, lab.deployed()
        else:
            assert set(lab.deployed()["changed"].values()) == {1}, lab.deployed()
    return figures


def _updates(lab) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return what updates and going back cost a client that asks all the time."""
    lab.deploy()
    with lab.asked() as fixed:
        lab.deploy(lab.model("v2"), "deploy.update.strategy=fixed")
    down_s = max(entry["down_s"] for entry in lab.deployed()["replaced"])
    with lab.asked() as beside:
        lab.deploy(lab.model("v3"), "deploy.update.strategy=blue_green", "deploy.update.standby=true")
    with lab.asked() as returned:
        time.sleep(1)
        began = time.time()
        back = lab.run("rollback", "lab", "shop")
        assert back.code == 0, back.output
    switched = returned["first"][next(model for model in returned["first"] if model.endswith("v2"))]
    return {
        "fixed: a server is down (s)": down_s,
        "fixed: nobody is answered (s)": fixed["longest_gap_s"],
        **_asked("fixed", fixed),
        **_asked("blue_green", beside),
        "rollback: to the switch (s)": round(switched - began, 1),
        "rollback: to its end (s)": round(back.seconds, 1),
        **_asked("rollback", returned),
    }


def _asked(what: str, asked: dict[str, Any]) -> dict[str, float]:
    answered, failed = sum(asked["answered"].values()), len(asked["failures"])
    return {f"{what}: requests answered": float(answered), f"{what}: requests failed": float(failed)}


def _timed(argv: list[str], folder: Path, *, changed: int | None = None) -> float:
    """Return the seconds that Ansible takes, when it changes this much on each host."""
    started = time.monotonic()
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    found = {int(number) for number in re.findall(r" changed=(\d+) ", ended.stdout)}
    assert changed is None or found == {changed}, ended.stdout[-2000:]
    return seconds


def _table(found: dict[str, dict[str, float]], *, beside_ansible: bool) -> str:
    rows = [["hosts", "no-op", "Ansible", "ratio", "one file", "Ansible", "ratio"]]
    for number, figures in found.items() if beside_ansible else ():
        cells = [number]
        for what in ("no-op", "one file"):
            own, other = figures[what], figures[f"{what}, ansible"]
            cells += [f"{own:.1f} s", f"{other:.1f} s", f"{own / other:.2f}"]
        rows.append(cells)
    known = ("first", "no-op", "one file")
    others = [
        f"{number} hosts, {what}: {value:g}"
        for number, figures in found.items()
        for what, value in figures.items()
        if not what.startswith(known)
    ]
    return "\n".join(["", *([columns(rows)] if beside_ansible else []), *others])
