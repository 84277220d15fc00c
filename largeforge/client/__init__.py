"""Ask a LargeForge gateway: `RouterClient` and, for asyncio, `AsyncRouterClient`.

    with RouterClient("http://127.0.0.1:8080") as client:
        answer = client.generate(messages="Where is my order?", max_tokens=64)
        print(answer.expert, answer.text)

`embeddings` and `rerank` ask experts that do this. For tools, images and everything else of the OpenAI API, use the
official client with `base_url=".../v1"`; this one adds the routing facts of an answer, retries, other gateways to ask,
and a deadline that the gateway keeps, too. `Operator` operates a gateway.
"""

from largeforge.client.answer import Answer, RequestFailed
from largeforge.client.asynchronous import AsyncRouterClient, AsyncStream
from largeforge.client.operator import Operator
from largeforge.client.pooling import Embeddings, Ranked, Ranking
from largeforge.client.retry import Retry
from largeforge.client.synchronous import RouterClient, Stream

__all__ = [
    "Answer", "AsyncRouterClient", "AsyncStream", "Embeddings", "Operator", "Ranked", "Ranking", "RequestFailed",
    "Retry", "RouterClient", "Stream",
]  # fmt: skip
