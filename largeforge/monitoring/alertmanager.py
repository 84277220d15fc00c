"""Who is told of alerts: the configuration of Alertmanager. It names files of secrets and holds none.

Alertmanager reads Slack's URL and PagerDuty's key from files. It tells everybody its whole configuration, up to 0.25
with the URLs of webhooks, which it takes only as text; so it tells webhooks by way of a program of ours on its host
(`deploy/agent/hooks.py`), which alone knows where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.monitoring.names import duration
from largeforge.recipe.sections.monitoring import SEVERITIES

if TYPE_CHECKING:
    from largeforge.recipe.sections.monitoring import Alerts, Receiver

NOBODY = "nobody"
SUMMARY = "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ end }}"


def configuration(alerts: Alerts, *, secrets: str, hooks: str) -> dict[str, Any]:
    """Return the content of `alertmanager.yml`; `secrets` is the folder of its secrets on the host, `hooks` the address
    of what passes alerts on to webhooks."""
    told = {severity: _receiver(severity, alerts, secrets, hooks) for severity in SEVERITIES}
    return {
        "route": {
            "receiver": NOBODY,
            "group_by": ["deployment", "alertname", "objective"],
            "group_wait": duration(alerts.group_wait_s),
            "group_interval": duration(alerts.group_interval_s),
            "repeat_interval": duration(alerts.repeat_h * 3600),
            "routes": [
                {"receiver": severity, "matchers": [f'severity="{severity}"']}
                for severity, receiver in told.items()
                if len(receiver) > 1
            ],
        },
        "inhibit_rules": [_inhibition()],
        "receivers": [{"name": NOBODY}, *(receiver for receiver in told.values() if len(receiver) > 1)],
    }


def secret_name(receiver: str) -> str:
    """Return the name of the secret of a receiver (`Alerts.receivers`)."""
    return f"alerts-{receiver}"


def _receiver(severity: str, alerts: Alerts, secrets: str, hooks: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": severity}
    for name, one in alerts.receivers().items():
        if name.rpartition("-")[0] == severity:
            key, config = _told(one, secret_name(name), secrets, hooks)
            found.setdefault(key, []).append(config)
    return found


def _told(receiver: Receiver, name: str, secrets: str, hooks: str) -> tuple[str, dict[str, Any]]:
    """Return the key for a kind of receiver, and how this one is told."""
    match receiver.kind:
        case "slack":
            title = "[{{ .Status }}] {{ .CommonLabels.deployment }}: {{ .CommonLabels.alertname }}"
            channel = {"channel": receiver.channel} if receiver.channel else {}
            where = {"api_url_file": f"{secrets}/{name}", **channel}
            return "slack_configs", {**where, "send_resolved": True, "title": title, "text": SUMMARY}
        case "pagerduty":
            where = {"routing_key_file": f"{secrets}/{name}"}
            return "pagerduty_configs", {**where, "send_resolved": True, "severity": _urgency(name)}
        case "webhook":
            return "webhook_configs", {"url": f"http://{hooks}/{name}", "send_resolved": True}


def _urgency(name: str) -> str:
    """Return what PagerDuty calls the severity of a receiver."""
    return {"page": "critical", "ticket": "warning", "info": "info"}[name.split("-")[1]]


def _inhibition() -> dict[str, Any]:
    """Return the rule by which an objective that somebody is paged for opens no ticket as well."""
    burns = 'alertname="ErrorBudgetBurns"'
    return {
        "source_matchers": [burns, 'severity="page"'],
        "target_matchers": [burns, 'severity=~"ticket|info"'],
        "equal": ["deployment", "objective", "expert"],
    }
