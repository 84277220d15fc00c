"""Train the routers that learn, and refuse to serve where routing does not meet the recipe's gates.

The rows go through the gateway's own code. A router that asks an expert for embeddings gets that expert's server,
for as long as it is judged.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from largeforge.artifacts import write_json
from largeforge.errors import DataError
from largeforge.gateway import learning
from largeforge.gateway.examples import routed, undivided
from largeforge.gateway.routing import ServiceFailed, Services, routing_of
from largeforge.judging.verdict import Verdict, decide, require
from largeforge.recipe import routing_files
from largeforge.recipe.base import Strict
from largeforge.recipe.evaluation import parse_condition
from largeforge.recipe.schema import Gateway, Model, Registry, Router, Routing, Serving, Topology
from largeforge.serving import vllm
from largeforge.serving.model_servers import ModelServers
from largeforge.stages import routed_rows, serve
from largeforge.stages.context import Result

if TYPE_CHECKING:
    from largeforge.gateway.examples import Example
    from largeforge.gateway.routing import Route
    from largeforge.judging.intervals import Interval
    from largeforge.stages.context import Context

TOLD_EVERY_S = 1.0
TIMEOUT_S = 60.0


class Config(Strict):
    """What routers learn from, and what they must show."""

    topology: Topology
    models: dict[str, Model] = {}
    router: Router
    routing: Routing
    serving: Serving
    registry: Registry
    device: Literal["cpu", "cuda"]
    seed: int
    files: list[str] = []
    """sha256 of the files of requests: other content is another result."""


def run(config: Config, context: Context) -> Result:
    """Write what the routers learnt, and `routing.json` with what they were judged to be worth.

    Raises GateError that lists every gate that refused, or could not be decided.
    """
    experts = config.topology.experts
    if learning.learners(config.router):
        examples = routed_rows.read_examples(config.routing.path, experts)
        if len({expert for _, expert in examples}) < 2:
            raise DataError("routing.path: routers learn to tell experts apart, and its requests are of fewer than two")
        context.events.emit("note", text=f"learning from {len(examples)} requests")
        learning.train(config.router, examples, context.out, seed=config.seed, progress=_Progress(context))
    heldout = routed_rows.read_examples(config.routing.heldout_path, experts)
    if not heldout:
        return Result()
    routes = _routes(config, context, heldout)
    wanted = [expert for _, expert in heldout]
    found = routed_rows.intervals(routed_rows.measured(wanted, routes, experts), config.routing.confidence)
    routed_rows.tell(context, wanted, routes, found)
    verdicts = [_decide(metric, text, found, config.routing.by) for metric, text in config.routing.gates.items()]
    for verdict in verdicts:
        context.events.emit("gate", **verdict.as_dict())
    gates = [verdict.as_dict() for verdict in verdicts]
    metrics = {f"routing.{name}": one.value for name, one in found.items() if math.isfinite(one.value)}
    report = {
        "requests": len(heldout), "metrics": metrics, "gates": gates,
        "intervals": {f"routing.{name}": _finite(one) for name, one in found.items()},
        "confusions": routed_rows.confusions(wanted, routes), "mistakes": routed_rows.mistakes(heldout, routes),
    }  # fmt: skip
    write_json(context.out / "routing.json", report)
    require(verdicts, subject="the routing", so="nothing is served", more="more held-out requests", key="routing.by")
    return Result(metrics=metrics, info={"gates": gates})


def _routes(config: Config, context: Context, heldout: Sequence[Example]) -> list[Route]:
    """Return where each request goes, by the gateway's own code."""
    router = learning.located(config.router, context.out)
    topology = undivided(config.topology)
    progress = _Progress(context, unit="requests")
    with _servers(config, context) as servers:
        ports = servers.ports if servers else {}

        async def post_json(name: str, path: str, body: Mapping[str, Any]) -> Any:
            return await asyncio.to_thread(_post, ports, name, path, body)

        async def all_of_them() -> list[Route]:
            routing = routing_of(router, topology, Services(post_json=post_json))
            await routing.start()
            try:
                return await routed(routing, [request for request, _ in heldout], progress=progress)
            finally:
                await routing.stop()

        return asyncio.run(all_of_them())


def _servers(config: Config, context: Context) -> ModelServers | nullcontext[None]:
    """Return the servers of those experts that routers ask."""
    asked = {name for _, one in routing_files.routers(config.router) if (name := getattr(one, "expert", ""))}
    if not asked:
        return nullcontext()
    chosen = {name: expert for name, expert in config.topology.experts.items() if name in asked}
    served = serve.Config(
        topology=Topology(experts=chosen, fallback=next(iter(chosen))), models=config.models, router=config.router,
        serving=config.serving, gateway=Gateway(), registry=config.registry, device=config.device,
    )  # fmt: skip
    return ModelServers(
        serve.served_experts(served, context), serving=config.serving, device=config.device,
        logs=context.work / "logs", report=lambda text: context.events.emit("note", text=text),
    )  # fmt: skip


def _post(ports: Mapping[str, int], name: str, path: str, body: Mapping[str, Any]) -> Any:
    """Send JSON to an expert's server, or to an address, and return the JSON of its answer."""
    url = f"http://{vllm.HOST}:{ports[name]}" if name in ports else name
    given = {**body, "model": name} if name in ports else dict(body)
    request = urllib.request.Request(
        f"{url}{path}", json.dumps(given).encode(), {"content-type": "application/json"}, method="POST"
    )
    opener = (
        urllib.request.build_opener(urllib.request.ProxyHandler({})) if name in ports else urllib.request.build_opener()
    )
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise ServiceFailed(f"status-{error.code}") from error
    except (OSError, ValueError) as error:
        raise ServiceFailed("refused") from error


def _decide(metric: str, text: str, found: Mapping[str, Interval], by: str) -> Verdict:
    condition, name = parse_condition(text), f"routing.{metric}"
    one = found.get(metric)
    if one is None:
        rule = "no held-out request belongs to that expert" if metric.startswith("recall") else "none went there"
        return Verdict(name, str(condition), None, "fail", note=rule)
    return decide(name, condition, one.value, one.as_dict(), by_interval=by == "interval")


def _finite(one: Interval) -> dict[str, Any]:
    plain = one.as_dict()
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in plain.items()
    }


class _Progress:
    """Tells how far a stage is, now and then."""

    def __init__(self, context: Context, unit: str = "steps"):
        self._context, self._unit = context, unit
        self._told = math.inf

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        now = time.monotonic()
        self._told = min(self._told, now)
        if done < total and now - self._told < TOLD_EVERY_S:
            return
        self._told = now
        known = {} if loss is None else {"loss": round(loss, 4)}
        self._context.events.emit("progress", step=done, total=total, unit=self._unit, **known)
