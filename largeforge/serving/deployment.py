"""A topology on this machine: its vLLM servers and the gateway before them, as one context.

    with Deployment(experts, ...) as deployment:
        ...                     # clients talk to deployment.url
        deployment.watch()      # raises when a process has died

Leaving the context stops everything, the gateway first. Should this process be killed, the
reapers above the servers see to it that nothing is left behind.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from largeforge import events
from largeforge.serving import server, templates, vllm
from largeforge.serving.model_servers import ModelServers
from largeforge.serving.server import Server
from largeforge.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from largeforge.recipe.schema import Gateway, Router, Serving, Topology
    from largeforge.serving.placement import ServedExpert

MOST_DRAIN_S = 12.0
"""What running answers have at most here: a stage that is told to stop has 20 s, and the servers stop after this."""
GATEWAY_SPARE_S = 2.0
"""What the gateway may take to stop beyond the time of running answers."""
GATEWAY_TIMEOUT_S = 60.0
GATEWAY_LOG = "gateway.log"
"""Has a line for each request, from its id to the lock of the model that answered"""
KEPT_LOGS = 20


class Deployment:
    """The processes of one topology; `report` is told of the progress in words."""

    def __init__(
        self,
        experts: Sequence[ServedExpert],
        *,
        topology: Topology,
        router: Router,
        serving: Serving,
        gateway: Gateway,
        device: str,
        logs: Path,
        report: Callable[[str], None],
        cores: int = 0,
    ):
        self.url = ""
        self._servers = ModelServers(
            experts,
            serving=serving,
            device=device,
            logs=logs,
            report=report,
            cores=cores,
            traces_url=gateway.tracing.traces_url,
        )
        self._limit = serving.max_num_seqs
        self._topology = topology
        self._router = router
        drain_s = min(gateway.drain_timeout_s, MOST_DRAIN_S)
        self._gateway = gateway.model_copy(update={"drain_timeout_s": drain_s})
        self._logs = logs
        self._report = report
        self._front: list[Server] = []

    def __enter__(self) -> Self:
        """Start everything and return when the gateway answers.

        Raises ServingError with the cause when a process does not come up, and RecipeError where a certificate cannot
        be used; nothing is left then.
        """
        server.check_port(self._gateway.host, self._gateway.port)
        if self._gateway.tls.certificate:
            server_context(**self._gateway.tls.model_dump())
        try:
            self._servers.__enter__()
            self._start_gateway()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def watch(self) -> None:
        """Raise ServingError when a process has ended."""
        self._servers.watch()
        for process in self._front:
            process.check()

    def stop(self) -> None:
        """Stop the gateway, then the servers; returns when none of their processes is left."""
        try:
            server.stop(self._front)
        finally:
            self._servers.stop()

    def _start_gateway(self) -> None:
        keep_log(self._logs / GATEWAY_LOG)
        path = self._logs / "gateway.json"
        path.write_text(json.dumps(self._gateway_file(), indent=2), encoding="utf-8")
        for tenant in begin_state(path.with_suffix(".state.json")):
            self._report(f"tenant {tenant} is still isolated; `largeforge gateway release tenant {tenant}` lets it in")
        argv = [sys.executable, "-m", "largeforge.gateway", "--config", str(path)]
        grace_s = self._gateway.drain_timeout_s + GATEWAY_SPARE_S
        process = Server("gateway", argv, log=self._logs / GATEWAY_LOG, environment={}, grace_s=grace_s)
        self._front.append(process)
        process.start()
        server.wait(
            {process: lambda: self._gateway_is_ready(process)}, timeout_s=GATEWAY_TIMEOUT_S, report=self._report
        )

    def _gateway_file(self) -> dict[str, Any]:
        upstreams = {
            expert.name: [
                {
                    "url": f"http://{vllm.HOST}:{port}",
                    "served_model": expert.name,
                    "model": expert.reference,
                    "lock": expert.lock,
                    "limit": self._limit,
                    "chat_template": templates.sha256(self._servers.templates[place.base.name] or expert.chat_template),
                }
                for port in self._servers.replicas[expert.name]
            ]
            for place in self._servers.placements
            if place.replica == 1
            for expert in place.experts
        }
        return {
            "gateway": self._gateway.model_dump(mode="json"),
            "router": self._router.model_dump(mode="json"),
            "topology": self._topology.model_dump(mode="json"),
            "upstreams": upstreams,
        }

    def _gateway_is_ready(self, process: Server) -> bool:
        self.url = self.url or _listening_url(process.read_log())
        if not self.url:
            return False
        if self._gateway.tls.client_ca:
            return True  # it answers nobody without a certificate
        parts = urlsplit(self.url)
        answer = server.get(parts.port or 0, "/ready", host=parts.hostname or "", is_tls=parts.scheme == "https")
        return answer is not None and answer[0] == 200


def keep_log(log: Path) -> None:
    """Put the log of an earlier gateway aside, so that its requests can still be traced; the oldest are removed."""
    if log.is_file() and log.stat().st_size:
        log.rename(log.with_name(f"{log.stem}-{int(log.stat().st_mtime * 1000)}{log.suffix}"))
    for old in sorted(log.parent.glob(f"{log.stem}-*{log.suffix}"))[:-KEPT_LOGS]:
        old.unlink()


def begin_state(path: Path) -> list[str]:
    """Begin with what operators have set, and return the tenants that stay isolated.

    Modes, isolated experts and drained servers were of the deployment before; who sends requests is the same.
    """
    try:
        tenants = json.loads(path.read_bytes())["state"]["tenants"]
    except (OSError, ValueError, LookupError, TypeError):
        tenants = {}
    path.unlink(missing_ok=True)
    if tenants:
        path.write_text(json.dumps({"state": {"tenants": tenants}}), encoding="utf-8")
    return list(tenants)


def _listening_url(log: str) -> str:
    """Return the address in the gateway's `listening` event, empty before there is one."""
    found = (event for line in log.splitlines() if (event := events.decode(line)))
    return next((str(event["url"]) for event in found if event["kind"] == "listening"), "")
