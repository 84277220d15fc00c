"""Vectors of texts from a server that speaks OpenAI's `/v1/embeddings`, such as vLLM with a pooling model.

The vectors of requests are kept in a cache of bounded size, by a hash of the text: no text is kept. Requests for the
same text at one time are one request to the server. After a failure the server is left alone for a moment, so that a
dead one costs each request nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from largeforge.gateway.routing import ServiceFailed

if TYPE_CHECKING:
    import numpy as np

    from largeforge.gateway.routing import Services

    Vector = np.ndarray[Any, Any]

PATH = "/v1/embeddings"
LEFT_ALONE_S = 1.0
"""Time after a failure in which the server is not asked."""
BATCH = 64
"""Texts of one request when many are asked for."""


class Embeddings:
    """One embedding model behind one server: an expert's, by name, or one by address."""

    def __init__(
        self, server: str, services: Services, *, model: str, timeout_s: float, cache_size: int, count_as: str
    ):
        self._server, self._services = server, services
        self._model = model
        self._timeout_s = timeout_s
        self._cache_size = cache_size
        self._count_as = count_as
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Vector]] = {}
        self._failed_at: float | None = None
        self._failed_by = ""

    def cached(self, text: str) -> Vector | None:
        """Return a text's vector when it is in the cache."""
        key = _key(text)
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            self._services.count(self._count_as, "cached")
        return found

    async def of(self, text: str) -> Vector:
        """Return a text's vector, of length 1; raises ServiceFailed."""
        key = _key(text)
        if key in self._cache:
            return self._cache[key]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._fetch(key, text))
            asking.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(asking)

    async def of_many(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of many texts, kept beyond the life of this object; raises ServiceFailed."""
        kept = self._services.kept
        names = {text: (PATH, self._server, self._model, _key(text)) for text in texts}
        missing = [text for text in dict.fromkeys(texts) if names[text] not in kept]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            for text, vector in zip(batch, await self._ask(batch), strict=True):
                kept[names[text]] = vector
        return [kept[names[text]] for text in texts]

    async def _fetch(self, key: bytes, text: str) -> Vector:
        (vector,) = await self._ask([text])
        self._cache[key] = vector
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return vector

    async def _ask(self, texts: Sequence[str]) -> list[Vector]:
        services = self._services
        if self._failed_at is not None and services.clock() - self._failed_at < LEFT_ALONE_S:
            services.count(self._count_as, "left-alone")
            raise ServiceFailed(self._failed_by)
        try:
            async with asyncio.timeout(self._timeout_s):
                body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
                vectors = _vectors(await services.post_json(self._server, PATH, body), len(texts))
        except TimeoutError:
            raise self._failed("timeout") from None
        except ServiceFailed as failure:
            raise self._failed(str(failure)) from failure
        self._failed_at = None
        services.count(self._count_as, "asked")
        return vectors

    def _failed(self, why: str) -> ServiceFailed:
        self._failed_at, self._failed_by = self._services.clock(), why
        self._services.count(self._count_as, "failed")
        return ServiceFailed(why)

    def _asked(self, key: bytes, done: asyncio.Task[Vector]) -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # seen here, should everybody who waited for it be gone


def _vectors(answer: Any, count: int) -> list[Vector]:
    """Return the vectors of an answer, each of length 1; raises ServiceFailed where it is none."""
    import numpy as np

    try:
        ordered = sorted(answer["data"], key=lambda entry: entry["index"])
        vectors = np.asarray([entry["embedding"] for entry in ordered], dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    except (KeyError, TypeError, ValueError, np.exceptions.AxisError):
        raise ServiceFailed("no-embeddings") from None
    if len(vectors) != count or not np.isfinite(lengths).all() or not lengths.all():
        raise ServiceFailed("no-embeddings")
    return list(vectors / lengths)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
