"""Routing by embeddings: what is closest, what the cache saves, and what happens when the server fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from largeforge.gateway.routers.embedding import Config, check
from largeforge.gateway.routing import Routing, ServiceFailed, routing_of
from tests.gateway.routers.asking import Counted, FakeEmbedder, asked, topology

EXPERTS = topology(
    "general", "support", "mapper", "embedder",
    experts={
        "embedder": {"task": "embed", "description": "Vectors of texts"},
        "general": {"description": "hello"},
        "support": {"description": "an order", "examples": ["order order"]},
        "mapper": {"examples": ["detector", "order detector"]},
    },
)  # fmt: skip


async def started(counted: Counted, **given: Any) -> Routing:
    config = Config.model_validate({"expert": "embedder", **given})
    assert not list(check(config, EXPERTS))
    routing = routing_of(config, EXPERTS, counted.services)
    await routing.start()
    return routing


@pytest.mark.parametrize(
    ("text", "expert", "reason"),
    [
        ("order", "support", "embedding:1.00"),
        ("detector", "mapper", "embedding:1.00"),
        ("hello there", "general", "embedding:1.00"),
        ("detector order", "mapper", "embedding:1.00"),
        ("", "general", "default"),
    ],
)
async def test_the_closest_expert_answers(text, expert, reason):
    routing = await started(Counted())
    route = await routing.route(asked(text))
    assert (route.expert, route.reason) == (expert, reason)


async def test_mean_compares_with_all_texts_of_an_expert_at_once():
    routing = await started(Counted(), match="mean")
    assert (await routing.route(asked("detector"))).score == pytest.approx(0.93, abs=0.01)


async def test_descriptions_can_be_left_out():
    config = Config(expert="embedder", use_descriptions=False, min_similarity=-1)
    counted = Counted()
    routing = routing_of(config, EXPERTS, counted.services)
    await routing.start()
    assert counted.embedder.asked == [["order order", "detector", "order detector"]]
    assert (await routing.route(asked("hello"))).expert in ("support", "mapper")


async def test_what_is_close_to_nothing_has_no_opinion():
    routing = await started(
        Counted(embedder=FakeEmbedder(words=("order", "detector", "hello", "x"))), min_similarity=0.9
    )
    assert (await routing.route(asked("x"))).reason == "default"


async def test_another_server_is_asked_by_its_address_and_the_name_of_its_model():
    counted = Counted()
    await started(counted, expert="", url="http://embedder:8000", model="mini")
    server, _, body = counted.embedder.bodies[0]
    assert (server, body["model"]) == ("http://embedder:8000", "mini")


async def test_prefixes_and_the_start_of_a_long_message_are_what_is_embedded():
    counted = Counted()
    routing = await started(counted, request_prefix="query: ", expert_prefix="passage: ", max_chars=10)
    await routing.route(asked("order" + "x" * 100))
    assert counted.embedder.asked[0][0] == "passage: hello"
    assert counted.embedder.asked[1] == ["query: orderxxxxx"]
    server, path, _ = counted.embedder.bodies[1]
    assert (server, path) == ("embedder", "/v1/embeddings")


async def test_a_text_is_asked_once_and_the_cache_is_bounded():
    counted = Counted()
    routing = await started(counted, cache_size=2)
    first = [await routing.route(asked(text)) for text in ("order", "order", "detector", "hello", "order")]
    assert counted.embedder.asked[1:] == [["order"], ["detector"], ["hello"], ["order"]]
    assert counted.counts["embedding", "cached"] == 1
    assert first[0] == first[1] == first[4]


async def test_the_same_text_at_one_time_is_one_question():
    counted = Counted()
    routing = await started(counted)
    await asyncio.gather(*(routing.route(asked("order")) for _ in range(10)))
    assert counted.embedder.asked[1:] == [["order"]]


async def test_a_client_that_leaves_does_not_take_the_answer_from_the_others():
    counted = Counted()
    routing = await started(counted)
    leaving, staying = (asyncio.create_task(routing.route(asked("order"))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).expert == "support"


@pytest.mark.parametrize(
    ("failure", "answer", "reason"),
    [
        (ServiceFailed("refused"), None, "refused"),
        (ServiceFailed("status-503"), None, "status-503"),
        (TimeoutError(), None, "timeout"),
        (None, {"data": []}, "no-embeddings"),
        (None, {"data": [{"index": 0, "embedding": ["x"]}]}, "no-embeddings"),
        (None, {"data": [{"index": 0, "embedding": [0.0, 0.0, 0.0]}]}, "no-embeddings"),
        (None, ["nonsense"], "no-embeddings"),
    ],
)
async def test_a_failure_is_no_opinion_is_said_and_counted(failure, answer, reason):
    counted = Counted()
    routing = await started(counted)
    counted.embedder.failure, counted.embedder.answer = failure, answer
    route = await routing.route(asked("order"))
    assert (route.expert, route.reason) == ("general", f"default;failed:embedding:{reason}")
    assert counted.counts["embedding", "failed"] == 1
    await routing.route(asked("detector"))
    assert len(counted.embedder.asked) == 2  # it is left alone for a moment
    assert counted.counts["embedding", "left-alone"] == 1
    counted.embedder.failure = counted.embedder.answer = None
    counted.now += 2
    assert (await routing.route(asked("order"))).expert == "support"


async def test_a_model_that_changed_under_way_has_no_opinion():
    counted = Counted()
    routing = await started(counted)
    counted.embedder.words = ("order", "detector")
    assert (await routing.route(asked("order"))).reason == "default"


async def test_a_server_that_comes_late_is_asked_again():
    counted = Counted()
    counted.embedder.failure = ServiceFailed("refused")
    routing = await started(counted)
    route = await routing.route(asked("order"))
    assert route.reason == "default;failed:embedding:starting"
    counted.embedder.failure = None
    counted.now += 2
    await routing.route(asked("order"))
    await routing.start()
    assert (await routing.route(asked("order"))).reason == "embedding:1.00"


async def test_vectors_of_experts_are_kept_from_one_topology_to_the_next():
    counted = Counted()
    services = counted.services
    config = Config(url="http://embedder", model="mini")
    for _ in range(2):
        await routing_of(config, EXPERTS, services).start()
    assert len(counted.embedder.asked) == 1


async def test_explained_with_the_similarity_of_each_expert():
    said = await (await started(Counted())).explain(asked("order"))
    assert list(said["scores"]) == ["support", "mapper", "general"]
    assert said["scores"]["support"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "expert"),
        ({"url": "http://x", "model": "m", "expert": "embedder"}, "expert"),
        ({"expert": "nobody"}, "expert"),
        ({"expert": "mapper"}, "expert"),
        ({"url": "http://x"}, "model"),
    ],
)
def test_settings_that_make_no_sense_beside_a_topology(given, key):
    assert [problem.key for problem in check(Config.model_validate(given), EXPERTS)] == [key]


def test_experts_without_a_word_about_them_are_refused():
    config = Config(url="http://x", model="m")
    assert [problem.key for problem in check(config, topology("a", "b"))] == ["use_descriptions"]
