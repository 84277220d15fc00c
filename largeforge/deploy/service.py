"""A server of a deployment on one host: its release, which never changes, and the unit that runs it. Pure.

A release is a folder named by the digest of what is in it; `service.json` says everything. The port is beside it and
no part of the digest: a new release listens on another port than the one before, so that both can be up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from largeforge.artifacts import digest

DIGEST_LENGTH = 12
RESTART_S = 5
WATCHDOG_S = 120


@dataclass(frozen=True)
class Layout:
    """Where the parts of a deployment are on a host."""

    root: str
    state: str
    logs: str
    deployment: str
    user: str
    agent: str
    """Folder of the programs that run there."""

    @property
    def home(self) -> str:
        """Folder of the deployment."""
        return f"{self.root}/deployments/{self.deployment}"

    def service(self, name: str) -> str:
        """Return the folder of a service."""
        return f"{self.home}/services/{name}"

    def release(self, name: str, key: str) -> str:
        """Return the folder of a release."""
        return f"{self.service(name)}/releases/{key}"

    def unit(self, name: str, key: str) -> str:
        """Return the name of a release's unit."""
        return f"largeforge-{self.deployment}-{name}-{key}.service"

    def log(self, name: str) -> str:
        """Return the log of a service."""
        return f"{self.logs}/{self.deployment}/{name}.log"

    @property
    def tls(self) -> str:
        """Return the folder of certificates."""
        return f"{self.home}/tls"

    @property
    def port_place(self) -> str:
        """Return where the holder of the gateways' socket is asked for it."""
        return f"/run/largeforge/{self.deployment}/port.sock"

    @property
    def gateway_file(self) -> str:
        """Return the gateway's file."""
        return f"{self.own_state('gateway')}/gateway.json"

    def gateway_token(self, port: int) -> str:
        """Return the file with the token that the running gateway keeps for its user."""
        return f"{self.own_state('gateway')}/largeforge/gateways/{port}.token"

    def own_state(self, name: str) -> str:
        """Return the folder that a service may write to."""
        return f"{self.state}/{self.deployment}/{name}"


@dataclass(frozen=True)
class Site:
    """Where a deployment is, and how its gateways are reached: all that is needed to operate it."""

    deployment: str
    layouts: Mapping[str, Layout]
    """By host."""
    gateways: tuple[str, ...]
    """Names of the hosts with a gateway."""
    gateway_host: str
    """Address that each gateway listens on."""
    gateway_port: int
    watch_s: float = 30.0
    drain_timeout_s: float = 60.0
    unreachable_s: float = 120.0

    def gateway_url(self, *, is_tls: bool) -> str:
        """Return the address at which a host reaches its own gateway."""
        host = loopback_of(self.gateway_host)
        scheme = "https" if is_tls else "http"
        return f"{scheme}://[{host}]:{self.gateway_port}" if ":" in host else f"{scheme}://{host}:{self.gateway_port}"


def loopback_of(host: str) -> str:
    """Return where a host reaches what listens there: on all its addresses, the loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


@dataclass(frozen=True)
class Service:
    """What one server is, whatever its port."""

    name: str
    kind: Literal["vllm", "gateway"]
    argv: tuple[str, ...]
    """Command line; `{port}` and `{release}` stand for what is known on the host."""
    serves: tuple[str, ...] = ()
    """Names of the models that it answers for."""
    environment: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    """Where it listens, without the port: `host`, and `address` as the gateways reach it; over TLS also `ca`,
    `certificate` and `key`, files for those who ask on its own host."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files of the release: name to text."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Key of each model that it loads to the reference."""
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of each expert to what gateways must know of it here, but for the address."""
    gpus: tuple[int, ...] = ()
    bytes: int = 0
    """Memory that it may take: of each of its GPUs, or of the host."""
    start_timeout_s: float = 600.0
    stop_timeout_s: float = 60.0
    secrets: tuple[str, ...] = ()
    """Names of variables that systemd decrypts for it."""
    runtime: str = ""
    """Digest of the programs and units that run it: with others it is another release."""

    @property
    def key(self) -> str:
        """Digest of all that it is."""
        return digest(asdict(self))[:DIGEST_LENGTH]

    def as_json(self) -> str:
        """Return the text of `service.json`."""
        return json.dumps({"service": self.name, **asdict(self)}, indent=1, sort_keys=True) + "\n"


def unit_text(service: Service, layout: Layout, *, python: str = "/usr/bin/python3") -> str:
    """Return the unit of a service's release."""
    release, home = layout.release(service.name, service.key), layout.service(service.name)
    mark = f"/run/largeforge/{layout.deployment}/{service.name}/trial-{service.key}"
    links = " || ".join(f'test "$(readlink {home}/{link})" = releases/{service.key}' for link in ("current", "canary"))
    is_allowed = f"{links} || test -e {mark}"
    credentials = [
        f"LoadCredentialEncrypted={name}:/etc/largeforge/{layout.deployment}/{name}.cred" for name in service.secrets
    ]
    holder = [
        f"Wants=largeforge-{layout.deployment}-port.service",
        f"After=largeforge-{layout.deployment}-port.service",
    ]
    lines = [
        "[Unit]",
        f"Description={service.name} of {layout.deployment} (release {service.key})",
        "After=network-online.target",
        "Wants=network-online.target",
        *(holder if service.kind == "gateway" else ()),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecCondition=/bin/sh -c '{is_allowed}'",
        *_start(service, layout, release, python),
        f"User={layout.user}",
        f"WorkingDirectory={layout.own_state(service.name)}",
        f"StandardOutput=append:{layout.log(service.name)}",
        f"StandardError=append:{layout.log(service.name)}",
        f"TimeoutStartSec={service.start_timeout_s:g}",
        f"TimeoutStopSec={service.stop_timeout_s:g}",
        f"WatchdogSec={WATCHDOG_S}",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        "KillMode=mixed",
        "OOMPolicy=stop",
        *credentials,
        *_limits(service),
        *_hardening(layout, service),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


def port_unit(layout: Layout, host: str, port: int, *, python: str = "/usr/bin/python3") -> tuple[str, str]:
    """Return name and text of the unit that holds the socket of a host's gateways."""
    name = f"largeforge-{layout.deployment}-port.service"
    lines = [
        "[Unit]",
        f"Description=socket of the gateways of {layout.deployment}",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={python} {layout.agent}/port.py {host} {port} {layout.port_place} {layout.user}",
        "Restart=always",
        "RestartSec=1",
        "FileDescriptorStoreMax=1",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_CHOWN CAP_DAC_OVERRIDE",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        f"RuntimeDirectory=largeforge/{layout.deployment}",
        "RuntimeDirectoryPreserve=yes",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return name, "\n".join(lines)


def _start(service: Service, layout: Layout, release: str, python: str) -> list[str]:
    if service.kind == "vllm":
        return [f"ExecStart={python} {layout.agent}/serve.py {release}"]
    variables = [f'Environment="{name}={value}"' for name, value in sorted(service.environment.items())]
    gate = f"{python} {layout.agent}/gate.py {layout.port_place}"
    return [*variables, f"ExecStart={gate} {' '.join(service.argv)}", "ExecReload=/bin/kill -HUP $MAINPID"]


def _limits(service: Service) -> list[str]:
    """Return limits that keep a server that goes wrong from taking the host with it."""
    memory = (
        [f"MemoryMax={service.bytes * 3 // 2 + 2**30}"]
        if service.kind == "vllm" and not service.gpus and service.bytes
        else []
    )
    return ["LimitNOFILE=1048576", "LimitCORE=0", "TasksMax=16384", *memory]


def _hardening(layout: Layout, service: Service) -> list[str]:
    """Return what the service may not do; devices stay open where it uses GPUs."""
    uses_home = service.argv[0].startswith(("/home/", "/root/"))
    return [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if uses_home else 'yes'}",
        "PrivateTmp=yes",
        *([] if service.gpus else ["PrivateDevices=yes"]),
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallArchitectures=native",
        "UMask=0077",
        f"ReadWritePaths={layout.own_state(service.name)}",
    ]
