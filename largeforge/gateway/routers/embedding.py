"""Choose the expert whose description or examples are closest to the request, by an embedding model.

The model is an expert of the topology that embeds, or any server with OpenAI's `/v1/embeddings`. The experts' vectors
are computed once, at the start; a request costs one question to the server unless its text is in the cache. When the
server fails there is no opinion, the reason says so, and it is counted: routing goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from largeforge.errors import Problem, listed, nearest
from largeforge.gateway.embeddings import Embeddings
from largeforge.gateway.routing import Abstained, Decision, Opinion, Router, ServiceFailed
from largeforge.recipe.base import Extension, Name

if TYPE_CHECKING:
    import numpy as np

    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology

    Array = np.ndarray[Any, Any]


class Config(Extension):
    """Route by what is closest in the eyes of an embedding model."""

    name: Literal["embedding"] = "embedding"
    expert: Name | Literal[""] = ""
    """Expert of the topology that embeds; it is served as the others are."""
    url: Annotated[str, StringConstraints(pattern=r"^$|^https?://[^\s/?#@]+$")] = ""
    """Address of another server with `/v1/embeddings`, without `/v1`, in place of an expert."""
    model: str = ""
    """What that other server calls the model."""
    match: Literal["nearest", "mean"] = "nearest"
    """What a request is compared with: the nearest of an expert's texts, or their mean."""
    use_descriptions: bool = True
    """Whether the descriptions of experts are compared with, beside their examples."""
    min_similarity: float = Field(default=0.3, ge=-1, le=1)
    """Least cosine with which it has an opinion."""
    request_prefix: str = ""
    """Put before requests, as some models want it: `query: `."""
    expert_prefix: str = ""
    """Put before descriptions and examples, as some models want it: `passage: `."""
    max_chars: int = Field(default=1000, gt=0)
    """Characters that are embedded, of the start of a message; what a model cannot read it refuses."""
    timeout_s: float = Field(default=0.5, gt=0)
    """Longest that a request waits for the server."""
    start_timeout_s: float = Field(default=30.0, gt=0)
    """Longest that the vectors of experts are waited for at the start."""
    cache_size: int = Field(default=4096, gt=0)
    """Most vectors of requests that are kept; one of 1,024 numbers takes 4 KB."""


class EmbeddingRouter(Router):
    """The texts of experts, and their vectors once the server has given them."""

    def __init__(self, config: Config, topology: Topology, services: Services):
        self._config = config
        server = config.expert or config.url
        options = {"model": config.model, "cache_size": config.cache_size, "count_as": "embedding"}
        self._requests = Embeddings(server, services, timeout_s=config.timeout_s, **options)  # type: ignore[arg-type]
        self._texts = Embeddings(server, services, timeout_s=config.start_timeout_s, **options)  # type: ignore[arg-type]
        self._experts: list[str] = []
        self._of = list(_texts(config, topology).items())
        self._matrix: Array | None = None
        self._starts: list[int] = []
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Get the vectors of all experts; where that fails, requests try it again."""
        self._begin()
        if self._starting is not None:
            await asyncio.wait([self._starting], timeout=self._config.start_timeout_s)

    async def stop(self) -> None:
        """Wait for no vectors any more."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])

    def choose(self, request: Request) -> Opinion | Awaitable[Opinion]:
        """Return the closest expert; no opinion on a request without text."""
        if not request.text.strip():
            return None
        text = self._text(request)
        if self._matrix is not None and (vector := self._requests.cached(text)) is not None:
            return self._closest(vector)
        return self._asked(text)

    def scores(self, request: Request) -> Awaitable[dict[str, float]]:
        """Return how close each expert is, as a cosine."""
        return self._all(self._text(request))

    async def _all(self, text: str) -> dict[str, float]:
        try:
            vector = await self._requests.of(text)
        except ServiceFailed:
            return {}
        if self._matrix is None:
            return {}
        return {name: float(cosine) for name, cosine in zip(self._experts, self._cosines(vector), strict=True)}

    async def _asked(self, text: str) -> Opinion:
        if self._matrix is None:
            self._begin()
            return Abstained("failed:embedding:starting")
        try:
            return self._closest(await self._requests.of(text))
        except ServiceFailed as failure:
            return Abstained(f"failed:embedding:{failure}")

    def _closest(self, vector: Array) -> Decision | None:
        cosines = self._cosines(vector)
        best = int(cosines.argmax())
        score = min(1.0, float(cosines[best]))
        if score < self._config.min_similarity:
            return None
        return Decision(self._experts[best], f"embedding:{score:.2f}", max(score, 0.0))

    def _cosines(self, vector: Array) -> Array:
        """Return the cosine of each expert's nearest text."""
        import numpy as np

        assert self._matrix is not None
        if vector.shape != self._matrix.shape[1:]:
            return np.full(len(self._experts), -1.0)
        found: Array = np.maximum.reduceat(self._matrix @ vector, self._starts)
        return found

    def _begin(self) -> None:
        """Ask for the vectors of experts unless they are here, or asked for already."""
        if self._matrix is None and self._starting is None:
            self._starting = asyncio.create_task(self._load())

    async def _load(self) -> None:
        import numpy as np

        prefix, most = self._config.expert_prefix, self._config.max_chars
        try:
            texts = [f"{prefix}{text[:most]}" for _, texts in self._of for text in texts]
            vectors = np.asarray(await self._texts.of_many(texts))
        except (ServiceFailed, ValueError):
            return
        finally:
            self._starting = None
        rows: list[Array] = []
        starts, place = [], 0
        for _, texts in self._of:
            own = vectors[place : place + len(texts)]
            starts.append(len(rows))
            rows += [_mean(own)] if self._config.match == "mean" else list(own)
            place += len(texts)
        self._experts, self._starts = [name for name, _ in self._of], starts
        self._matrix = np.ascontiguousarray(rows)

    def _text(self, request: Request) -> str:
        return f"{self._config.request_prefix}{request.text[: self._config.max_chars]}"


def build(config: Config, topology: Topology, services: Services) -> EmbeddingRouter:
    """Return the router for a topology."""
    return EmbeddingRouter(config, topology, services)


def check(config: Config, topology: Topology) -> Iterator[Problem]:
    """Yield what is wrong with the settings beside a topology, with keys below the router."""
    experts = topology.experts
    if bool(config.expert) == bool(config.url):
        yield Problem("expert", "is the expert that embeds; or else set url to another server: one of the two.")
    elif config.expert and config.expert not in experts:
        rule = f"must be an expert of the topology: {listed(experts)}."
        yield Problem("expert", rule, nearest=nearest(config.expert, experts))
    elif config.expert and experts[config.expert].task != "embed":
        rule = f"expert {config.expert} does not embed: set topology.experts.{config.expert}.task=embed."
        yield Problem("expert", rule)
    if config.url and not config.model:
        yield Problem("model", "is required with url: what that server calls the model.", given="''")
    if len(_texts(config, topology)) < 2:
        rule = "have something to compare with for fewer than two experts: give them a description or examples."
        yield Problem("use_descriptions", f"the experts {rule}")


def _texts(config: Config, topology: Topology) -> dict[str, list[str]]:
    """Return what each expert that writes answers is compared by; those without anything are left out."""
    found = {
        name: [*([expert.description] if config.use_descriptions and expert.description else []), *expert.examples]
        for name, expert in topology.experts.items()
        if expert.task == "generate"
    }
    return {name: texts for name, texts in found.items() if texts}


def _mean(vectors: Array) -> Array:
    import numpy as np

    mean = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    found: Array = mean / length if length else mean
    return found
