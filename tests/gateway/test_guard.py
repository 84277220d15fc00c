"""A canary that is surely bad is taken out by the gateway itself when no controller looks after it, and only then."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from largeforge.gateway import guard
from largeforge.gateway.admin.service import Admin
from largeforge.gateway.guard import judged_by
from largeforge.recipe.sections.rollouts import Analysis
from tests.gateway import fake_answers
from tests.gateway.conftest import TOKEN
from tests.gateway.test_canary_shadows import FORMAT, says
from tests.gateway.test_rollouts import rollout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.canaries import MakeRolled, Rolled


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.05)


async def ask_until_guarded(rolled: Rolled, most: int, **body: Any) -> tuple[int, dict[str, Any]]:
    """Ask until the canary is taken out; return how many requests it got, and the state."""
    for _ in range(most // 10):
        answers = await asyncio.gather(*(rolled.ask(**body) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        if (state := await rolled.state())["guarded"]:
            break
    return len(rolled.canary.requests), state


async def begin(rolled: Rolled, **patch: Any) -> None:
    """Set shares, and let the guard see where counting begins."""
    await rolled.set(**patch)
    await asyncio.sleep(0.2)


async def test_a_canary_that_fails_without_a_controller_is_taken_out(
    make_rolled: MakeRolled, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    kept = tmp_path / "gateway.state.json"
    rolled = await make_rolled(Admin(token=TOKEN, state=kept))
    rolled.canary.status = 500
    await begin(rolled, canaries={"general": 0.2}, shadows={"general": 0.1})
    asked, state = await ask_until_guarded(rolled, 1000)
    assert (state["canaries"], state["shadows"]) == ({"general": 0.0}, {})
    assert state["guarded"]["general"].startswith("no controller; error")
    assert "requests of the canary" in state["guarded"]["general"]
    assert asked < 100
    assert "the canary of 'general' was taken out: no controller; error" in caplog.text
    assert json.loads(kept.read_bytes())["state"]["guarded"] == state["guarded"]
    for _ in range(20):
        await rolled.ask()
    assert len(rolled.canary.requests) == asked


async def test_one_that_answers_against_the_schema_is_taken_out(
    make_rolled: MakeRolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_answers, "_choice", says)
    rolled = await make_rolled()
    rolled.stable.text, rolled.canary.text = '{"n": 1}', '{"n": "one"}'
    await begin(rolled, canaries={"general": 0.3})
    _, state = await ask_until_guarded(rolled, 1500, response_format=FORMAT)
    assert state["canaries"] == {"general": 0.0}
    assert "schema_valid (bad ones)" in state["guarded"]["general"]


async def test_one_that_refuses_what_stable_answers_is_taken_out(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    rolled.canary.status = 404
    await begin(rolled, canaries={"general": 0.3})
    asked, state = await ask_until_guarded(rolled, 1000)
    assert state["canaries"] == {"general": 0.0}
    assert "requests of the canary" in state["guarded"]["general"]
    assert asked < 200


async def test_one_whose_answers_cannot_be_read_is_taken_out(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    rolled.canary.body = b'{"choices": []}'
    await begin(rolled, canaries={"general": 0.3})
    _, state = await ask_until_guarded(rolled, 1000)
    assert state["canaries"] == {"general": 0.0}


async def test_one_that_refuses_what_stable_refuses_stays(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    rolled.canary.status = rolled.stable.status = 400
    await begin(rolled, canaries={"general": 0.5})
    answers = [await rolled.ask() for _ in range(200)]
    await asyncio.sleep(0.2)
    assert {answer.status_code for answer in answers} == {400}
    assert ((await rolled.state())["guarded"], await rolled.counts()) == ({}, {})


async def test_a_good_one_stays(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    await begin(rolled, canaries={"general": 0.5})
    asked, state = await ask_until_guarded(rolled, 2000)
    assert (state["guarded"], state["canaries"]) == ({}, {"general": 0.5})
    assert asked > 800


async def test_one_that_a_controller_watches_is_left_to_it_until_it_is_gone(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled(canary_guard={"after_s": 1.0})
    rolled.canary.status = 500
    told = rollout(seen=time.time())
    await begin(rolled, canaries={"general": 0.5}, rollouts={"general": told})
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        told_at = time.monotonic()
        await rolled.set(rollouts={"general": {"seen": time.time()}})
        await asyncio.gather(*(rolled.ask() for _ in range(10)))
    assert (await rolled.state())["guarded"] == {}
    assert (await rolled.counts())["canary"]["errors"] > 50
    while not (state := await rolled.state())["guarded"]:
        await rolled.ask()
    assert time.monotonic() - told_at > 0.99
    assert state["guarded"]["general"].startswith("no controller for 1 s")
    assert state["rollouts"]["general"]["phase"] == "running", "what the controller told is its own"


async def test_it_gets_no_share_before_a_controller_takes_note(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled()
    rolled.canary.status = 500
    await begin(rolled, canaries={"general": 1.0})
    await ask_until_guarded(rolled, 1000)
    for patch in ({"canaries": {"general": 0.1}}, {"shadows": {"general": 0.1}}):
        refused = await rolled.client.patch("/admin/state", json=patch)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "guarded")
        assert '{"guarded": {"general": null}}' in refused.json()["error"]["message"]
    rolled.canary.status = 200
    await rolled.set(rollouts={"general": rollout(seen=time.time())})
    await begin(rolled, canaries={"general": 1.0}, guarded={"general": None})
    while (await rolled.ask()).headers["x-largeforge-lock"] != "lock-2":
        pass  # until the breaker lets requests through again
    assert (await rolled.state())["guarded"] == {}


async def test_nobody_guards_where_that_is_switched_off(make_rolled: MakeRolled) -> None:
    rolled = await make_rolled(canary_guard={"enabled": False})
    rolled.canary.status = 500
    await begin(rolled, canaries={"general": 0.5})
    _, state = await ask_until_guarded(rolled, 300)
    assert (state["guarded"], state["canaries"]) == ({}, {"general": 0.5})


def test_several_workers_take_one_out_together(start: Any, threaded_fakes: Any) -> None:
    crew = start({name: running.url for name, running in threaded_fakes.items()}, workers=2)
    threaded_fakes["support"].fake.status = 500
    with httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates, timeout=30) as client:
        config = client.get("/admin/config").json()
        (stable,) = config["upstreams"]["general"]
        canary = {**stable, "url": config["upstreams"]["support"][0]["url"], "arm": "canary", "lock": "lock-2"}
        config["upstreams"]["general"] = [stable, canary]
        assert client.put("/admin/config", json=config).status_code == 200
        assert client.patch("/admin/state", json={"canaries": {"general": 0.5}}).status_code == 200
        body = {"model": "general", "messages": [{"role": "user", "content": "hi"}]}
        until, state = time.monotonic() + 30, client.get("/admin/state").json()
        while not state["guarded"] and time.monotonic() < until:
            for _ in range(10):
                answer = httpx.post(crew.url + "/v1/chat/completions", json=body, trust_env=False)  # to any worker
                assert answer.status_code == 200
            state = client.get("/admin/state").json()
        arms = client.get("/admin/arms").json()
    asked = [arms["workers"][number]["general"]["canary"]["requests"] for number in ("0", "1")]
    assert min(asked) > 0 and sum(asked) == arms["data"]["general"]["canary"]["requests"]
    assert state["canaries"] == {"general": 0.0}, state
    assert state["guarded"]["general"].startswith("no controller; error")


def test_times_do_not_decide_and_something_always_does() -> None:
    settings = judged_by(Analysis(alpha=0.05))
    assert settings.alpha == 0.05
    assert {settings.compared(name).weight for name in ("latency_p95", "latency_p99", "ttft_p95")} == {0}
    only_times = {name: {"weight": 0} for name in ("errors", "schema_valid", "agreement", "judge", "thumbs")}
    assert judged_by(Analysis.model_validate(only_times)) == judged_by(None)
