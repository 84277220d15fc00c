"""The official `openai` client for Python against the gateway: answers parsed, errors typed, leaving noticed.

Files and batches of it are in `bulk/`, streams that break in `test_streaming.py`.
"""

from __future__ import annotations

import asyncio

import openai
import pytest
from pydantic import BaseModel

CHAT = [{"role": "user", "content": "Where is my order?"}]
TOOLS = [{"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}]


class Place(BaseModel):
    city: str


@pytest.fixture
async def world(make_world):
    return await make_world(("general", "support", "vectors"))


@pytest.fixture
async def client(world):
    async with openai.AsyncOpenAI(base_url=world.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        yield client


async def test_chat_and_stream(client):
    answer = await client.chat.completions.with_raw_response.create(model="auto", messages=CHAT)
    assert answer.headers["x-largeforge-expert"] == "support"
    assert answer.parse().choices[0].message.content == "I am support"
    async with client.chat.completions.stream(model="auto", messages=CHAT) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "I am support"


async def test_tools_and_structured_output(client, world):
    answer = await client.chat.completions.create(model="general", messages=CHAT, tools=TOOLS, tool_choice="auto")
    assert answer.choices[0].message.tool_calls[0].function.name == "track"
    parsed = await client.chat.completions.parse(model="general", messages=CHAT, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="I am general")
    schema = world.experts["general"].requests[1]["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["city"]


async def test_embeddings_as_the_client_asks_for_them(client, world):
    answer = await client.embeddings.create(model="vectors", input=["four", "seven77"], dimensions=2)
    assert [item.embedding for item in answer.data] == [[4.0, 1.0], [7.0, 1.0]]
    assert world.experts["vectors"].requests[0]["encoding_format"] == "base64"


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (openai.BadRequestError, lambda client: client.chat.completions.create(model="auto", messages=[])),
        (openai.BadRequestError, lambda client: client.embeddings.create(model="general", input="x")),
        (openai.NotFoundError, lambda client: client.embeddings.create(model="nobody", input="x")),
        (openai.NotFoundError, lambda client: client.batches.retrieve("batch_0")),
        (openai.NotFoundError, lambda client: client.get("/nothing", cast_to=object)),
    ],
)
async def test_errors_have_types(client, error, ask):
    with pytest.raises(error) as caught:
        await ask(client)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code
    assert caught.value.request_id


async def test_errors_of_the_expert_have_types(client, world):
    general = world.experts["general"]
    for status, error in ((422, openai.UnprocessableEntityError), (429, openai.RateLimitError)):
        general.status = status
        with pytest.raises(error):
            await client.chat.completions.create(model="general", messages=CHAT)


async def test_leaving_a_stream_reaches_the_expert(client, world, events):
    script = world.experts["support"].script = asyncio.Queue()
    script.put_nowait(events.event("one"))
    stream = await client.chat.completions.create(model="support", messages=CHAT, stream=True)
    assert (await anext(aiter(stream))).choices[0].delta.content == "one"
    await stream.close()
    await world.experts["support"].cancelled.wait()


async def test_cancelling_a_call_reaches_the_expert(client, world):
    expert = world.experts["support"]
    expert.finish = asyncio.Event()
    call = asyncio.create_task(client.chat.completions.create(model="support", messages=CHAT))
    await asyncio.to_thread(expert.arrived.wait)
    call.cancel()
    await expert.cancelled.wait()
