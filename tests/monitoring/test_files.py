"""What Prometheus and Alertmanager are told: their own programs accept it, and it names what there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.monitoring import alertmanager, logs, scrape
from largeforge.monitoring.rules import LOOKBACK_S
from largeforge.monitoring.scrape import Target, Targets
from largeforge.monitoring.text import as_yaml
from largeforge.recipe.sections.monitoring import Alerts, Monitoring
from largeforge.recipe.sections.slos import Slo

TARGETS = Targets(
    gateways=[Target("front", "127.0.0.1:9105")], servers=[Target("box", "10.0.0.11:9105")],
    hosts=[Target("front", "127.0.0.1:9100"), Target("box", "10.0.0.11:9100")],
    own=[("prometheus", Target("front", "127.0.0.1:9090"))],
)  # fmt: skip
ALERTS = Alerts.model_validate({
    "page": [{"kind": "pagerduty", "secret": "env:KEY"}, {"kind": "webhook", "secret": "file:/etc/hook"}],
    "ticket": [{"kind": "slack", "secret": "vault:secret/slack#url", "channel": "#llm"}],
    "repeat_h": 1,
})  # fmt: skip


def accepted(tool: str, *words: str, path: Path, content: Any) -> None:
    if not shutil.which(tool):
        pytest.skip(f"needs {tool}")
    path.write_text(as_yaml(content))
    ended = subprocess.run([tool, *words, path], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def choices() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "conf" / "slo").glob("*.yaml"))


def configuration(rules: str) -> dict[str, Any]:
    return scrape.configuration(
        TARGETS, deployment="shop", interval_s=15, rules_file=rules, alertmanager="127.0.0.1:9093"
    )


@pytest.mark.parametrize("path", choices(), ids=lambda path: path.stem)
def test_prometheus_takes_its_configuration_with_the_rules_of_every_choice(path: Path, tmp_path: Path) -> None:
    slo = Slo.model_validate(yaml.safe_load(path.read_text()))
    rules = tmp_path / "rules.yml"
    rules.write_text(as_yaml(scrape.rules_file(slo, deployment="shop")))
    assert "&id" not in rules.read_text() and "*id" not in rules.read_text()
    accepted("promtool", "check", "config", path=tmp_path / "prometheus.yml", content=configuration(str(rules)))


@pytest.mark.parametrize("path", choices(), ids=lambda path: path.stem)
def test_everything_is_computed_at_least_twice_before_prometheus_forgets_it(path: Path) -> None:
    slo = Slo.model_validate(yaml.safe_load(path.read_text()))
    (longest,) = (one.le for one in Monitoring.model_fields["scrape_interval_s"].metadata if hasattr(one, "le"))
    told = scrape.configuration(
        TARGETS, deployment="shop", interval_s=longest, rules_file="r", alertmanager="a:1"
    )["global"]  # fmt: skip
    groups = scrape.rules_file(slo, deployment="shop")["groups"]
    given = [told["scrape_interval"], told["evaluation_interval"], *(group.get("interval", "1s") for group in groups)]
    seconds = [int(one[:-1]) * {"s": 1, "m": 60, "h": 3600}[one[-1]] for one in given]
    assert all(0 < one < LOOKBACK_S / 2 for one in seconds), given
    assert len(groups) > 2 * len(slo.objectives)


def test_every_target_has_its_deployment_and_its_host() -> None:
    jobs = {job["job_name"]: job for job in configuration("rules.yml")["scrape_configs"]}
    assert set(jobs) == {"gateway", "vllm", "hosts", "prometheus"}
    assert [jobs[name]["metrics_path"] for name in ("gateway", "vllm", "hosts")] == ["/gateway", "/servers", "/metrics"]
    labels = [entry["labels"] for job in jobs.values() for entry in job["static_configs"]]
    assert all(entry["deployment"] == "shop" and entry["host"] for entry in labels) and len(labels) == 5


def test_somebody_is_told_of_what_is_not_measured() -> None:
    rules = {
        rule["alert"]: rule
        for group in scrape.rules_file(Slo(), deployment="shop")["groups"]
        for rule in group["rules"]
    }  # fmt: skip
    assert set(rules) == {"NotMeasured", "RolloutRolledBack", "CanaryTakenOut", "RolloutWithoutController"}
    rule = rules["NotMeasured"]
    assert rule["expr"] == 'up{deployment="shop"} == 0' and rule["labels"]["severity"] == "ticket"


@pytest.mark.parametrize("alerts", [Alerts(), ALERTS], ids=["nobody", "everybody"])
def test_alertmanager_takes_its_configuration(alerts: Alerts, tmp_path: Path) -> None:
    content = alertmanager.configuration(alerts, secrets="/run/credentials/a.service", hooks="127.0.0.1:9106")
    accepted("amtool", "check-config", path=tmp_path / "alertmanager.yml", content=content)


@pytest.mark.parametrize("severity", ["page", "ticket", "info"])
def test_each_severity_reaches_its_own_receivers(severity: str, tmp_path: Path) -> None:
    if not shutil.which("amtool"):
        pytest.skip("needs amtool")
    path = tmp_path / "alertmanager.yml"
    path.write_text(
        as_yaml(alertmanager.configuration(ALERTS, secrets="/run/credentials/a.service", hooks="127.0.0.1:9106"))
    )
    asked = ["amtool", "config", "routes", "test", "--config.file", path, f"severity={severity}", "alertname=X"]
    told = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    assert told == {"page": "page", "ticket": "ticket", "info": "nobody"}[severity]


def test_secrets_are_named_and_not_written() -> None:
    text = as_yaml(alertmanager.configuration(ALERTS, secrets="/run/credentials/a.service", hooks="127.0.0.1:9106"))
    assert "routing_key_file: /run/credentials/a.service/alerts-page-0" in text
    assert "api_url_file: /run/credentials/a.service/alerts-ticket-0" in text
    assert "url: http://127.0.0.1:9106/alerts-page-1" in text
    assert not any(reference in text for reference in ("env:KEY", "file:/etc", "vault:"))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_rsyslog_takes_its_configuration(protocol: str, tmp_path: Path) -> None:
    text = logs.rsyslog(
        f"{protocol}://10.0.0.9:514", deployment="shop", host="box", files="/var/log/*.log", state=str(tmp_path)
    )
    assert f'target="10.0.0.9" port="514" protocol="{protocol}"' in text
    if not shutil.which("rsyslogd"):
        pytest.skip("needs rsyslogd")
    (tmp_path / "rsyslog.conf").write_text(text)
    ended = subprocess.run(["rsyslogd", "-N1", "-f", tmp_path / "rsyslog.conf"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_vector_sends_the_lines_of_services_with_their_names() -> None:
    content = logs.vector("http://loki:3100", deployment="shop", host="box", files="/l/*.log", state="/s")
    sink = content["sinks"]["loki"]
    assert sink["endpoint"] == "http://loki:3100" and sink["inputs"] == ["named"]
    assert sink["labels"] == {"deployment": "shop", "host": "box", "service": "{{ service }}"}
    assert content["sources"]["services"]["include"] == ["/l/*.log"]
    assert yaml.safe_load(as_yaml(content)) == content
