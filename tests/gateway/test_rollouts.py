"""What a controller tells of a rollout is kept, reaches all workers, and costs little however often it is told."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from largeforge.client import Operator
from largeforge.gateway.admin.controls import Controls
from largeforge.gateway.admin.rollout_view import MOST_BYTES, RolloutView
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.rollout import Arm, Observation, decide, start
from largeforge.rollout.view import view
from tests.gateway.conftest import TOKEN

if TYPE_CHECKING:
    from largeforge.gateway.admin.state import State
    from tests.gateway.canaries import Rolled

NOW = 1_795_000_000.0
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def rollout(**fields: Any) -> dict[str, Any]:
    settings = Rollout(steps=[0.05, 0.5])
    state, decision = start(settings, NOW)
    told = view(
        settings, state, decision, NOW, release=("r1", "r2"), model=("registry:general/1", "registry:general/2")
    )
    return {**told, **fields}


def anything(_: State) -> None:
    """Take every state."""


async def test_what_a_controller_tells_is_kept_and_merged(make_world):
    world = await make_world()
    told = rollout(seen=time.time() - 1)
    answer = await world.client.patch("/admin/state", json={"rollouts": {"general": told}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["rollouts"]["general"] == told
    patch = {"rollouts": {"general": {"phase": "paused", "reasons": ["by command"]}}}
    said = (await world.client.patch("/admin/state", json=patch)).json()["rollouts"]["general"]
    assert (said["phase"], said["reasons"], said["steps"]) == ("paused", ["by command"], [0.05, 0.5, 1.0])
    assert said["log"][0]["action"] == "step" and said["model"]["new"] == "registry:general/2"
    gone = await world.client.patch("/admin/state", json={"rollouts": {"general": None}})
    assert gone.json()["rollouts"] == {}


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"phase": "flying"}, "phase"),
        ({"share": 1.5}, "share"),
        ({"step": -1}, "step"),
        ({"seen": "soon"}, "seen"),
        ({"seen": 1e300}, "seen"),
        ({"reasons": ["x" * 501]}, "reasons"),
        ({"reasons": ["x"] * 21}, "reasons"),
        ({"log": [{"time": 1, "action": "step", "share": 0.1}] * 21}, "log"),
        ({"log": [{"time": 1, "action": "explode", "share": 0.1}]}, "log"),
        ({"log": [{"time": 1, "action": "step", "share": 0.1, "verdicts": {"errors": "maybe"}}]}, "log"),
        ({"log": [{"time": 1, "action": "step", "share": 0, "reasons": ["x" * 500] * 20}] * 20}, "bytes"),
        ({"analysis": {"alpha": 2}}, "analysis"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_what_is_wrong_or_too_large_is_refused_and_changes_nothing(world, wrong, key):
    await world.client.patch("/admin/state", json={"rollouts": {"general": rollout()}})
    before = (await world.client.get("/admin/state")).json()
    answer = await world.client.patch("/admin/state", json={"rollouts": {"general": wrong}})
    assert answer.status_code == 400, answer.text
    assert key in answer.json()["error"]["message"]
    assert (await world.client.get("/admin/state")).json() == before


async def test_a_rollout_of_nobody_is_refused(world):
    answer = await world.client.patch("/admin/state", json={"rollouts": {"genral": rollout()}})
    assert "Did you mean 'general'?" in answer.json()["error"]["message"]


async def test_a_heartbeat_writes_a_small_file_and_tells_nobody(tmp_path, caplog):
    now = [NOW + 1]
    path = tmp_path / "gateway.state.json"
    controls = Controls(path, wall_clock=lambda: now[0])
    await controls.patch({"canaries": {"general": 0.05}, "rollouts": {"general": rollout()}}, anything)
    obeyed: list[object] = []
    controls.listen(obeyed.append)
    written, since = path.stat(), controls.document.since
    caplog.clear()
    for beat in range(1, 4):
        now[0] = NOW + 5 * beat
        await controls.patch({"rollouts": {"general": {"seen": now[0]}}}, anything)
        assert controls.now.rollouts["general"].seen == now[0]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    small = tmp_path / "gateway.state.seen.json"
    assert json.loads(small.read_bytes()) == {"general": NOW + 15} and small.stat().st_size < 100
    assert (len(obeyed), caplog.records, controls.document.since) == (1, [], since)
    again = Controls(path, wall_clock=lambda: now[0])
    assert again.now == controls.now, "it outlives the process"
    small.write_text("{")
    assert Controls(path, wall_clock=lambda: now[0]).now.rollouts["general"].seen == NOW, (
        "and no more than that is lost"
    )


async def test_what_is_told_takes_nothing_back_that_others_set_meanwhile(tmp_path):
    path = tmp_path / "gateway.state.json"
    one, other = (Controls(path, wall_clock=lambda: NOW + 100) for _ in range(2))
    await one.patch({"rollouts": {"general": rollout()}}, anything)
    await other.patch({"canaries": {"general": 0.25}, "mode": "high_load"}, anything)
    await one.patch({"rollouts": {"general": {"seen": NOW + 7}}}, anything)
    await other.patch({"canaries": {"general": 0.5}}, anything)
    state = (await one.patch({"rollouts": {"general": {"seen": NOW + 9, "phase": "paused"}}}, anything)).state
    assert (state.canaries, state.mode) == ({"general": 0.5}, "high_load")
    assert Controls(path, wall_clock=lambda: NOW).now == state


async def test_a_controller_whose_clock_is_ahead_is_seen_when_it_was_heard(tmp_path):
    controls = Controls(None, wall_clock=lambda: NOW)
    await controls.patch({"rollouts": {"general": rollout(seen=NOW + 3600)}}, anything)
    assert controls.now.rollouts["general"].seen == NOW


def test_all_workers_know_of_a_heartbeat(start, threaded_fakes):
    crew = start({name: running.url for name, running in threaded_fakes.items()}, workers=2)

    def state(**patch: Any) -> dict[str, Any]:
        with httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates) as client:
            answer = client.patch("/admin/state", json=patch) if patch else client.get("/admin/state")
            assert answer.status_code == 200, answer.text
            return answer.json()

    state(rollouts={"general": rollout()}, canaries={"general": 0.05})
    for beat in (1.0, 2.0):
        told = round(time.time(), 3) - 10 + beat
        state(rollouts={"general": {"seen": told}})
        deadline, seen = time.monotonic() + 10, []
        while seen[-8:] != [told] * 8:
            seen.append(state()["rollouts"]["general"]["seen"])
            assert time.monotonic() < deadline, seen
    assert state()["canaries"] == {"general": 0.05}


def test_the_longest_rollout_is_cut_to_what_a_gateway_takes():
    settings = Rollout(steps=[share / 100 for share in range(1, 51)], bake_s=0, min_requests=1)
    state, decision = start(settings, NOW)
    for turn in range(1, 40):
        period = Observation(Arm(1000), Arm(1000))
        state, decision = decide(settings, state, period, NOW + turn)
    told = view(settings, state, decision, NOW + 50, release=("x" * 1000, "y"), model=("a", "b" * 1000))
    assert len(told["log"]) == 20 and told["log"][-1]["time"] == state.log[-1].time
    long = [{**entry, "reasons": ("z" * 1000,) * 30} for entry in told["log"]]
    assert len(json.dumps(view(settings, _with_log(state, long), decision, NOW)["log"])) < MOST_BYTES
    assert RolloutView.model_validate(told).steps[-1] == 1.0
    RolloutView.model_validate(view(settings, _with_log(state, long), decision, NOW))


def _with_log(state: Any, entries: list[dict[str, Any]]) -> Any:
    from dataclasses import replace

    from largeforge.rollout import Entry

    return replace(state, log=tuple(Entry(**entry) for entry in entries))


async def test_many_heartbeats_delay_no_request(make_world):
    world = await make_world()
    await world.client.patch("/admin/state", json={"rollouts": {"general": rollout()}})

    async def beat() -> None:
        for number in range(20):
            patch = {"rollouts": {"general": {"seen": NOW - number}}}
            assert (await world.client.patch("/admin/state", json=patch)).status_code == 200

    beating = asyncio.create_task(beat())
    while not beating.done():
        assert (await world.chat()).status_code == 200
    await beating


async def test_prometheus_sees_the_share_the_phase_and_both_sides(rolled: Rolled) -> None:
    told = rollout(seen=NOW, changed=NOW - 50)
    await rolled.set(canaries={"general": 1.0}, rollouts={"general": told})
    rolled.canary.status = 500
    for _ in range(3):
        assert (await rolled.ask()).status_code == 200
    of = {"expert": "general"}
    assert rolled.metric("rollout_share", **of) == 1.0
    assert rolled.metric("rollout_phase", **of, phase="running") == 1
    assert rolled.metric("rollout_phase", **of, phase="rolled_back") == 0
    assert rolled.metric("rollout_changed_timestamp_seconds", **of, phase="running") == NOW - 50
    assert rolled.metric("rollout_seen_timestamp_seconds", **of) == NOW
    assert [rolled.metric(f"arm_{what}_total", **of, arm="canary") for what in ("requests", "errors")] == [3, 3]
    assert rolled.metric("arm_requests_total", **of, arm="stable") == 0
    assert rolled.metric("canary_guarded", **of) is None
    back = {"phase": "rolled_back", "changed": NOW - 5, "share": 0.0}
    await rolled.set(canaries={"general": None}, rollouts={"general": back}, guarded={"general": "bad"})
    assert rolled.metric("rollout_phase", **of, phase="rolled_back") == 1
    assert rolled.metric("rollout_changed_timestamp_seconds", **of, phase="rolled_back") == NOW - 5
    assert rolled.metric("rollout_changed_timestamp_seconds", **of, phase="running") is None
    assert (rolled.metric("rollout_share", **of), rolled.metric("canary_guarded", **of)) == (0.0, 1)
    await rolled.set(rollouts={"general": {"phase": "promoted", "share": 1.0}}, guarded={"general": None})
    assert rolled.metric("rollout_share", **of) == 1.0, "stable is the new model now"


async def test_an_operator_does_the_same_in_python(rolled: Rolled) -> None:
    def operate() -> tuple[dict[str, Any], dict[str, Any]]:
        with Operator(str(rolled.client.base_url), token=TOKEN) as gateway:
            said = gateway.set(canaries={"general": 1.0}, rollouts={"general": rollout()})
            httpx.post(f"{rolled.client.base_url}/v1/chat/completions", json=BODY, trust_env=False).raise_for_status()
            return said, gateway.arms()

    said, arms = await asyncio.to_thread(operate)
    assert (said["canaries"], said["rollouts"]["general"]["phase"]) == ({"general": 1.0}, "running")
    assert arms["general"]["canary"]["requests"] == 1
