"""What hosts should have to be monitored: programs, configuration, units. Pure.

Every host has a node exporter, and a page with what its gateway and model servers measure (`agent/metrics.py`), so
that only that host needs to know their ports and certificates. One host has Prometheus and Alertmanager too. All are
units of the deployment's own beside those that packages bring, which stay off: another monitoring is not touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from largeforge.deploy import steps
from largeforge.deploy.service import Layout, loopback_of
from largeforge.errors import DeployError
from largeforge.monitoring import alertmanager, dashboards, logs, scrape
from largeforge.monitoring.scrape import Target, Targets
from largeforge.monitoring.text import as_yaml

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted
    from largeforge.recipe.sections.monitoring import Monitoring
    from largeforge.recipe.sections.slos import Slo

PROMETHEUS, ALERTMANAGER, HOOKS = "prometheus", "alertmanager", "hooks"
NODE, SERVERS, GPUS, LOGS = "node", "metrics", "gpus", "logs"
"""Units, by the last part of their names."""
GPU_EVERY_S = 15
PYTHON = "/usr/bin/python3"
PROVISIONING = "/etc/grafana/provisioning"
UNITS = "/etc/systemd/system"
LOOPBACK = "127.0.0.1"
RELOAD = "/bin/kill -HUP $MAINPID"
_KEYS = {
    PROMETHEUS: "prometheus", ALERTMANAGER: "alertmanager", HOOKS: "hooks", NODE: "node", SERVERS: "servers",
}  # fmt: skip
"""Part to the key of its port in `monitoring.ports`."""


@dataclass(frozen=True)
class Monitored:
    """What monitoring a deployment needs to know besides its hosts."""

    section: Monitoring
    slo: Slo
    host: str
    """Name of the host with Prometheus and Alertmanager."""
    gpu_hosts: frozenset[str] = frozenset()
    price_usd: float = 0.0
    """Dollars for an hour of one GPU, or of one machine without any; 0 means unknown."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By receiver (`Alerts.receivers`), its secret."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By host that gets packages through a proxy, the URL of that, with its password."""


@dataclass(frozen=True)
class Part:
    """One unit of a host, with all that it needs; steps in the order in which they are carried out."""

    name: str
    before: Sequence[steps.Step]
    units: Sequence[steps.File]
    """Unit files, after which systemd must read them again."""
    after: Sequence[steps.Step]


def parts(wanted: Wanted, host: str) -> list[Part]:
    """Return what a host has of monitoring."""
    about = wanted.monitored
    if about is None:
        return []
    found = [_node(wanted, about, host)]
    if host in wanted.serving_hosts or host in wanted.gateways:
        found.append(_servers(wanted, about, host))
    if host in about.gpu_hosts:
        found.append(_gpus(wanted.layout(host)))
    if about.section.logs.syslog or about.section.logs.loki:
        found.append(_logs(wanted, about, host))
    if host == about.host:
        if about.section.alerts.webhooks():
            found.append(_hooks(wanted, about))
        found += [_alertmanager(wanted, about), _prometheus(wanted, about)]
    return found


def left_over(wanted: Wanted, host: str) -> list[steps.Step]:
    """Return the steps that remove what a host has of monitoring and should not have."""
    layout, about = wanted.layout(host), wanted.monitored
    kept = {part.name for part in parts(wanted, host)}
    found: list[steps.Step] = [
        steps.Removed(unit, tuple(f"{UNITS}/{file}" for file in files))
        for name, files in _files(layout).items()
        if name not in kept
        for unit in files[:1]
    ]
    if about is None or host != about.host:
        found.append(steps.Gone(_folder(layout)))
    if LOGS not in kept:
        found.append(steps.Gone(_shipped(layout)))
    if about is None or host != about.host or not about.section.grafana.provisioned:
        found += [steps.Gone(path) for path in _provisioned(layout)]
    return found


def check(wanted: Wanted, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise DeployError with every port of monitoring that something else listens on."""
    problems = []
    for host, look in looks.items():
        taken, units = set(look["state"]["taken_ports"]), look["state"]["units"]
        for part in parts(wanted, host):
            port = _port(wanted, part.name)
            if port in taken and units.get(_unit(wanted.layout(host), part.name), {}).get("ActiveState") != "active":
                problems.append(
                    f"{host}: port {port} is taken; give another one with monitoring.ports.{_KEYS[part.name]}"
                )
    if problems:
        raise DeployError("\n".join(problems))


def reached(wanted: Wanted, host: str) -> str:
    """Return what the exporters of a host listen on: the loopback where Prometheus is there, too."""
    assert wanted.monitored is not None
    address = LOOPBACK if host == wanted.monitored.host else wanted.hosts[host].reached_at.strip("[]")
    return address if _is_ip(address) else "0.0.0.0"


def exported_ports(section: Monitoring) -> list[int]:
    """Return the ports of a host that Prometheus asks."""
    return [section.ports.node, section.ports.servers]


def _node(wanted: Wanted, about: Monitored, host: str) -> Part:
    """Return the node exporter, which also tells what files in a folder say."""
    layout, address = wanted.layout(host), _at(reached(wanted, host), about.section.ports.node)
    line = f"prometheus-node-exporter --web.listen-address={address} --collector.textfile.directory={_texts(layout)}"
    text = _unit_text(layout, NODE, "measures this host", line, home="read-only")
    brought = _brought(about, host, ("prometheus-node-exporter",), units=("prometheus-node-exporter.service",))
    before = [brought, steps.Folder(_texts(layout), user=layout.user)]
    return _running(layout, NODE, text, before=before, url=f"http://{address}/")


def _servers(wanted: Wanted, about: Monitored, host: str) -> Part:
    """Return the page of what the gateway and the model servers of a host measure."""
    layout, address = wanted.layout(host), reached(wanted, host)
    port = about.section.ports.servers
    folders = f"{layout.home}/services {layout.state}/{layout.deployment}"
    line = f"{PYTHON} {layout.agent}/metrics.py {folders} {address} {port}"
    text = _unit_text(layout, SERVERS, "tells what its servers measure", line)
    return _running(layout, SERVERS, text, url=f"http://{_at(loopback_of(address), port)}{scrape.SERVERS_PATH}")


def _gpus(layout: Layout) -> Part:
    """Return the timer that writes what nvidia-smi says."""
    service, timer = _files(layout)[GPUS][1], _files(layout)[GPUS][0]
    line = f"{PYTHON} {layout.agent}/gpus.py {_texts(layout)}/largeforge-gpus.prom"
    run = "\n".join([
        "[Unit]", f"Description=GPUs of {layout.deployment} for the node exporter", "",
        "[Service]", "Type=oneshot", f"ExecStart={line}", f"User={layout.user}", f"ReadWritePaths={_texts(layout)}",
        "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "",
    ])  # fmt: skip
    every = "\n".join([
        "[Unit]", f"Description=measures the GPUs of {layout.deployment}", "",
        "[Timer]", "OnActiveSec=1", f"OnUnitActiveSec={GPU_EVERY_S}", "AccuracySec=1", "",
        "[Install]", "WantedBy=timers.target", "",
    ])  # fmt: skip
    files = [steps.File(f"{UNITS}/{service}", run), steps.File(f"{UNITS}/{timer}", every)]
    return Part(GPUS, [], files, [steps.Enabled(timer), steps.Running(timer, tuple(files))])


def _logs(wanted: Wanted, about: Monitored, host: str) -> Part:
    """Return what ships the logs of a host's services; it starts again when its configuration changes."""
    layout, section = wanted.layout(host), about.section.logs
    folder = layout.own_state(LOGS)
    told = {
        "deployment": layout.deployment, "host": host, "files": f"{layout.logs}/{layout.deployment}/*.log",
        "state": folder,
    }  # fmt: skip
    if section.syslog:
        file = f"{_shipped(layout)}/rsyslog.conf"
        text, line = logs.rsyslog(section.syslog, **told), f"rsyslogd -n -iNONE -f {file}"
        check = "PATH=$PATH:/usr/sbin rsyslogd -N1 -f {}"
        brought = _brought(about, host, ("rsyslogd",), packages=("rsyslog",), units=("rsyslog.service",))
    else:
        file = f"{_shipped(layout)}/vector.yaml"
        text, line = as_yaml(logs.vector(section.loki, **told)), f"vector --config {file}"
        check = "vector validate --no-environment --config-yaml {}"
        brought = _brought(about, host, ("vector",), packages=())
    configuration = steps.Checked(file, text, check=check)
    # systemd makes files of logs for root alone
    unit = _unit_text(layout, LOGS, "ships its logs", line, log="journal", may="CAP_DAC_READ_SEARCH")
    made = _running(layout, LOGS, unit, before=[brought], read=(configuration,))
    return Part(LOGS, [*made.before, configuration], made.units, made.after)


def _prometheus(wanted: Wanted, about: Monitored) -> Part:
    """Return Prometheus with its rules, and the dashboards that ask it."""
    layout, section, name = wanted.layout(about.host), about.section, wanted.deployment
    folder, unit = _folder(layout), _unit(layout, PROMETHEUS)
    rules_file = f"{folder}/rules.yml"
    rules = as_yaml(scrape.rules_file(about.slo, deployment=name))
    configuration = scrape.configuration(
        _targets(wanted, about), deployment=name, interval_s=section.scrape_interval_s, rules_file=rules_file,
        alertmanager=_at(loopback_of(section.listen), section.ports.alertmanager),
    )  # fmt: skip
    line = (
        f"prometheus --config.file={folder}/prometheus.yml --storage.tsdb.path={layout.own_state(PROMETHEUS)} "
        f"--storage.tsdb.retention.time={round(section.retention_days * 24)}h "
        f"--web.listen-address={_at(section.listen, section.ports.prometheus)}"
    )
    names = ("prometheus", "promtool")
    before = [
        _brought(about, about.host, names, packages=names[:1], units=("prometheus.service",)),
        steps.Checked(rules_file, rules, check="promtool check rules {}", unit=unit),
        steps.Checked(
            f"{folder}/prometheus.yml", as_yaml(configuration), check="promtool check config {}", unit=unit
        ),
        *_dashboards(about, layout, about.price_usd * _machines(wanted)),
    ]  # fmt: skip
    text = _unit_text(layout, PROMETHEUS, "measures and judges", line, reload=(RELOAD,))
    url = f"http://{_at(loopback_of(section.listen), section.ports.prometheus)}/-/ready"
    return _running(layout, PROMETHEUS, text, before=before, url=url)


def _hooks(wanted: Wanted, about: Monitored) -> Part:
    """Return what passes alerts on to webhooks; their URLs are decrypted by systemd, for it alone."""
    layout, section = wanted.layout(about.host), about.section
    receivers = section.alerts.webhooks()
    names = " ".join(map(alertmanager.secret_name, receivers))
    port, secrets = section.ports.hooks, f"/run/credentials/{_unit(layout, HOOKS)}"
    line = f"{PYTHON} {layout.agent}/hooks.py {secrets} {LOOPBACK} {port} {names}"
    credentials = _credentials(layout, about, receivers)
    text = _unit_text(layout, HOOKS, "passes alerts on to webhooks", line, more=_loaded(credentials))
    url = f"http://{_at(LOOPBACK, port)}/"
    return _running(layout, HOOKS, text, before=credentials, url=url, read=tuple(credentials))


def _alertmanager(wanted: Wanted, about: Monitored) -> Part:
    """Return Alertmanager; its secrets are decrypted by systemd, for it alone."""
    layout, section = wanted.layout(about.host), about.section
    unit, file = _unit(layout, ALERTMANAGER), f"{_folder(layout)}/alertmanager.yml"
    line = (
        f"prometheus-alertmanager --config.file={file} --storage.path={layout.own_state(ALERTMANAGER)} "
        f"--cluster.listen-address= --web.listen-address={_at(section.listen, section.ports.alertmanager)}"
    )
    receivers = [name for name in section.alerts.receivers() if name not in section.alerts.webhooks()]
    credentials = _credentials(layout, about, receivers)
    text = _unit_text(layout, ALERTMANAGER, "tells of alerts", line, reload=(RELOAD,), more=_loaded(credentials))
    configuration = alertmanager.configuration(
        section.alerts, secrets=f"/run/credentials/{unit}", hooks=_at(LOOPBACK, section.ports.hooks)
    )  # fmt: skip
    names = ("prometheus-alertmanager", "amtool")
    before = [
        _brought(about, about.host, names, packages=names[:1], units=("prometheus-alertmanager.service",)),
        *credentials,
        steps.Checked(file, as_yaml(configuration), check="amtool check-config {}", unit=unit),
    ]
    url = f"http://{_at(loopback_of(section.listen), section.ports.alertmanager)}/-/ready"
    return _running(layout, ALERTMANAGER, text, before=before, url=url, read=tuple(credentials))


def _credentials(layout: Layout, about: Monitored, receivers: Sequence[str]) -> list[steps.Credential]:
    names = {receiver: alertmanager.secret_name(receiver) for receiver in receivers}
    return [
        steps.Credential(f"/etc/largeforge/{layout.deployment}/{name}.cred", name, about.secrets[receiver])
        for receiver, name in names.items()
    ]  # fmt: skip


def _loaded(credentials: Sequence[steps.Credential]) -> list[str]:
    """Return the lines of a unit that give it secrets."""
    return [f"LoadCredentialEncrypted={one.name}:{one.path}" for one in credentials]


def _dashboards(about: Monitored, layout: Layout, price_usd: float) -> Iterator[steps.Step]:
    """Yield the files of dashboards, and those by which Grafana finds them."""
    folder, name, section = _folder(layout), layout.deployment, about.section
    for file, text in dashboards.files(about.slo, deployment=name, price_usd=price_usd).items():
        yield steps.File(f"{folder}/dashboards/{file}", text)
    url = section.grafana.prometheus_url or f"http://{_at(loopback_of(section.listen), section.ports.prometheus)}"
    found = as_yaml(dashboards.provider(deployment=name, folder=f"{folder}/dashboards"))
    source = as_yaml(dashboards.data_source(deployment=name, url=url))
    places = [(f"{folder}/grafana/dashboards.yaml", found), (f"{folder}/grafana/datasources.yaml", source)]
    if section.grafana.provisioned:
        places += zip(_provisioned(layout), (found, source), strict=True)
    for path, text in places:
        yield steps.File(path, text)


def _targets(wanted: Wanted, about: Monitored) -> Targets:
    ports, section = about.section.ports, about.section

    def targets(hosts: Collection[str], port: int) -> list[Target]:
        return [Target(host, _at(_address(wanted, about, host), port)) for host in wanted.hosts if host in hosts]

    own = [(PROMETHEUS, ports.prometheus), (ALERTMANAGER, ports.alertmanager)]
    listen = loopback_of(section.listen)
    return Targets(
        gateways=targets(wanted.gateways, ports.servers), servers=targets(wanted.serving_hosts, ports.servers),
        hosts=targets(list(wanted.hosts), ports.node),
        own=[(name, Target(about.host, _at(listen, port))) for name, port in own],
    )  # fmt: skip


def _address(wanted: Wanted, about: Monitored, host: str) -> str:
    return LOOPBACK if host == about.host else wanted.hosts[host].reached_at.strip("[]")


def _machines(wanted: Wanted) -> int:
    """Return how many GPUs serve, or machines where none does."""
    return sum(len(seat.gpus) for seat in wanted.seats.values()) or len(wanted.serving_hosts)


def _brought(
    about: Monitored, host: str, programs: tuple[str, ...], *, packages: tuple[str, ...] | None = None,
    units: tuple[str, ...] = (),
) -> steps.Installed:  # fmt: skip
    found = programs if packages is None else packages
    proxy = about.proxies.get(host, "")
    return steps.Installed(programs, found, units, by_apt=about.section.install == "apt", proxy=proxy)


def _running(
    layout: Layout, name: str, text: str, *, before: Sequence[steps.Step] = (), url: str = "",
    read: tuple[steps.Step, ...] = (),
) -> Part:  # fmt: skip
    """Return a part with one unit that is up; `read` are steps whose changes it notices only when it starts."""
    unit, file = _unit(layout, name), steps.File(f"{UNITS}/{_unit(layout, name)}", text)
    state = steps.Folder(layout.own_state(name), user=layout.user, mode="750")
    up = (
        steps.Answering(unit, (file, *read), url=url, log=layout.log(name))
        if url
        else steps.Running(unit, (file, *read))
    )
    return Part(name, [state, *before], [file], [steps.Enabled(unit), up])


def _unit_text(
    layout: Layout, name: str, does: str, line: str, *, home: str = "yes", reload: Sequence[str] = (),
    more: Sequence[str] = (), log: str = "", may: str = "",
) -> str:  # fmt: skip
    output = log or f"append:{layout.log(name)}"
    return "\n".join([
        "[Unit]",
        f"Description={layout.deployment}: {does}",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={line}",
        *(f"ExecReload={one}" for one in reload),
        f"User={layout.user}",
        f"WorkingDirectory={layout.own_state(name)}",
        f"StandardOutput={output}",
        f"StandardError={output}",
        "Restart=always",
        "RestartSec=2",
        "LimitNOFILE=65536",
        "NoNewPrivileges=yes",
        f"CapabilityBoundingSet={may}",
        *([f"AmbientCapabilities={may}"] if may else []),
        "ProtectSystem=strict",
        f"ProtectHome={home}",
        "ProtectKernelModules=yes",
        "ProtectControlGroups=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "UMask=0077",
        f"ReadWritePaths={layout.own_state(name)}",
        *([] if name == SERVERS else [f"InaccessiblePaths=-{layout.tls}"]),
        *more,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ])  # fmt: skip


def _files(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Return the unit files of each part, first the unit that is enabled."""
    services = {name: (_unit(layout, name),) for name in (PROMETHEUS, ALERTMANAGER, HOOKS, NODE, SERVERS, LOGS)}
    base = f"largeforge-{layout.deployment}-{GPUS}"
    return {**services, GPUS: (f"{base}.timer", f"{base}.service")}


def _unit(layout: Layout, name: str) -> str:
    return f"largeforge-{layout.deployment}-{name}.service"


def _folder(layout: Layout) -> str:
    return f"{layout.home}/monitoring"


def _shipped(layout: Layout) -> str:
    return f"{layout.home}/shipped"


def _texts(layout: Layout) -> str:
    return layout.own_state("textfile")


def _provisioned(layout: Layout) -> list[str]:
    return [f"{PROVISIONING}/{kind}/largeforge-{layout.deployment}.yaml" for kind in ("dashboards", "datasources")]


def _port(wanted: Wanted, name: str) -> int:
    """Return the port of a part, 0 where it has none."""
    assert wanted.monitored is not None
    return int(getattr(wanted.monitored.section.ports, _KEYS.get(name, ""), 0))


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ip(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True
