"""A fake of vLLM that speaks its HTTP protocol over real sockets, and gateways in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from largeforge.gateway import clients, proxy
from largeforge.gateway.admin.service import Admin
from largeforge.gateway.app import Application, create_app
from largeforge.gateway.config import GatewayFile
from tests.gateway import fake_answers
from tests.gateway.processes import process, start  # noqa: F401 - fixtures
from tests.gateway.raw import Watched

if TYPE_CHECKING:
    from starlette.requests import Request

TOKEN = "token-of-the-tests"
OPERATES = {"authorization": f"Bearer {TOKEN}"}
"""Headers of an operator."""
DIE = object()
"""In a script: break the connection off here."""


@pytest.fixture(autouse=True)
def _sockets(socket_enabled: None) -> None:
    """Real sockets on the loopback, whatever the default is."""


class Server(uvicorn.Server):
    """uvicorn in this event loop or thread, leaving signals alone and saying when it serves."""

    def __init__(self, app: Any, most: int = 1000, **options: Any):
        http: Any = clients.protocol(most, app.completions) if isinstance(app, Application) else "auto"
        config = uvicorn.Config(
            app, http=http, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=5, proxy_headers=False,
            **options,
        )  # fmt: skip
        super().__init__(config)
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Running:
    """A served application and where it listens."""

    server: Server
    task: asyncio.Task[None]
    url: str

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


async def serve(app: Any, port: int = 0) -> Running:
    listener, url = listen(port)
    server = Server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.to_thread(server.serving.wait)
    return Running(server, task, url)


def listen(port: int = 0) -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


class FakeVllm:
    """What a test can do to an expert, and what the expert saw."""

    def __init__(self, text: str = "Hello") -> None:
        self.text = text
        self.status = 200
        self.error: dict[str, Any] = {"message": "no", "type": "BadRequestError", "param": None, "code": 400}
        self.error_headers: dict[str, str] = {}
        self.body: bytes | None = None
        """When set, the answer with status 200, whatever was asked."""
        self.healthy = True
        self.script: asyncio.Queue[Any] | None = None
        """Pieces of raw stream, fed by the test; None ends it, DIE breaks it. Unset: a whole answer at once."""
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[httpx.Headers] = []
        self.arrived = threading.Event()
        self.finish: asyncio.Event | None = None
        """When set, whole answers wait for it."""
        self.cancelled: asyncio.Event = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
                Route("/rerank", self._rerank, methods=["POST"]),
                Route("/score", self._score, methods=["POST"]),
            ]
        )

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200 if self.healthy else 503)

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, "chat.completion")

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, "text_completion")

    async def _embed(self, request: Request) -> Response:
        return await self._answer(request, "embedding")

    async def _rerank(self, request: Request) -> Response:
        return await self._answer(request, "rerank")

    async def _score(self, request: Request) -> Response:
        return await self._answer(request, "score")

    async def _answer(self, request: Request, kind: str) -> Response:
        body = await request.body()
        self.bodies.append(body)
        asked = json.loads(body)
        self.requests.append(asked)
        self.headers.append(httpx.Headers(request.headers.raw))
        self.arrived.set()
        if self.status != 200:
            return JSONResponse({"error": self.error}, self.status, headers=self.error_headers)
        if self.body is not None:
            return Response(self.body, media_type="application/json")
        if asked.get("stream"):
            return StreamingResponse(self._stream(asked, kind), media_type="text/event-stream")
        if self.finish is not None:
            await self._wait_for_finish(request)
        pooled = {"embedding": fake_answers.embedded, "rerank": fake_answers.reranked, "score": fake_answers.scored}
        return JSONResponse(pooled[kind](asked) if kind in pooled else fake_answers.generated(asked, kind, self.text))

    async def _wait_for_finish(self, request: Request) -> None:
        assert self.finish is not None
        finish = asyncio.create_task(self.finish.wait())
        gone = asyncio.create_task(request.receive())
        _, pending = await asyncio.wait((finish, gone), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if not finish.done():
            self.cancelled.set()

    async def _stream(self, asked: dict[str, Any], kind: str) -> AsyncIterator[bytes]:
        try:
            if self.script is None:
                for piece in self.text:
                    yield event(piece, asked["model"], kind)
                yield event("", asked["model"], kind, finish="stop")
                if (asked.get("stream_options") or {}).get("include_usage"):
                    yield usage_event(asked["model"], kind)
                yield b"data: [DONE]\n\n"
                return
            while (piece := await self.script.get()) is not None:
                if piece is DIE:
                    raise ConnectionAbortedError("the fake dies here")
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


def event(text: str, model: str = "m", kind: str = "chat.completion", finish: str | None = None) -> bytes:
    """One event as vLLM writes it."""
    is_chat = kind.startswith("chat")
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
    choice.update({"delta": {"content": text}} if is_chat else {"text": text})
    name = "chat.completion.chunk" if is_chat else kind
    data = {"id": "x-1", "object": name, "created": 1, "model": model, "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def usage_event(model: str, kind: str) -> bytes:
    name = "chat.completion.chunk" if kind.startswith("chat") else kind
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    data = {"id": "x-1", "object": name, "created": 1, "model": model, "choices": [], "usage": usage}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def gateway_file(urls: Mapping[str, str | list[str]], *, limit: int = 0, **gateway: Any) -> GatewayFile:
    """A topology of those experts that have addresses, out of these; `general` is the fallback."""
    experts: dict[str, Any] = {
        "general": {"model": "registry:base/1", "description": "Everything else."},
        "support": {"model": "registry:support/1", "keywords": ["order", "refund"], "description": "Orders."},
        "mapper": {"model": "registry:mapper/1", "keywords": ["detector", "#42"]},
        "vectors": {"model": "registry:vectors/1", "task": "embed", "description": "Turns texts into vectors."},
        "judge": {"model": "registry:judge/1", "task": "score", "description": "Judges pairs of texts."},
    }
    return GatewayFile.model_validate(
        {
            "gateway": {"port": 0, "health_interval_s": 0.05, "connect_timeout_s": 2.0, **gateway},
            "router": {"name": "keyword"},
            "topology": {"experts": {name: experts[name] for name in urls}, "fallback": "general"},
            "upstreams": {
                name: [
                    {
                        "url": url,
                        "served_model": name,
                        "model": f"registry:{name}/1",
                        "lock": f"lock-{name}",
                        "limit": limit,
                    }
                    for url in ([given] if isinstance(given, str) else given)
                ]
                for name, given in urls.items()
            },
        }
    )


@dataclass
class World:
    """A gateway with three experts, and a client that talks to it."""

    experts: dict[str, FakeVllm]
    servers: dict[str, Running]
    gateway: Running
    client: httpx.AsyncClient
    registry: CollectorRegistry
    file: GatewayFile

    async def counted(self, name: str, **labels: str) -> None:
        """Wait until something has been counted."""
        while not self.metric(name, **labels):
            await self.client.get("/health")

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of what has these labels among others."""
        wanted = f"largeforge_gateway_{name}"
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == wanted and labels.items() <= sample.labels.items()
        )

    async def chat(self, text: str = "hi", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    async def kill(self, expert: str) -> None:
        """Stop an expert's server for good."""
        await self.servers.pop(expert).stop()

    async def state(self, expert: str, state: str) -> None:
        """Wait until the gateway sees an expert in a state."""
        while True:
            experts = (await self.client.get("/ready")).json()["experts"]
            if experts[expert]["state"] == state:
                return


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world() -> AsyncIterator[MakeWorld]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(names: Sequence[str] = ("general", "support", "mapper"), **gateway: Any) -> World:
            experts = {name: FakeVllm(f"I am {name}") for name in names}
            servers = {name: await serve(expert.app) for name, expert in experts.items()}
            file = gateway_file({name: server.url for name, server in servers.items()}, **gateway)
            registry = CollectorRegistry()
            running = await serve(create_app(file, registry=registry, admin=Admin(token=TOKEN)))
            client = httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30, headers=OPERATES)
            world = World(experts, servers, running, client, registry, file)
            stack.push_async_callback(_stop_all, world)
            return world

        yield make


async def _stop_all(world: World) -> None:
    await world.client.aclose()
    await asyncio.gather(world.gateway.stop(), *(server.stop() for server in world.servers.values()))


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()


@dataclass
class ThreadedFake:
    """A fake expert in a thread, for gateways that are processes."""

    fake: FakeVllm
    url: str
    server: Server
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop

    def do(self, action: Callable[[], Any]) -> None:
        self.loop.call_soon_threadsafe(action)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def threaded_fakes() -> Iterator[dict[str, ThreadedFake]]:
    fakes = {name: _start_thread(FakeVllm(f"I am {name}")) for name in ("general", "support")}
    yield fakes
    for running in fakes.values():
        running.stop()


@pytest.fixture
def start_fake() -> Iterator[Callable[..., ThreadedFake]]:
    """Start further fakes, with uvicorn's options for TLS, which are vLLM's as well."""
    fakes: list[ThreadedFake] = []

    def begin(name: str, **options: Any) -> ThreadedFake:
        fakes.append(_start_thread(FakeVllm(f"I am {name}"), **options))
        return fakes[-1]

    yield begin
    for running in fakes:
        running.stop()


def _start_thread(fake: FakeVllm, **options: Any) -> ThreadedFake:
    listener, url = listen()
    if options:
        url = url.replace("http:", "https:")
    server = Server(fake.app, **options)
    loop = asyncio.new_event_loop()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.serve(sockets=[listener]))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    server.serving.wait()
    return ThreadedFake(fake, url, server, thread, loop)


@pytest.fixture
def events() -> Any:
    """The stream vocabulary of the fake, for tests that script it."""

    class Vocabulary:
        die = DIE
        event = staticmethod(event)
        done = b"data: [DONE]\n\n"

    return Vocabulary


@pytest.fixture
def make_file() -> Callable[..., GatewayFile]:
    return gateway_file


@pytest.fixture
def serve_app() -> Callable[..., Awaitable[Running]]:
    return serve


MakeWatched = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def make_watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeWatched]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(**settings: Any) -> Watched:
            fake = FakeVllm("I am general")
            expert = await serve(fake.app)
            lines: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
            file = gateway_file({"general": expert.url}, **settings)
            app = create_app(file, registry=CollectorRegistry(), log=lambda _, fields: lines.put_nowait(fields))
            running = await serve(app)
            stack.push_async_callback(expert.stop)
            stack.push_async_callback(running.stop)
            watched = Watched(running, fake, lines)
            answer = proxy.Proxy.answer

            async def noted(self: proxy.Proxy, link: Any) -> None:
                watched.ways.append(type(link).__name__)
                await answer(self, link)

            monkeypatch.setattr(proxy.Proxy, "answer", noted)
            return watched

        yield make


@pytest.fixture
async def watched(make_watched: MakeWatched) -> Watched:
    return await make_watched()


@pytest.fixture
async def make_rolled() -> AsyncIterator[Any]:
    """Start gateways whose one expert has a canary."""
    from tests.gateway import canaries  # which needs this module

    async with canaries.gateways() as make:
        yield make


@pytest.fixture
async def rolled(make_rolled: Any) -> Any:
    return await make_rolled()
