"""Requests, topologies and services for routers on their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from largeforge.gateway.request import Request, parse
from largeforge.gateway.routing import ServiceFailed, Services
from largeforge.recipe.schema import Topology


def asked(text: str = "", *, headers: Mapping[str, str] | None = None, **body: Any) -> Request:
    """A chat with one user message, unless the body says otherwise."""
    given = {"messages": [{"role": "user", "content": text}], **body}
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return parse(orjson.dumps(given), "chat", pairs)


def topology(*names: str, **fields: Any) -> Topology:
    """Experts by name, the first of them the fallback; `experts` gives some of them more fields."""
    more = fields.pop("experts", {})
    experts = {name: {"model": f"registry:{name}/1", **more.get(name, {})} for name in names}
    return Topology.model_validate({"experts": experts, "fallback": names[0], **fields})


@dataclass
class FakeEmbedder:
    """A server of embeddings that knows words: a text's vector counts how often it has each."""

    words: tuple[str, ...] = ("order", "detector", "hello")
    failure: ServiceFailed | BaseException | None = None
    answer: Any = None
    """When set, this in place of embeddings."""
    asked: list[list[str]] = field(default_factory=list)
    bodies: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    async def post_json(self, server: str, path: str, body: Mapping[str, Any]) -> Any:
        self.bodies.append((server, path, body))
        self.asked.append(list(body["input"]))
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            return self.answer
        vectors = [[1.0 * text.lower().count(word) + 0.01 for word in self.words] for text in body["input"]]
        data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
        return {"data": data[::-1]}


@dataclass
class Counted:
    """Services with a clock that stands still and a count of what they were told."""

    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)
    now: float = 0.0
    places: list[float] = field(default_factory=list)
    """What `random` gives, first to last."""
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return Services(
            post_json=self.embedder.post_json, count=self._count, clock=lambda: self.now, random=self._random,
        )  # fmt: skip

    def _count(self, router: str, outcome: str) -> None:
        self.counts[router, outcome] = self.counts.get((router, outcome), 0) + 1

    def _random(self) -> float:
        return self.places.pop(0)
