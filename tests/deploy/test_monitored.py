"""What hosts get to be monitored, by host and setting; what apt is asked; what refuses a file."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from largeforge.deploy import desired, monitored, seating, steps, wire
from largeforge.errors import DeployError
from largeforge.recipe.schema import Hosts, Monitoring
from largeforge.recipe.sections.slos import Slo
from tests.deploy.conftest import Case, gpu, look

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted

UNITS = "/etc/systemd/system/largeforge-shop-"
SLO = {"objectives": {"answered": {"indicator": "availability", "objective": 0.99}}}


def made(case: Case, looks: dict[str, Any] | None = None, **monitoring: Any) -> Wanted:
    pytest.importorskip("grafana_foundation_sdk")
    case.given.monitoring = Monitoring.model_validate({"enabled": True, **monitoring})
    case.given.slo = Slo.model_validate(SLO)
    looks = looks or {name: look(*([gpu(0)] if name != "front" else [])) for name in case.given.hosts.hosts}
    return seating.wanted_of(case.given, case.experts, case.places, looks, lock="c" * 64)  # type: ignore[arg-type]


def listed(wanted: Wanted, host: str) -> list[steps.Step]:
    return desired.prepared(wanted, host, dict.fromkeys(wanted.services[host], 18000))


def texts(wanted: Wanted, host: str) -> dict[str, str]:
    return {step.path: step.text for step in listed(wanted, host) if isinstance(step, steps.File)}


def parts(wanted: Wanted, host: str) -> set[str]:
    return {part.name for part in monitored.parts(wanted, host)}


def test_the_first_gateway_measures_and_every_host_is_measured(folder: Path) -> None:
    wanted = made(Case(folder))
    serving = wanted.seats["general"].host
    (idle,) = {"box", "other"} - {serving}
    assert parts(wanted, "front") == {"node", "metrics", "prometheus", "alertmanager"}
    assert parts(wanted, serving) == {"node", "metrics", "gpus"} and parts(wanted, idle) == {"node", "gpus"}
    told = yaml.safe_load(texts(wanted, "front")["/opt/largeforge/deployments/shop/monitoring/prometheus.yml"])
    targets = {job["job_name"]: [entry["targets"][0] for entry in job["static_configs"]]
               for job in told["scrape_configs"]}  # fmt: skip
    address = wanted.hosts[serving].address
    assert targets["gateway"] == ["127.0.0.1:9105"] and targets["vllm"] == [f"{address}:9105"]
    assert targets["hosts"] == ["127.0.0.1:9100", "10.0.0.11:9100", "10.0.0.12:9100"]
    assert f"--web.listen-address={address}:9100" in texts(wanted, serving)[f"{UNITS}node.service"]
    assert "--web.listen-address=127.0.0.1:9090" in texts(wanted, "front")[f"{UNITS}prometheus.service"]


def test_a_host_of_its_own_runs_prometheus_and_no_model_server(folder: Path) -> None:
    case = Case(folder)
    given = case.given.hosts.model_dump(exclude_defaults=True)
    given["hosts"]["watch"] = {"address": "10.0.0.20", "roles": ["monitor"]}
    case.given.hosts = Hosts.model_validate(given)
    assert "watch" not in seating.deployed_hosts(case.given.hosts)
    wanted = made(case, host="watch")
    assert parts(wanted, "watch") == {"node", "gpus", "prometheus", "alertmanager"} and not wanted.services["watch"]
    assert "prometheus" not in parts(wanted, "front") and not wanted.pythons["watch"].steps()
    assert "--web.listen-address=10.0.0.10:9100" in texts(wanted, "front")[f"{UNITS}node.service"]


def test_secrets_are_encrypted_and_stand_in_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "r0ut1ng-key")
    wanted = made(Case(folder), alerts={"page": [{"kind": "pagerduty", "secret": "env:PAGER"}]})
    secrets = [step for step in listed(wanted, "front") if isinstance(step, steps.Credential)]
    assert [(one.name, one.secret) for one in secrets] == [("alerts-page-0", "r0ut1ng-key")]
    assert not any("r0ut1ng-key" in text for text in texts(wanted, "front").values())
    assert "r0ut1ng-key" not in repr(wanted.monitored)
    unit = texts(wanted, "front")[f"{UNITS}alertmanager.service"]
    assert "LoadCredentialEncrypted=alerts-page-0:/etc/largeforge/shop/alerts-page-0.cred" in unit
    assert not any(isinstance(step, steps.Credential) for step in listed(wanted, "box"))


def test_only_what_passes_alerts_on_knows_the_url_of_a_webhook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://hook/s3cret")
    monkeypatch.setenv("PAGER", "r0ut1ng-key")
    page = [{"kind": "webhook", "secret": "env:HOOK"}, {"kind": "pagerduty", "secret": "env:PAGER"}]
    wanted = made(Case(folder), alerts={"page": page}, listen="0.0.0.0")
    assert parts(wanted, "front") == {"node", "metrics", "hooks", "prometheus", "alertmanager"}
    hooks, told = (texts(wanted, "front")[f"{UNITS}{name}.service"] for name in ("hooks", "alertmanager"))
    assert "hooks.py /run/credentials/largeforge-shop-hooks.service 127.0.0.1 9106 alerts-page-0\n" in hooks
    assert "LoadCredentialEncrypted=alerts-page-0:" in hooks and "alerts-page-1" not in hooks
    assert "LoadCredentialEncrypted=alerts-page-1:" in told and "alerts-page-0" not in told
    assert not any("s3cret" in text for text in texts(wanted, "front").values())
    configuration = yaml.safe_load(
        texts(wanted, "front")["/opt/largeforge/deployments/shop/monitoring/alertmanager.yml"]
    )
    (receiver,) = (one for one in configuration["receivers"] if one["name"] == "page")
    assert receiver["webhook_configs"][0]["url"] == "http://127.0.0.1:9106/alerts-page-0"


def test_another_secret_starts_what_uses_it_again_and_another_receiver_only_tells_alertmanager(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "http://hook/1")
    wanted = made(Case(folder), alerts={"page": [{"kind": "webhook", "secret": "env:HOOK"}]})
    (up,) = (step for step in listed(wanted, "front") if step.title == "start largeforge-shop-hooks.service")
    assert {type(step) for step in up.files} == {steps.File, steps.Credential}  # type: ignore[attr-defined]
    (file,) = (step for step in listed(wanted, "front") if step.title.endswith("/alertmanager.yml"))
    assert "systemctl reload largeforge-shop-alertmanager.service" in file.command()
    (back,) = wire.decoded(wire.encoded([up]))
    assert back == up


def test_a_port_that_is_taken_is_told_before_anything_is_changed(folder: Path) -> None:
    case = Case(folder)
    looks = {
        name: look(gpu(0), taken_ports=[22, *([9100] if name == "box" else [])]) for name in case.given.hosts.hosts
    }
    with pytest.raises(DeployError, match=r"box: port 9100 is taken; give another one with monitoring\.ports\.node"):
        made(case, looks)
    made(case, looks, ports={"node": 9101})
    looks["box"]["state"]["units"] = {"largeforge-shop-node.service": {"ActiveState": "active"}}
    made(case, looks)


def test_exporters_answer_prometheus_alone_behind_the_firewall(folder: Path) -> None:
    wanted = made(Case(folder, firewall="nftables", clients=["10.9.0.0/16"]))
    rules = next(text for path, text in texts(wanted, "box").items() if path.endswith(".nft"))
    assert "tcp dport { 9100, 9105 } ip saddr { 10.0.0.10 } accept\n    tcp dport { 9100, 9105 } drop" in rules
    front = next(text for path, text in texts(wanted, "front").items() if path.endswith(".nft"))
    assert "tcp dport { 9090, 9093 } ip saddr { 10.9.0.0/16 } accept" in front


def test_what_is_not_wanted_any_more_goes(folder: Path) -> None:
    case = Case(folder)
    units = [f"{UNITS}{name}.service" for name in ("prometheus", "alertmanager", "hooks", "node", "metrics", "logs")]
    there = {path: {"kind": "file"} for path in (*units, f"{UNITS}gpus.timer", "/etc/grafana/provisioning/dashboards"
             "/largeforge-shop.yaml", "/opt/largeforge/deployments/shop/monitoring")}  # fmt: skip
    state = look(paths=there)["state"]
    wanted = made(case, enabled=False)
    gone = {step.title for step, _ in steps.changes(monitored.left_over(wanted, "front"), state)}
    assert len(gone) == len(there) and all(title.startswith("remove ") for title in gone)
    kept = {step.title for step, _ in steps.changes(monitored.left_over(made(case), "front"), state)}
    assert kept == {
        "remove largeforge-shop-hooks.service", "remove largeforge-shop-logs.service",
        "remove largeforge-shop-gpus.timer",
        "remove /etc/grafana/provisioning/dashboards/largeforge-shop.yaml",
    }  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Any:
    """Run a step's command with an apt and a systemd that write down what they are asked."""

    def run(
        step: steps.Step, *, apt: int = 0, there: tuple[str, ...] = ("prometheus", "promtool")
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        asked = tmp_path / "asked"
        asked.write_text("")
        answers = {
            "apt-get": f'case "$*" in *install*) exit {apt};; esac',
            "systemctl": 'case "$1" in cat) exit 1;; esac',
            **dict.fromkeys(there, ""),
        }
        for name, answer in answers.items():
            (programs / name).write_text(
                f'#!/bin/sh\necho "{name} $*${{http_proxy:+ through $http_proxy}}" >> {asked}\n{answer}\n'
            )
            (programs / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "http_proxy": ""}
        ended = subprocess.run(
            ["sh", "-c", step.command()], input=step.input(), capture_output=True, text=True, env=environment
        )
        return ended, asked.read_text().splitlines()

    return run


INSTALLED = steps.Installed(("prometheus", "promtool"), ("prometheus",), ("prometheus.service",))


def test_packages_are_installed_once_and_what_they_would_start_stays_off(host: Any) -> None:
    assert INSTALLED.differs(look(programs=["prometheus"])["state"]) == "no promtool"
    assert INSTALLED.differs(look(programs=["prometheus", "promtool"])["state"]) == ""
    ended, asked = host(INSTALLED)
    assert ended.returncode == 0, ended.stderr
    assert [" ".join(word for word in line.split() if "=" not in word and not word.startswith("-"))
            for line in asked] == [
        "systemctl cat prometheus.service", "systemctl mask prometheus.service", "apt-get update",
        "apt-get install prometheus", "systemctl unmask prometheus.service", "systemctl disable prometheus.service",
    ]  # fmt: skip


def test_packages_come_through_the_proxy_of_their_host_whose_password_no_process_shows(host: Any) -> None:
    step = replace(INSTALLED, proxy="http://me:secret@10.0.0.9:3128")
    ended, asked = host(step)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in asked if line.startswith("apt-get") and "through http://me:secret@10.0.0.9:3128" in line]
    assert "secret" not in step.command() and "secret" not in repr(step)


def test_packages_that_do_not_bring_their_programs_are_told(host: Any) -> None:
    step = steps.Installed(("largeforge-no-such-program",), INSTALLED.packages)
    ended, _ = host(step)
    assert ended.returncode == 1 and "install the packages prometheus on this host" in ended.stderr


@pytest.mark.parametrize("by_apt", [True, False])
def test_a_host_without_packages_says_what_to_install(host: Any, by_apt: bool) -> None:
    step = steps.Installed(INSTALLED.programs, INSTALLED.packages, INSTALLED.units, by_apt=by_apt)
    ended, asked = host(step, apt=100)
    assert ended.returncode == 1
    assert "install the packages prometheus on this host, and say monitoring.install=present" in ended.stderr
    assert asked[-1:] == (["systemctl disable --quiet prometheus.service"] if by_apt else [])


def test_a_file_that_is_refused_leaves_the_old_one(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "a b" / "rules.yml"
    path.parent.mkdir()
    path.write_text("old")
    me = os.environ.get("USER") or "root"
    refused, asked = host(steps.Checked(str(path), "bad", me, check="grep -q good {}", unit="a.service"))
    assert refused.returncode == 1 and path.read_text() == "old" and not asked
    assert [entry.name for entry in path.parent.iterdir()] == ["rules.yml"]
    taken, asked = host(steps.Checked(str(path), "good", me, check="grep -q good {}", unit="a.service"))
    assert taken.returncode == 0 and path.read_text() == "good", taken.stderr
    assert asked == ["systemctl is-active --quiet a.service", "systemctl reload a.service"]
