"""What Prometheus measures of a deployment, and where: its configuration and all of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.monitoring import rules
from largeforge.monitoring.names import duration, equals, selected

if TYPE_CHECKING:
    from largeforge.recipe.sections.slos import Slo

GATEWAY_PATH, SERVERS_PATH = "/gateway", "/servers"
"""Pages of what each host tells of its gateway, and of its model servers (`deploy/agent/metrics.py`)."""
SILENT_S = 120
"""How long a target may be silent before somebody is told."""


@dataclass(frozen=True)
class Target:
    """Something that is asked for its measurements."""

    host: str
    """Name of its host in the inventory."""
    address: str
    """Host and port, as Prometheus reaches it."""


@dataclass(frozen=True)
class Targets:
    """All that is asked."""

    gateways: Sequence[Target]
    servers: Sequence[Target]
    """Hosts with model servers."""
    hosts: Sequence[Target]
    """Node exporters."""
    own: Sequence[tuple[str, Target]] = ()
    """Prometheus and Alertmanager themselves, by the name of the job."""


def configuration(
    targets: Targets, *, deployment: str, interval_s: float, rules_file: str, alertmanager: str
) -> dict[str, Any]:
    """Return the content of `prometheus.yml`; `alertmanager` is its address."""
    jobs = [
        _job("gateway", targets.gateways, deployment, path=GATEWAY_PATH),
        _job("vllm", targets.servers, deployment, path=SERVERS_PATH),
        _job("hosts", targets.hosts, deployment),
        *(_job(name, [target], deployment) for name, target in targets.own),
    ]
    interval = duration(interval_s)
    return {
        "global": {
            "scrape_interval": interval, "scrape_timeout": duration(min(interval_s, 10)),
            "evaluation_interval": interval,
        },
        "rule_files": [rules_file],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [job for job in jobs if job["static_configs"]],
    }  # fmt: skip


def rules_file(slo: Slo, *, deployment: str) -> dict[str, Any]:
    """Return the content of the rules' file: what the deployment promises, what becomes of rollouts, and that
    everything is measured at all."""
    silent = {
        "alert": "NotMeasured",
        "expr": f"{selected('up', equals('deployment', deployment))} == 0",
        "for": duration(SILENT_S),
        "labels": {"severity": "ticket", "deployment": deployment},
        "annotations": {
            "summary": "{{ $labels.job }} of {{ $labels.host }} tells nothing",
            "description": "What is measured there is missing: objectives and alerts may not see a fault.",
        },
    }
    own = {"name": f"monitoring-{deployment}", "rules": [silent]}
    return {"groups": [*rules.groups(slo, deployment=deployment), rules.rollouts(deployment=deployment), own]}


def _job(name: str, targets: Sequence[Target], deployment: str, *, path: str = "/metrics") -> dict[str, Any]:
    """Return one job; the port of a target says nothing, so that its series are those of a host."""
    listed = [
        {"targets": [target.address], "labels": {"deployment": deployment, "host": target.host}} for target in targets
    ]
    return {"job_name": name, "metrics_path": path, "static_configs": listed}
