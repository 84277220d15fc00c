"""What a decision of each router costs, with few and many experts, short and long messages; how often it is right.

Costs are of this process alone, on one core: the median of several rounds over the same requests. `embedding` asks a
stand-in that answers at once, so that what is measured is the router: its cache, its vectors, its comparison. Accuracy
is on the quickstart's held-out requests, as `python -m largeforge +recipe=route_quickstart` measures it.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.gateway.examples import example, routed
from largeforge.gateway.learning import located, train
from largeforge.gateway.request import Request
from largeforge.gateway.routing import Router, Services, build, routing_of
from largeforge.gateway.services import Servers
from largeforge.recipe import extensions
from largeforge.recipe.schema import Topology
from scripts.tables import columns

if TYPE_CHECKING:
    from largeforge.recipe.base import Extension

SUMMARY = "what a decision of each router costs, and how often it is right"

DATA = Path(__file__).parents[2] / "recipes" / "data" / "quickstart"
FILES = {
    "train": {"general": "general", "mapper": "mapper_train", "support": "support_train"},
    "heldout": {name: f"{name}_heldout" for name in ("general", "mapper", "support")},
}
DIMENSIONS = 384


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 20, 200], help="numbers of experts (%(default)s)")
    parser.add_argument("--chars", type=int, nargs="+", default=[60, 2000, 32000], help="lengths of a message")
    parser.add_argument("--embeddings", metavar="URL", help="a server of embeddings whose accuracy is measured, too")
    parser.add_argument("--model", default="", help="what that server calls its model")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of which the median counts (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print a table of costs and one of accuracies."""
    rows = []
    for name in ("weighted", "rules", "keyword", "classifier", "embedding, cached", "embedding"):
        for chars in options.chars:
            costs = [_cost(name, experts, chars, options.rounds) for experts in options.experts]
            rows.append([name, f"{chars}", *(f"{cost:.1f}" for cost in costs)])
    print("Microseconds of a decision, by the number of experts\n")
    print(columns([["router", "characters", *map(str, options.experts)], *rows]))
    print("\nShare of the quickstart's 747 held-out requests that go to their expert\n")
    print(columns([["router", "right", "decided"], *([name, *_accuracy(name)] for name in ("keyword", "classifier"))]))
    if options.embeddings:
        rows = [
            [f"embedding, {count} examples, {match}", *asyncio.run(_embedded(options, match, count))]
            for count in (10, 50)
            for match in ("nearest", "mean")
        ]
        print(columns([["router", "right", "decided"], *rows]))
    return 0


async def _embedded(options: argparse.Namespace, match: str, count: int) -> list[str]:
    """Return the accuracy of an embedding model that is served, by some examples of each expert."""
    draw, drawn = random.Random(0), {}
    for name, file in FILES["train"].items():
        rows = [json.loads(line) for line in (DATA / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
        drawn[name] = [row["messages"][0]["content"] for row in draw.sample(rows, count)]
    experts = {name: {"model": "path:x", "examples": examples} for name, examples in drawn.items()}
    topology = Topology.model_validate({"experts": experts, "fallback": "general"})
    given = {"url": options.embeddings, "model": options.model, "match": match, "min_similarity": 0, "timeout_s": 60}
    config = extensions.load("router", "embedding").Config.model_validate({**given, "max_chars": 300})
    servers = Servers({}, connect_timeout_s=5)
    routing = routing_of(config, topology, Services(post_json=servers.post_json))
    await routing.start()
    heldout = _rows("heldout")
    routes = await routed(routing, [request for request, _ in heldout], progress=lambda done, total: None)
    servers.close()
    right = [route.requested == wanted for route, (_, wanted) in zip(routes, heldout, strict=True)]
    decided = [not route.reason.startswith("default") for route in routes]
    return [f"{sum(right) / len(right):.3f}", f"{sum(decided) / len(decided):.3f}"]


def _cost(name: str, num_experts: int, chars: int, rounds: int) -> float:
    """Return the microseconds of one decision."""
    return asyncio.run(_measured(name, num_experts, chars, rounds))


async def _measured(name: str, num_experts: int, chars: int, rounds: int) -> float:
    draw = random.Random(0)
    topology = _topology(num_experts, draw)
    with tempfile.TemporaryDirectory() as folder:
        config = _config(name.partition(",")[0], num_experts)
        examples = [
            (_request(f"{word} and {word} of expert {place}"), f"e{place}")
            for place in range(num_experts)
            for word in topology.experts[f"e{place}"].keywords
        ]
        train(config, examples, Path(folder), seed=0, progress=lambda done, total, loss: None)
        router = build(located(config, Path(folder)), topology, Services(post_json=_vectors))
        await router.start()
        texts = [_text(topology, chars, draw) for _ in range(200)]
        found = []
        for number in range(rounds + 1):
            fresh = "" if "cached" in name else f"{number} "
            requests = [_request(fresh + text) for text in texts]
            started = time.perf_counter()
            for request in requests:
                opinion = router.choose(request)
                if inspect.isawaitable(opinion):
                    await opinion
            found.append((time.perf_counter() - started) / len(requests) * 1e6)
        await router.stop()
    return statistics.median(found[1:])


def _topology(num_experts: int, draw: random.Random) -> Topology:
    def word() -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=8))

    experts = {
        f"e{place}": {
            "model": "path:x",
            "keywords": [word() for _ in range(10)],
            "examples": [word() for _ in range(5)],
        }
        for place in range(num_experts)
    }
    return Topology.model_validate({"experts": experts, "fallback": "e0"})


def _config(name: str, num_experts: int) -> Extension:
    rules = [
        {"expert": f"e{place}", "when": {"text": rf"(?i)\bword{place}\b", "min_chars": place % 7}}
        for place in range(num_experts)
    ]
    given: dict[str, dict[str, Any]] = {
        "rules": {"rules": rules}, "embedding": {"url": "http://stand-in", "model": "x", "min_similarity": -1.0},
        "classifier": {"epochs": 2},
    }  # fmt: skip
    config: Extension = extensions.load("router", name).Config.model_validate(given.get(name, {}))
    return config


def _text(topology: Topology, chars: int, draw: random.Random) -> str:
    """Return a message of plain words with a keyword of an expert in its midst."""
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(chars // 6 + 1)]
    expert = draw.choice(list(topology.experts.values()))
    words.insert(len(words) // 2, draw.choice(expert.keywords))
    return " ".join(words)[:chars]


def _request(text: str) -> Request:
    return Request("chat", "auto", {"messages": [{"role": "user", "content": text}]}, b"")


async def _vectors(server: str, path: str, body: Mapping[str, Any]) -> Any:
    """Answer as a server of embeddings does, with made-up vectors."""
    made = [[random.random() for _ in range(DIMENSIONS)] for _ in body["input"]]
    return {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(made)]}


def _accuracy(name: str) -> list[str]:
    topology = Topology.model_validate(_quickstart())
    heldout = _rows("heldout")
    with tempfile.TemporaryDirectory() as folder:
        config: Extension = extensions.load("router", name).Config()
        train(config, _rows("train"), Path(folder), seed=42, progress=lambda done, total, loss: None)
        router = build(located(config, Path(folder)), topology, Services())
        chosen = [_chosen(router, request) for request, _ in heldout]
    right = [(got or "general") == wanted for got, (_, wanted) in zip(chosen, heldout, strict=True)]
    return [f"{sum(right) / len(right):.3f}", f"{sum(map(bool, chosen)) / len(chosen):.3f}"]


def _chosen(router: Router, request: Request) -> str:
    return str(getattr(router.choose(request), "expert", ""))


def _rows(part: str) -> list[tuple[Request, str]]:
    found = []
    for name, file in FILES[part].items():
        lines = (DATA / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
        found += [example(json.loads(line), expert=name) for line in lines]
    return found


def _quickstart() -> dict[str, Any]:
    import yaml

    path = Path(__file__).parents[2] / "conf" / "topology" / "quickstart.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found
