"""Rules of nftables that let only gateways reach model servers, and only some clients reach gateways. Pure.

They are a table of the deployment's own: what it lets through, other tables of the host may still refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from largeforge.deploy import monitored, steps

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted
    from largeforge.deploy.service import Layout


def installing(wanted: Wanted, host: str, ports: Iterable[int]) -> tuple[list[steps.File], list[steps.Step]]:
    """Return the files of a host's rules, and the steps once systemd knows them; `ports` are its model servers'."""
    layout = wanted.layout(host)
    unit = f"/etc/systemd/system/{_unit(layout)}"
    if wanted.deploy.firewall == "off":
        return [], [steps.Removed(_unit(layout), (unit, _rules_file(layout)))]
    files = [steps.File(_rules_file(layout), _rules(wanted, host, ports)), steps.File(unit, _unit_text(layout))]
    return files, [steps.Enabled(_unit(layout)), steps.Running(_unit(layout), tuple(files))]


def _unit(layout: Layout) -> str:
    return f"largeforge-{layout.deployment}-firewall.service"


def _rules_file(layout: Layout) -> str:
    return f"{layout.home}/firewall.nft"


def _table(layout: Layout) -> str:
    return f"inet largeforge_{layout.deployment.replace('-', '_')}"


def _rules(wanted: Wanted, host: str, ports: Iterable[int]) -> str:
    table = _table(wanted.layout(host))
    askers = [address for gateway in wanted.gateways for address in wanted.addresses[gateway]]
    lines = _only(sorted(set(ports)), askers) if host in wanted.serving_hosts else []
    if host in wanted.gateways and wanted.deploy.clients:
        lines += _only([wanted.gateway.port], wanted.deploy.clients)
    if wanted.monitored is not None:
        lines += _monitoring(wanted, wanted.monitored, host)
    chain = "\n".join(
        f"    {line}" for line in ("type filter hook input priority filter - 10", 'iifname "lo" accept', *lines)
    )
    return f"table {table}\ndelete table {table}\ntable {table} {{\n  chain input {{\n{chain}\n  }}\n}}\n"


def _monitoring(wanted: Wanted, about: monitored.Monitored, host: str) -> list[str]:
    """Return rules by which exporters are asked by Prometheus alone, and Prometheus by clients."""
    lines = _only(monitored.exported_ports(about.section), wanted.addresses[about.host])
    if host == about.host and wanted.deploy.clients:
        ports = about.section.ports
        lines += _only([ports.prometheus, ports.alertmanager], wanted.deploy.clients)
    return lines


def _only(ports: Sequence[int], sources: Sequence[str]) -> list[str]:
    """Return rules by which only some sources reach ports."""
    if not ports:
        return []
    found = f"tcp dport {{ {', '.join(map(str, ports))} }}"
    allowed = []
    for family, version in (("ip", 4), ("ip6", 6)):
        named = sorted({source for source in sources if ip_network(source, strict=False).version == version})
        if named:
            allowed.append(f"{found} {family} saddr {{ {', '.join(named)} }} accept")
    return [*allowed, f"{found} drop"]


def _unit_text(layout: Layout) -> str:
    return "\n".join([
        "[Unit]",
        f"Description=who may reach the servers of {layout.deployment}",
        "Before=network-pre.target",
        "Wants=network-pre.target",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"ExecStart=/usr/sbin/nft -f {_rules_file(layout)}",
        f"ExecStop=/usr/sbin/nft delete table {_table(layout)}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ])  # fmt: skip
