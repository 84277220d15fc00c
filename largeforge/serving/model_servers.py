"""The vLLM servers of some models, without a gateway before them, as one context.

    with ModelServers(experts, ...) as servers:
        servers.ports           # name of each expert to the port of its (first) server
    servers.replicas        # name of each expert to the ports of all its servers
        servers.watch()         # raises when a process has died

Each server says before the block begins that it writes conversations as the training did. Should this process be
killed, the reapers above the servers see to it that nothing is left behind.

Every server is taken to fit beside the others: on GPUs nothing here divides them up.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Self

from largeforge.errors import ServingError
from largeforge.serving import placement, precision, server, templates, tracing, vllm
from largeforge.serving.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from largeforge.recipe.schema import Serving
    from largeforge.serving.placement import Placement, ServedExpert

VLLM_GRACE_S = 3.0


class ModelServers:
    """One server for each model, with the adapters on it; `report` is told of the progress in words."""

    def __init__(
        self,
        experts: Sequence[ServedExpert],
        *,
        serving: Serving,
        device: str,
        logs: Path,
        report: Callable[[str], None],
        cores: int = 0,
        traces_url: str = "",
    ):
        self.ports: dict[str, int] = {}
        self.replicas: dict[str, list[int]] = {}
        self.placements = placement.place(experts)
        self.templates = {place.base.name: templates.chosen(place) for place in self.placements}
        self._serving = serving
        self._device = device
        self._logs = logs
        self._report = report
        self._cores = cores or os.cpu_count() or 1
        self._traces_url = traces_url
        self._models: list[Server] = []

    def __enter__(self) -> Self:
        """Start everything and return when all servers answer.

        Raises ServingError with the cause when a process does not come up; nothing is left then.
        """
        try:
            with server.reserved_ports(len(self.placements)) as ports:
                self._start(ports)
        except BaseException:
            self.stop()
            raise
        for place, port in zip(self.placements, ports, strict=True):
            for expert in place.experts:
                self.replicas.setdefault(expert.name, []).append(port)
        self.ports = {name: found[0] for name, found in self.replicas.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def watch(self) -> None:
        """Raise ServingError when a process has ended."""
        for process in self._models:
            process.check()

    def stop(self) -> None:
        """Stop the servers; returns when none of their processes is left."""
        server.stop(self._models)

    def _start(self, ports: Sequence[int]) -> None:
        probe = templates.Probe(
            [place for place in self.placements if place.base.task == "generate" and place.replica == 1]
        )
        try:
            self._start_models(ports)
            self._verify_templates(ports, probe.results())
        finally:
            probe.stop()

    def _start_models(self, ports: Sequence[int]) -> None:
        if self._traces_url and (reason := tracing.missing(self._serving)):
            self._report(f"traces will not show what vLLM does: {reason}")
            self._traces_url = ""
        threads = placement.threads_each(self._cores, num_servers=len(self.placements))
        readiness: dict[Server, Callable[[], bool]] = {}
        for place, port in zip(self.placements, ports, strict=True):
            process = self._model_server(place, port, threads)
            self._models.append(process)
            process.start()
            self._report(f"{place.title}: starting")
            readiness[process] = _vllm_readiness(place, port)
        hint = f"serving.startup_timeout_s={2 * self._serving.startup_timeout_s:g} would wait longer."
        server.wait(readiness, timeout_s=self._serving.startup_timeout_s, report=self._report, hint=hint)

    def _model_server(self, place: Placement, port: int, threads: int) -> Server:
        argv = vllm.command(
            self._serving,
            model=place.base.location,
            served_name=place.base.name,
            adapters={adapter.name: adapter.location for adapter in place.adapters},
            port=port,
            device=self._device,
            revision=place.base.revision,
            adapter_rank=placement.adapter_rank(place.adapters),
            chat_template=self._template_file(place),
            dtype=precision.on_cpu(place.base.location) if self._device == "cpu" else "",
            generates=place.base.task == "generate",
            traces_url=self._traces_url,
        )
        offline = all(expert.is_local for expert in place.experts)
        environment = vllm.environment(
            self._serving, device=self._device, offline=offline, threads=threads, has_traces=bool(self._traces_url)
        )
        log = self._logs / f"vllm-{place.label}.log"
        return Server(place.title, argv, log=log, environment=environment, grace_s=VLLM_GRACE_S)

    def _template_file(self, place: Placement) -> str:
        """Write the template that a server is given to a file; return its path, or an empty string."""
        text = self.templates[place.base.name]
        if not text:
            return ""
        path = self._logs / f"chat_template-{place.base.name}.jinja"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path.absolute())

    def _verify_templates(self, ports: Sequence[int], expected: dict[str, dict[str, Any]]) -> None:
        """Compare how the servers write conversations with how the training did."""
        for place, port in zip(self.placements, ports, strict=True):
            known = [expert for expert in place.experts if expert.name in expected]
            said = [templates.verify(expert, expected[expert.name], port, host=vllm.HOST) for expert in known]
            for reason in filter(None, said):
                self._report(reason)
            if verified := [expert.name for expert, reason in zip(known, said, strict=True) if not reason]:
                self._report(f"{', '.join(verified)}: chat template verified")


def _vllm_readiness(place: Placement, port: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        health = server.get(port, "/health", host=vllm.HOST)
        if health is None or health[0] != 200:
            return False
        listed = server.get(port, "/v1/models", host=vllm.HOST)
        if listed is None or listed[0] != 200:
            return False
        served = {model["id"] for model in json.loads(listed[1])["data"]}
        if missing := {expert.name for expert in place.experts} - served:
            raise ServingError(f"{place.title} does not serve {', '.join(sorted(missing))}, only {', '.join(served)}.")
        return True

    return is_ready
