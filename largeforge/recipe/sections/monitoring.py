"""Monitoring that comes with a deployment: who measures, who is told of alerts, where dashboards and logs go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from largeforge.recipe.base import Strict
from largeforge.recipe.sections.hosts import SECRET_PATTERN

Listened = Annotated[int, Field(ge=1024, le=65535)]
GivenSecret = Annotated[str, Field(pattern=SECRET_PATTERN, min_length=1)]
"""A secret that must be there, named by where it is."""
SEVERITIES = ("page", "ticket", "info")


class Receiver(Strict):
    """Somebody who is told of alerts, and told again when they are over."""

    kind: Literal["slack", "pagerduty", "webhook"]
    """How: a Slack channel, PagerDuty's Events API v2, or a POST with Alertmanager's JSON."""
    secret: GivenSecret
    """Where the secret is: Slack's webhook URL, PagerDuty's routing key, the URL of the webhook. `env:NAME`,
    `file:PATH` (readable by nobody else), `sops:FILE#KEY` or `vault:PATH#FIELD`."""
    channel: str = Field(default="", pattern=r"^$|^[#@]?[\w.-]+$")
    """Slack: the channel; empty leaves it to the webhook."""


class Alerts(Strict):
    """Who is told, by the severity of an alert; all alerts can be seen in Alertmanager in any case."""

    page: list[Receiver] = []
    """What somebody must get up for."""
    ticket: list[Receiver] = []
    """What can wait for the next working day."""
    info: list[Receiver] = []
    """What is good to know."""
    group_wait_s: float = Field(default=30, ge=0)
    """Seconds that the first alert of a group waits for others, to be told together."""
    group_interval_s: float = Field(default=300, gt=0)
    """Seconds until more of a group is told."""
    repeat_h: float = Field(default=4, gt=0)
    """Hours after which an alert that is still raised is told again."""

    def receivers(self) -> dict[str, Receiver]:
        """Return all receivers by a name of their own: severity and place in its list."""
        lists = {"page": self.page, "ticket": self.ticket, "info": self.info}
        return {f"{severity}-{index}": one for severity, found in lists.items() for index, one in enumerate(found)}

    def webhooks(self) -> list[str]:
        """Return the names of the receivers that are webhooks."""
        return [name for name, one in self.receivers().items() if one.kind == "webhook"]


class MonitoringPorts(Strict):
    """Ports that monitoring listens on."""

    prometheus: Listened = 9090
    """Prometheus."""
    alertmanager: Listened = 9093
    """Alertmanager."""
    node: Listened = 9100
    """Node exporter of each host."""
    servers: Listened = 9105
    """What the gateway and the model servers of each host measure."""
    hooks: Listened = 9106
    """Where Alertmanager gives alerts that go to a webhook, always on the loopback."""

    def all(self) -> list[int]:
        """Return every port."""
        return [self.prometheus, self.alertmanager, self.node, self.servers, self.hooks]


class Grafana(Strict):
    """Dashboards, as files; Grafana itself is yours."""

    provisioned: bool = False
    """Whether a Grafana on the monitoring host finds them: the data source and the folder of dashboards are put into
    /etc/grafana/provisioning. Otherwise they are only in the deployment's folder."""
    prometheus_url: str = Field(default="", pattern=r"^$|^https?://[^\s@]+$")
    """Address at which Grafana reaches Prometheus; empty takes the loopback of the monitoring host."""


class Logs(Strict):
    """Where the logs of services are shipped."""

    syslog: str = Field(default="", pattern=r"^$|^(tcp|udp)://[A-Za-z0-9_.\[\]:-]+:[0-9]+$")
    """A collector of RFC 5424 lines, `tcp://host:port` or `udp://host:port`; hosts send with rsyslog."""
    loki: str = Field(default="", pattern=r"^$|^https?://[^\s@]+$")
    """Address of Loki; hosts send with Vector, which must be there."""


class Monitoring(Strict):
    """Monitoring on the hosts of a deployment."""

    name: str = "none"
    """Name of the choice under `conf/monitoring/`."""
    enabled: bool = False
    """Whether it is installed and kept up by deployments."""
    host: str = Field(default="", pattern=r"^$|^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    """Host of the inventory that runs Prometheus and Alertmanager; empty takes that of the first gateway."""
    listen: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Fa-f.:]+$")
    """Address that Prometheus and Alertmanager listen on; they ask nobody for a password."""
    ports: MonitoringPorts = MonitoringPorts()
    """Ports of everything."""
    scrape_interval_s: float = Field(default=15, ge=1, le=120)
    """Seconds between two measurements, and between two looks at the rules; Prometheus forgets after five minutes."""
    retention_days: float = Field(default=30, gt=0)
    """Days that Prometheus keeps measurements; objectives need as many as their window."""
    install: Literal["apt", "present"] = "apt"
    """Where programs come from: packages of the distribution, or they are on the hosts already."""
    alerts: Alerts = Alerts()
    """Who is told of alerts."""
    grafana: Grafana = Grafana()
    """Dashboards."""
    logs: Logs = Logs()
    """Shipping of logs."""
