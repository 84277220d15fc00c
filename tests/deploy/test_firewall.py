"""Rules of a host's firewall: who reaches what, by address family, and that they go when they are not wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.deploy import desired, seating, steps
from largeforge.errors import DeployError
from largeforge.recipe.schema import Hosts
from tests.deploy.conftest import Case, gpu, look


def rules(case: Case, host: str, **ports: int) -> str:
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    made = seating.wanted_of(case.given, case.experts, case.places, looks, lock="c" * 64)  # type: ignore[arg-type]
    given = dict.fromkeys(made.services[host], 18000)
    listed = desired.prepared(made, host, given, kept_ports=[18003])
    return next((step.text for step in listed if isinstance(step, steps.File) and step.path.endswith(".nft")), "")


def test_only_gateways_reach_model_servers_those_that_are_kept_too(folder: Path) -> None:
    case = Case(folder, firewall="nftables")
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    host = seating.wanted_of(case.given, case.experts, case.places, looks, lock="").seats["general"].host  # type: ignore[arg-type]
    text = rules(case, host)
    assert "tcp dport { 18000, 18003 } ip saddr { 10.0.0.10 } accept\n    tcp dport { 18000, 18003 } drop" in text
    assert "dport" not in rules(case, "front")


def test_gateways_answer_the_clients_that_are_named_of_either_family(folder: Path) -> None:
    case = Case(folder, firewall="nftables", clients=["10.1.0.0/16", "fd00::/8", "10.2.0.1"])
    text = rules(case, "front")
    assert "tcp dport { 8080 } ip saddr { 10.1.0.0/16, 10.2.0.1 } accept" in text
    assert "tcp dport { 8080 } ip6 saddr { fd00::/8 } accept\n    tcp dport { 8080 } drop" in text


def test_without_a_firewall_what_is_left_of_one_is_removed(folder: Path) -> None:
    case = Case(folder)
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    made = seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]
    removed = [one for one in desired.prepared(made, "front", {"gateway": 8080}) if isinstance(one, steps.Removed)]
    (step,) = (one for one in removed if "firewall" in one.unit)
    nothing = look()["state"]
    assert step.differs(nothing) == ""
    assert step.differs({**nothing, "paths": {step.paths[0]: {"kind": "file"}}}) == "left over"


def test_a_name_that_nobody_knows_is_told_with_what_would_help(folder: Path) -> None:
    case = Case(folder, firewall="nftables")
    one = {"box": {"address": "box.invalid", "python": "/opt/venv/bin/python"}}
    case.given.hosts = Hosts.model_validate({"name": "lab", "hosts": one})
    with pytest.raises(DeployError, match=r"box: deploy\.firewall needs its address.*internal_address"):
        rules(case, "box")
