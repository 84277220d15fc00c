"""How fast a model answers behind vLLM: latency, time to first token, and tokens a second, at a given concurrency.

Held-out prompts are asked again and again by as many clients as the concurrency says, each with the next one as soon as
it has its answer. By default every answer has the same number of tokens, so that two models do the same work; what is
measured is the server on this machine, without a gateway or a network, and with whatever else the machine does.

Percentiles have bootstrap intervals like any other metric, and are compared request by request with those of a
baseline that answered the same prompts. `tokens_per_s` is all tokens over the time that all requests took together.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from largeforge.errors import StageError
from largeforge.judging.series import Series
from largeforge.recipe.base import Extension
from largeforge.recipe.evaluation import asked

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Endpoint, Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("latency_p50_ms", "latency_p95_ms", "ttft_p95_ms", "tokens_per_s")
JUDGES = "server"

OVER = "requests"
"""What the rows of these metrics are."""


class Config(Extension):
    """Settings of the measurement."""

    name: Literal["latency"] = "latency"
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at any time."""
    num_requests: int = Field(default=100, ge=1)
    """Requests that are measured; prompts are asked again where there are fewer."""
    num_warmup: int = Field(default=8, ge=0)
    """Requests before, which are not measured."""
    max_new_tokens: int = Field(default=64, gt=0)
    """Longest answer in tokens."""
    ignore_eos: bool = True
    """Whether every answer has `max_new_tokens`, however soon the model would end it."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest wait for one answer."""


@dataclass(frozen=True)
class Timed:
    """One request as its client saw it."""

    seconds: float
    first_token_s: float
    tokens: int


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return the metrics; a request that fails is an error of the evaluation, and no measurement."""
    endpoint, rows = subject.endpoint, subject.rows
    prompts = [
        subject.render(asked(row), generation_prompt=True, tools=row.get("tools"))
        for row in rows[: config.num_requests + config.num_warmup]
    ]
    total = config.num_warmup + config.num_requests
    with ThreadPoolExecutor(config.concurrency) as pool:
        asking = (prompts[place % len(prompts)] for place in range(total))
        warmup = [pool.submit(ask, config, endpoint, next(asking)) for _ in range(config.num_warmup)]
        for future in warmup:
            future.result()
        started = time.perf_counter()
        timed = list(_told(subject, pool.map(lambda ids: ask(config, endpoint, ids), asking), config.num_requests))
        seconds = time.perf_counter() - started
    tokens = sum(one.tokens for one in timed)
    subject.note(f"{len(timed)} requests, {config.concurrency} at once, {tokens} tokens in {seconds:.1f} s")
    return metrics_of(timed, seconds)


def metrics_of(timed: list[Timed], seconds: float) -> dict[str, Series]:
    """Return the metrics of requests that took so long all together."""
    latencies, firsts = [1000 * one.seconds for one in timed], [1000 * one.first_token_s for one in timed]
    durations = [one.seconds for one in timed]
    at_once = sum(durations) / seconds  # by Little's law
    rates = [at_once * one.tokens / one.seconds for one in timed]
    return {
        "latency_p50_ms": Series(latencies, kind="p50", over=OVER),
        "latency_p95_ms": Series(latencies, kind="p95", over=OVER),
        "ttft_p95_ms": Series(firsts, kind="p95", over=OVER),
        "tokens_per_s": Series(rates, durations, over=OVER),
    }


def ask(config: Config, endpoint: Endpoint, ids: list[int]) -> Timed:
    """Send one prompt and read its answer as it comes.

    Raises StageError when the server does not answer, or refuses.
    """
    address = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=config.timeout_s)
    body = {
        "model": endpoint.model, "prompt": ids, "max_tokens": config.max_new_tokens, "temperature": 0.0,
        "ignore_eos": config.ignore_eos, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    try:
        started = time.perf_counter()
        connection.request(
            "POST", f"{address.path}/completions", json.dumps(body), {"content-type": "application/json"}
        )
        response = connection.getresponse()
        if response.status != 200:
            said = response.read()[:300].decode(errors="replace")
            raise StageError(f"{endpoint.model}: the server refused a prompt of {len(ids)} tokens: {said}")
        first, tokens = 0.0, 0
        for event in _events(response):
            if event.get("choices") and not first:
                first = time.perf_counter() - started
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        return Timed(time.perf_counter() - started, first, tokens)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StageError(f"{endpoint.model}: the server did not answer: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream as they come."""
    for line in response:
        if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
            yield json.loads(data)


def _told(subject: Subject, timed: Iterator[Timed], total: int) -> Iterator[Timed]:
    for done, one in enumerate(timed, start=1):
        if done % 10 == 0 or done == total:
            subject.progress(done, total)
        yield one
