"""The ASGI application: builds the parts from a gateway file and hangs them on their paths."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from largeforge.gateway import docs, tracing, websocket
from largeforge.gateway.access import AccessLog, RequestLog, exchange_of
from largeforge.gateway.admin.service import Admin
from largeforge.gateway.arms import ARMS, Arms
from largeforge.gateway.bulk.service import service as bulk_service
from largeforge.gateway.completions import Completions
from largeforge.gateway.crew.whole import Whole
from largeforge.gateway.errors import ApiError, internal_error
from largeforge.gateway.explain import PATH as ROUTE_PATH
from largeforge.gateway.explain import Explainer
from largeforge.gateway.guard import Guard
from largeforge.gateway.kinds import PATHS
from largeforge.gateway.live import Live
from largeforge.gateway.loopback import Loopback
from largeforge.gateway.metrics import Metrics
from largeforge.gateway.monitor import rollouts
from largeforge.gateway.monitor.pages import Monitor
from largeforge.gateway.observer import Observer
from largeforge.gateway.proxy import Proxy
from largeforge.gateway.quality.feedback import PATH as FEEDBACK_PATH
from largeforge.gateway.quality.feedback import QUESTION as RATE
from largeforge.gateway.quality.feedback import Feedback, Ratings
from largeforge.gateway.quality.service import Quality
from largeforge.gateway.request import AUTO
from largeforge.gateway.rollout_gauges import RolloutCollector
from largeforge.gateway.shadow import Shadows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from largeforge.gateway.admin.controls import Controls
    from largeforge.gateway.admin.state import State
    from largeforge.gateway.config import GatewayFile
    from largeforge.gateway.crew.worker import Place


class Application:
    """The gateway as an ASGI application, and its completions for connections that need no ASGI."""

    def __init__(self, app: ASGIApp, completions: Completions):
        self._app = app
        self.completions = completions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what ASGI asks for."""
        await self._app(scope, receive, send)


def create_app(
    file: GatewayFile,
    *,
    registry: CollectorRegistry | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    log: Callable[[str, Mapping[str, Any]], None] | None = None,
    admin: Admin | None = None,
    place: Place | None = None,
) -> Application:
    """Return the gateway for a file; its connections and probes live as long as its lifespan.

    `log` takes a line for each request; without it the line goes to Python's logging.
    """
    registry = registry or CollectorRegistry()
    metrics = Metrics(registry, thresholds_ms=file.gateway.slo.thresholds_ms())
    live = Live(file, metrics=metrics, registry=registry, clock=clock, wall_clock=wall_clock, place=place)
    operated = (admin or Admin()).of(live, registry=registry, wall_clock=wall_clock)
    controls = operated.controls
    metrics.in_flight.set_function(lambda: len(operated.running))
    whole = Whole(place, metrics=metrics.render, in_flight=lambda: len(operated.running))

    arms = Arms(clock)
    RolloutCollector(registry, controls, arms)
    ratings = Ratings(metrics, arms)
    whole.answer(ARMS, arms.for_others)
    whole.answer(RATE, ratings.for_others)

    monitor = Monitor(
        live, metrics, controls, whole, operated.access,
        in_flight=lambda: len(operated.running), wall_clock=wall_clock,
        rollouts=lambda: rollouts.shown(controls.now, wall_clock()),
    )  # fmt: skip
    traces = tracing.traces(file.gateway)
    observer = Observer(metrics, traces, clock, answered=ratings.answered, arms=arms)
    quality = Quality(live, metrics, lambda: controls.now, arms=arms)
    shadows = Shadows(metrics, quality, arms, clock)
    guard = Guard(live, controls, whole, wall_clock=wall_clock, place=place)
    loopback = Loopback()
    bulk = bulk_service(
        file.gateway,
        loopback,
        num_others=lambda: operated.running.num_interactive,
        is_paused=lambda: controls.now.spares,
        wall_clock=wall_clock,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with live, operated, whole, monitor, quality, guard, bulk.running():
            yield
            await shadows.stop()
        if traces is not None:
            await traces.close()

    proxies = {
        path: Proxy(
            kind, live, controls=controls, running=operated.running, quality=quality, shadows=shadows, observer=observer
        )
        for path, kind in PATHS.items()
    }
    explainer = Explainer(
        lambda: live.now.routing,
        asks=lambda: controls.now.mode != "degraded",
        max_body_mib=file.gateway.max_body_mib,
        clock=clock,
    )
    requests = RequestLog(clock=clock, write=log)
    feedback = Feedback(ratings, whole, requests.write).endpoint()
    routes = [
        *(Route(path, proxy, methods=["POST"]) for path, proxy in proxies.items()),
        Route(ROUTE_PATH, explainer, methods=["POST"], name="route"),
        Route(FEEDBACK_PATH, feedback, methods=feedback.methods),
        *websocket.routes(loopback),
        *bulk.routes,
        *operated.routes(whole),
        *_pages(live, controls, whole, created=int(wall_clock())),
        *docs.routes(),
        *monitor.routes(),
    ]
    loopback.app = AccessLog(_served(routes, lifespan), requests)
    by_url = {path.encode(): proxy for path, proxy in proxies.items()}
    return Application(loopback.app, Completions(by_url, requests, live))


def _served(routes: list[BaseRoute], lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]]) -> Starlette:
    """Return an application whose errors are those of the API, and that sends nobody elsewhere."""
    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _internal_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


def model_list(file: GatewayFile, *, created: int) -> dict[str, Any]:
    """Return the body of `/v1/models`: `auto` and every expert."""
    cards = [(AUTO, "Chooses the expert by the request.", "", "", "generate")]
    for name, expert in file.topology.experts.items():
        upstream = file.upstreams[name][0]
        cards.append((name, expert.description, upstream.model, upstream.chat_template, expert.task))
    data = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "largeforge",
            "description": description,
            "root": root,
            "task": task,
            **({"chat_template_sha256": template} if template else {}),
        }
        for name, description, root, template, task in cards
    ]
    return {"object": "list", "data": data}


def readiness(live: Live, state: State) -> dict[str, Any]:
    """Return the body of `/ready`: ready means that new requests are taken, and the fallback expert is up, or will be:
    requests wait for servers that are drained."""
    report = live.health.report()
    for name in state.experts.keys() & report.keys():
        report[name] |= {"state": "isolated", "reason": state.experts[name] or "isolated by operators"}
    reasons = [f"{name}: {said['reason']}" for name, said in report.items() if said["state"] != "up"]
    if state.mode == "maintenance":
        reasons.insert(0, f"maintenance: {state.reason or 'no new requests are taken'}")
    fallback = live.now.file.topology.fallback
    target = live.now.targets[fallback]
    is_ready = (target.is_up or target.is_drained) and state.mode != "maintenance" and fallback not in state.experts
    return {"ready": is_ready, "mode": state.in_force, "reasons": reasons, "experts": report}


def _pages(live: Live, controls: Controls, whole: Whole, *, created: int) -> list[BaseRoute]:
    async def models(_: Request) -> Response:
        return Response(orjson.dumps(model_list(live.now.file, created=created)), media_type="application/json")

    async def alive(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(_: Request) -> Response:
        body = readiness(live, controls.now)
        status, headers = (200, None) if body["ready"] else (503, {"retry-after": "1"})
        return Response(orjson.dumps(body), status, headers, media_type="application/json")

    async def scrape(_: Request) -> Response:
        return Response(await whole.metrics(), headers={"content-type": CONTENT_TYPE_LATEST})

    return [
        Route("/v1/models", models),
        Route("/health", alive),
        Route("/ready", ready),
        Route("/metrics", scrape),
    ]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, method = request.url.path[:200], request.method
    messages = {
        404: (f"There is no {path}; /docs lists what there is.", "unknown_url"),
        405: (f"{method} is not allowed on {path}.", "method_not_allowed"),
    }
    message, code = messages.get(error.status_code, (error.detail, "http_error"))
    headers = dict(error.headers or {})
    return _error_response(ApiError(error.status_code, message, code=code), headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    return _error_response(internal_error(exchange_of(request.scope).request_id), {})


def _error_response(error: ApiError, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(error.body()), error.status, headers, media_type="application/json")
