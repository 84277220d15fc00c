"""What follows from a look at gateways: counters become counts, groups are decided, one bad model takes all back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from largeforge.deploy.history import Record
from largeforge.deploy.rollouts.document import (
    Change,
    Document,
    Group,
    Member,
    known,
    name_after,
    parse,
    underway,
)
from largeforge.deploy.rollouts.looking import BASELINE_S, Look, advance, patch
from largeforge.deploy.service import Layout
from largeforge.errors import DeployError
from largeforge.gateway.admin.state import State
from largeforge.recipe.sections.rollouts import Rollout

TARGET = Record(
    "20261122T090000Z-abc", "shop", "l" * 64, "me@here", {"one": {"general": "new"}},
    {"gateway": {}, "router": {}, "topology": {"experts": {"general": {}}}}, ["front"], "0.0.0.0", 8080, "largeforge",
)  # fmt: skip
QUICK = {"steps": [0.1, 1.0], "bake_s": 10, "min_requests": 100, "watch_s": 0}


def group(server: str = "general", **settings: Any) -> Group:
    return Group(
        server, (server,), (Member("one", server, "old", "new"),),
        {server: Change("registry:shop/1", "registry:shop/2", lock="b" * 64, alias="shop@champion")},
        Rollout.model_validate({**QUICK, **settings}),
    )  # fmt: skip


def document(*groups: Group) -> Document:
    return Document("20261122T090000Z-new", "me@here", TARGET, groups or (group(),))


def counted(canary: int, stable: int, *, bad: int = 0, host: str = "front", server: str = "general") -> Look:
    """Return what a gateway has counted since it started."""
    arms = {"canary": {"requests": canary, "errors": bad}, "stable": {"requests": stable, "errors": 0}}
    return Look({host: {server: arms}})


def watched(begun: Document, looks: list[Look], *, every_s: float = 1.0) -> Document:
    """Return a rollout after looks."""
    for number, look in enumerate(looks):
        begun, _ = advance(begun, look, 1000 + number * every_s, began=1000)
    return begun


def test_a_good_model_goes_through_its_steps_and_is_promoted() -> None:
    looks = [counted(20 * number, 180 * number) for number in range(12)]
    after = watched(document(), looks, every_s=2.0)
    assert after.verdict == "promoted"
    actions = [entry.action for entry in after.groups[0].state.log] if after.groups[0].state else []
    assert actions == ["step", "hold", "promote"] and not after.ended, "it is held until it has enough requests"


def test_what_was_counted_before_the_rollout_is_not_counted() -> None:
    after = watched(document(), [counted(5000, 5000, bad=5000), counted(5010, 5090, bad=5000)])
    assert after.groups[0].state and not after.verdict
    assert after.groups[0].state.watch.whole.canary.requests == 10
    assert after.groups[0].state.watch.whole.canary.errors == 0


def test_a_gateway_that_started_again_and_one_that_comes_later_are_counted_from_where_they_are() -> None:
    looks = [counted(100, 100), counted(110, 120), counted(3, 4)]
    both = Look({**counted(8, 9).arms, **counted(700, 700, host="other").arms})
    more = Look({**counted(8, 9).arms, **counted(701, 702, host="other").arms})
    whole = watched(document(), [*looks, both, more]).groups[0].state
    assert whole and whole.watch.whole.canary.requests == 10 + 3 + 5 + 1
    assert whole.watch.whole.stable.requests == 20 + 4 + 5 + 2


def test_a_bad_model_takes_those_that_came_with_it_back() -> None:
    begun = document(group("bad"), group("good"))
    after = begun
    for number in range(10):
        arms = {
            **counted(20 * number, 180 * number, bad=10 * number, server="bad").arms["front"],
            **counted(20 * number, 180 * number, server="good").arms["front"],
        }
        after, _ = advance(after, Look({"front": arms}), 1000 + number, began=1000)
    assert [one.phase for one in after.groups] == ["rolled_back", "rolled_back"]
    assert after.verdict == "rolled_back" and after.why[0].startswith("bad: errors: ")
    assert "bad is sent back" in after.why[1]
    assert patch(after)["canaries"] == {"bad": 0.0, "good": 0.0}


def test_a_canary_that_a_gateway_took_out_by_itself_is_sent_back() -> None:
    begun = watched(document(), [counted(0, 0), counted(1, 9)])
    after, told = advance(begun, Look(counted(1, 20).arms, guarded={"general": "5 of 5 failed"}), 1010, began=1000)
    assert after.verdict == "rolled_back" and "5 of 5 failed" in after.why[0]
    assert [one.decision.action for one in told] == ["roll_back"]


def one_is_promoted() -> Document:
    """Return a rollout of two models, one of which is promoted while the other is held for want of requests."""
    begun = document(group("early"), group("late"))
    for number in range(12):
        begun, _ = advance(begun, counted(20 * number, 180 * number, server="early"), 1000 + 2 * number, began=1000)
    assert [one.phase for one in begun.groups] == ["promoted", "running"] and not begun.verdict
    return begun


def test_a_model_that_is_promoted_is_looked_at_until_all_are() -> None:
    begun = one_is_promoted()
    fine, told = advance(begun, counted(400, 1980, server="early"), 1030, began=1000)
    assert [one.phase for one in fine.groups] == ["promoted", "running"] and not told
    fails, told = advance(begun, counted(620, 1980, bad=200, server="early"), 1030, began=1000)
    assert fails.verdict == "rolled_back" and told[0].server == "early" and "errors" in fails.why[0]
    guarded = Look(counted(240, 1980, server="early").arms, guarded={"early": "9 of 9 failed"})
    taken, _ = advance(begun, guarded, 1030, began=1000)
    assert taken.verdict == "rolled_back" and "9 of 9 failed" in taken.why[0]


@pytest.mark.parametrize(("given", "phase"), [("pause", "paused"), ("promote", "promoted"), ("abort", "rolled_back")])
def test_commands_are_for_all(given: str, phase: str) -> None:
    begun = watched(document(group("one"), group("two")), [Look({}), Look({})])
    after, told = advance(begun, Look({}, (given,)), 1005, began=1000)
    assert {one.phase for one in after.groups} == {phase} and len(told) == 2
    again, refused = advance(after, Look({}, ("pause",)), 1011, began=1000)
    assert {one.phase for one in again.groups} == {phase}
    assert all(one.decision.action == "refuse" for one in refused)


def test_who_gets_all_of_the_traffic_at_once_is_held_against_what_stable_did_before() -> None:
    begun = document(group(strategy="blue_green", watch_s=30))
    looks = [counted(0, 0), counted(0, 60)]
    waiting = watched(begun, looks)
    assert waiting.groups[0].phase == "observing" and waiting.groups[0].share == 0
    started = watched(begun, [*looks, counted(0, 130)])
    assert started.groups[0].share == 1
    assert started.groups[0].state and started.groups[0].state.watch.before.requests == 130
    late, _ = advance(waiting, counted(0, 61), 1000 + BASELINE_S, began=1000)
    assert late.groups[0].share == 1, "little traffic does not keep it waiting for ever"
    gone, _ = advance(waiting, Look({}, ("abort",)), 1003, began=1000)
    assert gone.verdict == "rolled_back"


def test_an_experiment_rests_when_its_time_is_over() -> None:
    begun = document(group(strategy="ab", ab_s=5, ab_share=0.5))
    after = watched(begun, [counted(100 * number, 100 * number) for number in range(9)])
    assert after.is_at_rest and not after.verdict and after.groups[0].share == 0.5
    ended, _ = advance(after, Look({}, ("promote",)), 1020, began=1000)
    assert ended.verdict == "promoted"


def test_gateways_take_what_they_are_told() -> None:
    begun = watched(document(group(strategy="shadow"), group("other")), [Look({}), Look({})])
    state = State.model_validate(without_nulls(patch(begun)))
    assert state.shadows == {"general": 1.0} and state.canaries == {"general": 0.0, "other": 0.1}
    assert state.rollouts["other"].model.new == "registry:shop/2" and state.rollouts["other"].phase == "running"
    assert patch(begun, is_over=True)["canaries"] == {"general": None, "other": None}
    assert "guarded" in patch(document()) and "guarded" not in patch(begun), "only the first word takes a guard back"


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(one) for key, one in value.items() if one is not None}


def test_only_experts_with_another_model_tell_of_it() -> None:
    changes = {"general": Change("path:base", "path:base"), "support": Change("registry:s/1", "registry:s/2")}
    both = replace(group(), experts=("general", "support"), changes=changes)
    assert both.judged == ("support",)
    assert Change("job:main", "job:main", old_lock="a", lock="b").is_one
    same = replace(both, changes=dict.fromkeys(changes, changes["general"]))
    assert same.judged == ("general", "support"), "other settings of a server are judged by all that it serves"


def test_a_rollout_is_kept_whole_and_the_newest_file_counts() -> None:
    after = watched(document(), [counted(20 * number, 180 * number, bad=number) for number in range(4)])
    assert parse(after.text()) == after
    over = after.over("rolled_back", ("why",))
    layouts = {host: Layout("/srv", "/var/state", "/var/log", "shop", "x", "") for host in ("front", "side")}
    path = f"/srv/deployments/shop/rollouts/{after.id}.json"
    states = {
        host: {"paths": {path: {"kind": "file", "text": one.text()}, f"{path}x.json": {"text": "{"}}}
        for host, one in (("front", over), ("side", after))
    }
    assert known(layouts, states) == [over]
    assert not over.groups[0].readings, "what has ended needs no counters to count from"
    assert underway([over]) is None and underway([over, after]) == after


def test_a_rollout_that_cannot_be_read_and_has_not_ended_is_told() -> None:
    layouts = {"front": Layout("/srv", "/var/state", "/var/log", "shop", "x", "")}
    path = f"/srv/deployments/shop/rollouts/{document().id}.json"
    newer = document().text().replace('"version":1', '"version":7')
    with pytest.raises(DeployError, match=rf"front: {path}: a rollout of version 7 .* or remove the file"):
        known(layouts, {"front": {"paths": {path: {"kind": "file", "text": newer}}}})
    ended = document().over("promoted", ()).text().replace('"version":1', '"version":7')
    assert known(layouts, {"front": {"paths": {path: {"kind": "file", "text": ended}}}}) == []


def test_a_rollout_comes_after_all_before_it_whatever_its_clock_says() -> None:
    over = document().over("promoted", ())  # 2026-11-22, 09:00:00
    behind = 1_700_000_000.0  # in 2023
    assert name_after([], behind, "abc") == "20231114T221320Z-abc"
    assert name_after([over], behind, "abc") == "20261122T090001Z-abc"
    later = replace(document(), id="20261122T080000Z-late")
    assert underway([later, over]) == later, "one that began by a clock that is behind"


def test_a_file_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 7"):
        parse('{"version": 7}')
    with pytest.raises(ValueError, match="incomplete"):
        parse('{"version": 1}')
