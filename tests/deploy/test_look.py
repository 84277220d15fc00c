"""What of a host is of which deployment, where the name of one begins with that of another."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from largeforge.deploy import desired, seating, steps
from largeforge.deploy.remote import look
from largeforge.recipe.schema import Monitoring
from tests.deploy.conftest import Case, gpu
from tests.deploy.conftest import look as told

UNITS = "/etc/systemd/system/"
SWITCH = 'ExecStart="/usr/bin/python3" "/opt/agent/switch.py" "work" "/run/largeforge/{name}/{service}/7.json"\n'


def unit_files(folder: Path, deployment: str) -> dict[str, str]:
    """Return all units of a deployment that has every part on every host."""
    pytest.importorskip("grafana_foundation_sdk")
    case = Case(folder, name=deployment, firewall="nftables", replicas=2)
    case.given.monitoring = Monitoring.model_validate({"enabled": True, "logs": {"syslog": "tcp://10.0.0.9:514"}})
    looks = {name: told(gpu(0)) for name in case.given.hosts.hosts}
    made = seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]
    listed = [
        step for host in made.hosts for step in desired.prepared(made, host, dict.fromkeys(made.services[host], 1))
    ]
    files = {step.path: step.text for step in listed if isinstance(step, steps.File)}
    return {path.removeprefix(UNITS): text for path, text in files.items() if path.startswith(UNITS)}


class Machine:
    """A host with a folder of units; systemd knows those, and what else it is given."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root, self.units, self.memory = root / "opt", root / "units", dict[str, str]()
        self.units.mkdir()
        monkeypatch.setattr(look, "UNITS", str(self.units))
        monkeypatch.setattr(look, "run", self._run)

    def deploy(self, name: str, files: dict[str, str]) -> None:
        (self.root / "deployments" / name).mkdir(parents=True)
        for file, text in files.items():
            (self.units / file).write_text(text)

    def state(self, name: str) -> dict[str, Any]:
        request = {"root": str(self.root), "state": "/nowhere", "logs": "/nowhere", "deployment": name, "user": "root"}
        found: dict[str, Any] = look.state(request)
        return found

    def _run(self, *command: str) -> str:
        """Answer as `systemctl show` does: of a pattern those in memory, of a name whatever there is."""
        if command[:2] != ("systemctl", "show"):
            return subprocess.run(command, capture_output=True, text=True).stdout
        pattern, *names = command[command.index("--") + 1 :]
        names += [name for name in self.memory if name.startswith(pattern.rstrip("*"))]
        return "\n\n".join(f"Id={name}\nActiveState=active\nFragmentPath={self.memory.get(name, '')}" for name in names)


def test_every_unit_is_of_one_deployment(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    names = ("support", "support-eu", "support-eu-general")
    files = {name: unit_files(folder, name) for name in names}
    for name in names:
        machine.deploy(name, files[name])
    kinds = {unit.removeprefix("largeforge-support-").split("-")[0].split(".")[0] for unit in files["support"]}
    assert kinds >= {"general", "gateway", "port", "firewall", "prometheus", "alertmanager", "node", "metrics", "gpus", "logs"}  # fmt: skip # noqa: E501
    for name in names:
        found = machine.state(name)
        assert set(found["units"]) == set(files[name])
        here = {Path(path).name for path in found["paths"] if path.startswith(str(machine.units))}
        assert here == set(files[name])


def test_a_server_that_is_called_as_another_deployment_ends_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    own = "largeforge-support-eu-0123456789ab.service"
    machine.deploy("support", {own: "ReadWritePaths=/var/lib/largeforge/support/eu\n"})
    machine.deploy("support-eu", {})
    assert set(machine.state("support")["units"]) == {own} and not machine.state("support-eu")["units"]


def test_units_without_a_file_of_ours_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.deploy("support", {})
    machine.deploy("support-eu", {})
    switch, ghost = "largeforge-support-eu-general-switch.service", "largeforge-support-eu-node.service"
    transient = tmp_path / switch
    transient.write_text(SWITCH.format(name="support-eu", service="general"))
    machine.memory = {switch: str(transient), ghost: ""}
    assert not machine.state("support")["units"]
    assert set(machine.state("support-eu")["units"]) == {switch, ghost}
    transient.write_text(SWITCH.format(name="support", service="eu-general"))
    assert set(machine.state("support")["units"]) == {switch}


def test_what_is_put_beside_a_unit_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    unit = "largeforge-support-eu-node.service"
    machine.deploy("support", {})
    machine.deploy("support-eu", {unit: "ReadWritePaths=/var/lib/largeforge/support-eu/node\n"})
    (machine.units / f"{unit}.d").mkdir()
    (machine.units / f"{unit}.d" / "own.conf").write_text("[Service]\nNice=5\n")
    ours, theirs = machine.state("support-eu"), machine.state("support")
    assert str(machine.units / f"{unit}.d" / "own.conf") in ours["paths"] and set(ours["units"]) == {unit}
    assert not any(path.startswith(str(machine.units)) for path in theirs["paths"])


def test_canaries_of_other_deployments_have_taken_memory_too(tmp_path: Path) -> None:
    for name, key in (("current", "a"), ("canary", "b")):
        service = tmp_path / "deployments" / "other" / "services" / "general"
        (service / "releases" / key).mkdir(parents=True)
        said = {"service": "general", "gpus": [0], "bytes": 7}
        (service / "releases" / key / "service.json").write_text(json.dumps(said))
        (service / name).symlink_to(f"releases/{key}")
    taken = {"deployment": "other", "service": "general", "port": 0, "gpus": [0], "bytes": 7}
    assert look.others(str(tmp_path), "shop") == [taken, taken] and look.others(str(tmp_path), "other") == []
