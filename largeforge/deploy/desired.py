"""What hosts should have of a deployment: services of experts with a seat, and steps that put them there. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest
from largeforge.deploy import firewall, monitored, steps, tls
from largeforge.deploy.content import Content, HubContent
from largeforge.deploy.history import Record
from largeforge.deploy.service import Layout, Service, Site, loopback_of, port_unit, unit_text
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.recipe.sections.slos import Slo
from largeforge.serving import placement, precision, templates, vllm

if TYPE_CHECKING:
    from largeforge.deploy.environments import HostPython
    from largeforge.deploy.monitored import Monitored
    from largeforge.placing import Seat
    from largeforge.recipe.schema import Autoscaling, Deploy, Gateway, Router, Serving, Topology
    from largeforge.recipe.sections.hosts import Host
    from largeforge.serving.placement import Placement, ServedExpert

AGENT = Path(__file__).resolve().parent / "agent"
GATEWAY = "gateway"
"""Name of the service that clients talk to."""
LOOPBACK = "127.0.0.1"
START_SPARE_S = 30.0


@dataclass(frozen=True)
class Wanted:
    """All that decides what hosts should have."""

    deploy: Deploy
    deployment: str
    topology: Topology
    router: Router
    serving: Serving
    gateway: Gateway
    device: str
    hosts: Mapping[str, Host]
    gateways: tuple[str, ...]
    """Names of the hosts with a gateway."""
    placements: Sequence[Placement]
    seats: Mapping[str, Seat]
    """By the label of a server."""
    models: Mapping[str, Content | HubContent]
    """By expert; those of which the hub does not say what they are now are not there: vLLM fetches them."""
    pythons: Mapping[str, HostPython]
    """By host, what its services run with."""
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By host, its IP addresses; used by rules of firewalls."""
    certificates: Mapping[str, tls.Certificate] = field(default_factory=dict)
    """By host; used where connections are over TLS."""
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By expert, a conversation and its tokens, as the training wrote them."""
    lock: str = ""
    recipe: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of servers with their values; they are written nowhere as they are."""
    monitored: Monitored | None = None
    """None where nothing watches the deployment."""
    rollout: Rollout = field(default_factory=lambda: Rollout(strategy="immediate"))
    slo: Slo = field(default_factory=Slo)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """By expert, the `NAME@ALIAS` of the registry that its model is named by."""
    autoscaling: Autoscaling | None = None
    """None where all replicas run all the time."""

    def layout(self, host: str) -> Layout:
        """Return where things are on a host."""
        paths = self.hosts[host].paths
        agent = f"{paths.root}/agent/{agent_key()}"
        return Layout(paths.root, paths.state, paths.logs, self.deployment, self.deploy.user, agent)

    @property
    def site(self) -> Site:
        """Return where the deployment is, for operating it."""
        update = self.deploy.update
        layouts = {host: self.layout(host) for host in self.hosts}
        return Site(
            self.deployment, layouts, self.gateways, self.gateway.host, self.gateway.port,
            watch_s=update.watch_s, drain_timeout_s=update.drain_timeout_s,
            unreachable_s=update.unreachable_s,
        )  # fmt: skip

    def record(self, *, who: str) -> Record:
        """Return what is to be remembered once all of this serves."""
        stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self.lock[:8] or 'nolock'}"
        services = {host: {name: one.key for name, one in found.items()} for host, found in self.services.items()}
        update = self.deploy.update
        return Record(
            stamp, self.recipe, self.lock, who, services, self.sections, list(self.gateways), self.gateway.host,
            self.gateway.port, self.deploy.user,
            settings={
                name: getattr(update, name) for name in ("watch_s", "drain_timeout_s", "unreachable_s")
            },
            autoscaling={
                "settings": self.autoscaling.model_dump(mode="json"), "max_num_seqs": self.serving.max_num_seqs,
            } if self.autoscaling else {},
        )  # fmt: skip

    @property
    def sections(self) -> dict[str, Any]:
        """Return the sections of the gateways' file, without their servers."""
        parts = {"gateway": tls.gateway_section(self), "router": self.router, "topology": self.topology}
        return {name: part.model_dump(mode="json") for name, part in parts.items()}

    @property
    def serving_hosts(self) -> list[str]:
        """Return the hosts with model servers."""
        return sorted({seat.host for seat in self.seats.values()})

    @property
    def loopback(self) -> str:
        """Return the address that only a host itself reaches."""
        return LOOPBACK

    @property
    def services(self) -> dict[str, dict[str, Service]]:
        """Return the services of each host by name, model servers first."""
        found: dict[str, dict[str, Service]] = {name: {} for name in self.hosts}
        for place in self.placements:
            seat = self.seats[place.label]
            found[seat.host][place.label] = _model_server(self, place, seat)
        for host in self.gateways:
            found[host][GATEWAY] = _gateway_service(self, host)
        return found

    def address(self, host: str) -> str:
        """Return the address at which the gateways reach the model servers of a host."""
        return LOOPBACK if set(self.gateways) == {host} else self.hosts[host].reached_at


@cache
def agent_files() -> dict[str, str]:
    """Return the programs that run on hosts, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(AGENT.glob("[a-z]*.py"))}


def agent_key() -> str:
    """Return the name of their folder: other programs are another folder, so that those in use never change."""
    return digest(agent_files())[:12]


@cache
def runtime_key() -> str:
    """Return the identity of what runs services on hosts: those programs, and how units are written."""
    return digest([agent_files(), (AGENT.parent / "service.py").read_text(encoding="utf-8")])[:12]


def prepared(
    wanted: Wanted, host: str, ports: Mapping[str, int], *, kept_ports: Collection[int] = ()
) -> list[steps.Step]:
    """Return the steps that put everything in place on a host without touching what runs.

    `kept_ports` are those of releases that stay there, to go back to.
    """
    layout, services = wanted.layout(host), wanted.services[host]
    units = [
        steps.File(f"/etc/systemd/system/{layout.unit(name, service.key)}", unit_text(service, layout))
        for name, service in services.items()
    ]
    keys = {key for service in services.values() for key in service.models}
    watching = monitored.parts(wanted, host)
    return [
        *_base(wanted, layout, list(services)),
        *tls.installing(wanted, host),
        *wanted.pythons[host].steps(),
        *(_model(wanted, layout, key) for key in sorted(keys)),
        *(step for name, service in services.items() for step in release_files(layout, service, ports[name])),
        *_credentials(wanted, services.values()),
        *units,
        _rotation(layout),
        *(step for part in watching for step in (*part.before, *part.units)),
        *_reloaded(
            wanted, host, layout, [*units, *(file for part in watching for file in part.units)],
            ports={*kept_ports, *_model_ports(services, ports)},
        ),
        *(step for part in watching for step in part.after),
        *monitored.left_over(wanted, host),
    ]  # fmt: skip


def _model_ports(services: Mapping[str, Service], ports: Mapping[str, int]) -> list[int]:
    return [ports[name] for name, service in services.items() if service.kind == "vllm"]


def certified(wanted: Wanted, host: str) -> list[steps.Step]:
    """Return the steps after which a host has its certificate, if it needs one."""
    layout = wanted.layout(host)
    made = tls.making(wanted, host)
    return [steps.Account(layout.user, layout.state), *made] if made else []


def needed_models(wanted: Wanted, host: str, found: steps.Found) -> list[Content | HubContent]:
    """Return the models that a host lacks, or whose files are not what they were."""
    known = {model.key: model for model in wanted.models.values()}
    keys = {key for service in wanted.services[host].values() for key in service.models}
    return [known[key] for key in sorted(keys) if found["models"].get(key, {"changed": True})["changed"]]


def ports(wanted: Wanted, host: str, found: steps.Found) -> dict[str, int]:
    """Return the port of each service's wanted release: the one that it has, or else one that nobody uses."""
    layout = wanted.layout(host)
    known = {
        path: int(entry["text"])
        for path, entry in found["paths"].items()
        if path.endswith("/port") and entry.get("text", "").strip().isdigit()
    }
    taken = {*known.values(), *found["taken_ports"], *(other["port"] for other in found["others"])}
    given: dict[str, int] = {}
    for name, service in wanted.services[host].items():
        there = known.get(f"{layout.release(name, service.key)}/port")
        if service.kind == "gateway":
            given[name] = wanted.gateway.port
            continue
        port = there or next(port for port in range(wanted.deploy.first_port, 65536) if port not in taken)
        taken.add(port)
        given[name] = port
    return given


def probes(wanted: Wanted, place: Placement) -> list[dict[str, Any]]:
    """Return what a new server is asked before it counts: a real prompt, and the tokens of a conversation."""
    where = _place(wanted, wanted.seats[place.label].host)
    found: list[dict[str, Any]] = []
    for expert in place.experts:
        known = wanted.expected.get(expert.name, {}) if expert.task == "generate" else {}
        found.append({**question(expert.name, expert.task, known.get("messages") or ()), "place": where})
        if "ids" in known:
            asked = {"model": expert.name, "messages": known["messages"], "add_generation_prompt": True}
            found.append({
                "path": "/tokenize", "body": asked, "place": where, "timeout_s": 30.0,
                "expected": {"tokens": known["ids"]},
            })  # fmt: skip
    return found


def question(expert: str, task: str, messages: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a real question for an expert's server, by what the expert does."""
    if task == "embed":
        return {"path": "/v1/embeddings", "body": {"model": expert, "input": "Hello"}, "timeout_s": 60.0}
    if task == "score":
        body: dict[str, Any] = {"model": expert, "text_1": "Hello", "text_2": "Good day"}
        return {"path": "/score", "body": body, "timeout_s": 60.0}
    said = list(messages) or [{"role": "user", "content": "Hello"}]
    body = {"model": expert, "messages": said, "max_tokens": 8, "temperature": 0}
    return {"path": "/v1/chat/completions", "body": body, "timeout_s": 120.0}


def _model_server(wanted: Wanted, place: Placement, seat: Seat) -> Service:
    host = wanted.hosts[seat.host]
    root = host.paths.root
    models = {expert.name: wanted.models.get(expert.name) for expert in place.experts}
    where = {name: f"{root}/models/{model.key}" if model else "" for name, model in models.items()}
    template = templates.chosen(place)
    serving = wanted.serving.model_copy(update={"python": wanted.pythons[seat.host].interpreter, **_share(seat)})
    argv = vllm.command(
        serving,
        model=where[place.base.name] or place.base.location,
        served_name=place.base.name,
        adapters={one.name: where[one.name] or one.location for one in place.adapters},
        port=0,
        device=wanted.device,
        revision="" if models[place.base.name] else place.base.revision,
        adapter_rank=placement.adapter_rank(place.adapters),
        chat_template="{release}/chat_template.jinja" if template else "",
        dtype=precision.on_cpu(place.base.location) if wanted.device == "cpu" else "",
        generates=place.base.task == "generate",
    )
    offline = all(models.values())
    variables = vllm.environment(serving, device=wanted.device, offline=offline, threads=0)
    caches = wanted.layout(seat.host).own_state(place.label)
    gpus = (
        {"CUDA_VISIBLE_DEVICES": ",".join(map(str, seat.gpus)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if seat.gpus else {}
    )
    return Service(
        name=place.label,
        kind="vllm",
        argv=(*_listening(argv, _bind(wanted, seat.host)), *tls.server_words(wanted, seat.host)),
        serves=tuple(expert.name for expert in place.experts),
        environment={
            **variables,
            **gpus,
            "HOME": caches,
            "XDG_CACHE_HOME": f"{caches}/cache",
            "HF_HOME": f"{caches}/hub",
        },
        place={**_place(wanted, seat.host), "address": wanted.address(seat.host)},
        files={"chat_template.jinja": template} if template else {},
        models={model.key: expert.reference for expert in place.experts if (model := models[expert.name])},
        answers={expert.name: _answer(wanted, expert, template) for expert in place.experts},
        gpus=seat.gpus,
        bytes=seat.bytes_each,
        start_timeout_s=wanted.serving.startup_timeout_s,
        stop_timeout_s=START_SPARE_S,
        secrets=tuple(sorted(wanted.deploy.secrets)),
        runtime=runtime_key(),
    )


def _answer(wanted: Wanted, expert: ServedExpert, template: str) -> dict[str, Any]:
    """Return what gateways must know of an expert's server, but for its address (`gateway.config.Upstream`)."""
    return {
        "served_model": expert.name,
        "model": expert.reference,
        "lock": expert.lock,
        "limit": wanted.serving.max_num_seqs,
        "chat_template": templates.sha256(template or expert.chat_template),
    }


def _gateway_service(wanted: Wanted, host: str) -> Service:
    layout = wanted.layout(host)
    state = layout.own_state(GATEWAY)
    settings = tls.gateway_section(wanted)
    certificate = tls.located(settings.tls.certificate, layout)
    return Service(
        name=GATEWAY,
        kind="gateway",
        argv=(wanted.pythons[host].interpreter, "-m", "largeforge.gateway", "--config", layout.gateway_file),
        environment={
            "HOME": state, "XDG_CACHE_HOME": f"{state}/cache", "XDG_RUNTIME_DIR": state, "PYTHONUNBUFFERED": "1",
        },
        place={"host": loopback_of(wanted.gateway.host), **({"ca": certificate} if certificate else {})},
        files={"process.json": json.dumps(settings.of_the_process(), indent=1, sort_keys=True) + "\n"},
        start_timeout_s=90.0,
        stop_timeout_s=START_SPARE_S,
        secrets=tuple(name for name in sorted(wanted.deploy.secrets) if name.startswith("LARGEFORGE_")),
        runtime=runtime_key(),
    )  # fmt: skip


def _share(seat: Seat) -> dict[str, float]:
    return {"gpu_memory_utilization": seat.share} if seat.gpus else {}


def _place(wanted: Wanted, host: str) -> dict[str, str]:
    """Return how the model servers of a host are asked on that host."""
    return {"host": _bind(wanted, host), **tls.asking(wanted, host)}


def _bind(wanted: Wanted, host: str) -> str:
    """Return what a model server of a host listens on: the loopback where the only gateway is there, too."""
    address = wanted.address(host)
    return address if address.replace(".", "").isdigit() or ":" in address else "0.0.0.0"


def _listening(argv: Sequence[str], host: str) -> list[str]:
    """Return a command line that listens on a host's address, and on a port that is put in there."""
    words = list(argv)
    words[words.index("--host") + 1] = host
    words[words.index("--port") + 1] = "{port}"
    return words


def _base(wanted: Wanted, layout: Layout, services: Sequence[str]) -> list[steps.Step]:
    """Return what all services of a host need."""
    parts = [f"{layout.root}/{part}" for part in ("models", "environments", "incoming")]
    shared = [layout.root, *parts, layout.state, layout.logs, f"{layout.state}/{layout.deployment}"]
    about = {"deployment": wanted.deployment, "recipe": wanted.recipe, "lock": wanted.lock}
    return [
        steps.Account(layout.user, layout.state),
        *(steps.Folder(path) for path in shared),
        steps.Folder(f"{layout.logs}/{layout.deployment}"),
        *(steps.File(f"{layout.agent}/{name}", text) for name, text in agent_files().items()),
        *(steps.Folder(layout.own_state(name), user=layout.user, mode="750") for name in services),
        steps.File(f"{layout.home}/deployment.json", json.dumps(about, indent=1, sort_keys=True) + "\n"),
    ]


def _model(wanted: Wanted, layout: Layout, key: str) -> steps.Step:
    model = next(model for model in wanted.models.values() if model.key == key)
    incoming = f"{layout.root}/incoming"
    folders = f"{incoming} {layout.root}/models {key}"
    if isinstance(model, HubContent):
        manifest = f"{incoming}/{key}.json"  # written by the host that fetched it
        return steps.Made(
            "models", key, f"model {key[:12]} ({model.repo} at {model.commit[:8]} of the hub)",
            f"python3 {layout.agent}/adopt.py {folders} < {manifest} && rm {manifest}",
        )  # fmt: skip
    return steps.Made(
        "models", key, f"model {key[:12]} ({model.num_bytes / 2**20:.0f} MiB)",
        f"python3 {layout.agent}/adopt.py {folders}", json.dumps(model.manifest()),
    )  # fmt: skip


def release_files(layout: Layout, service: Service, port: int) -> list[steps.Step]:
    """Return the steps that write the files of a release."""
    name = service.name
    folder = layout.release(name, service.key)
    files = {"service.json": service.as_json(), "port": f"{port}\n", **service.files}
    return [steps.File(f"{folder}/{file}", text) for file, text in files.items()]


def left_over(wanted: Wanted, host: str) -> list[steps.Step]:
    """Return the steps that remove what a host has no more use for, once nothing there is asked any more."""
    if host in wanted.gateways:
        return []
    name = port_unit(wanted.layout(host), wanted.gateway.host, wanted.gateway.port)[0]
    return [steps.Removed(name, (f"/etc/systemd/system/{name}",))]


def _reloaded(
    wanted: Wanted, host: str, layout: Layout, units: Sequence[steps.File], *, ports: Collection[int]
) -> list[steps.Step]:
    """Return the steps after which systemd knows all units, rules are in force, and the gateways' socket is held."""
    files, following = firewall.installing(wanted, host, ports)
    if host in wanted.gateways:
        name, text = port_unit(layout, wanted.gateway.host, wanted.gateway.port)
        file = steps.File(f"/etc/systemd/system/{name}", text)
        files, following = [*files, file], [*following, steps.Enabled(name), steps.Running(name, (file,))]
    return [*files, steps.Reloaded((*units, *files)), *following]


def _credentials(wanted: Wanted, services: Iterable[Service]) -> list[steps.Step]:
    names = sorted({name for service in services for name in service.secrets})
    folder = f"/etc/largeforge/{wanted.deployment}"
    return [steps.Credential(f"{folder}/{name}.cred", name, wanted.secrets[name]) for name in names]


def _rotation(layout: Layout) -> steps.Step:
    """Return the rotation of logs: daily or at 100 MB, seven kept; they are copied, since services hold them open.

    systemd makes them for root alone; nobody else may write to their folder, so root rotates them there.
    """
    rules = "daily\n  maxsize 100M\n  rotate 7\n  compress\n  delaycompress\n  missingok\n  notifempty\n  copytruncate"
    text = f"{layout.logs}/{layout.deployment}/*.log {{\n  su root root\n  {rules}\n}}\n"
    return steps.File(f"/etc/logrotate.d/largeforge-{layout.deployment}", text)
