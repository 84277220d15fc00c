"""What stands beside what: on a GPU as on a host, several at a time, and where a host does not tell enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from largeforge.deploy import room
from largeforge.deploy.update import Release
from tests.deploy.conftest import GIB, gpu, look


def release(service: str, key: str, gib: float, *gpus: int) -> Release:
    unit = f"largeforge-shop-{service}-{key}.service"
    return Release("box", service, key, unit, 18000, num_bytes=int(gib * GIB), gpus=gpus)


def modes(*pairs: room.Pair, gpus: tuple[dict[str, Any], ...] = (gpu(0),), strategy: str = "auto", **state: Any) -> str:
    """Return the modes in one line; all old releases are up, and `more` are, too."""
    running = [old for _, old in pairs if old is not None] + state.pop("more", [])
    told = look(*gpus, memory_gib=250, **state)["state"]
    return " ".join(room.modes(pairs, told, running, strategy=strategy))


def pair(service: str, gib: float, *gpus: int, old_gib: float = -1) -> room.Pair:
    return release(service, "new", gib, *gpus), release(service, "old", gib if old_gib < 0 else old_gib, *gpus)


def test_memory_of_the_host_is_none_of_a_gpu() -> None:
    assert modes(pair("general", 20, 0)) == "fixed", "two of 20 GiB are more than a GPU of 24, whatever the host has"
    assert modes(pair("general", 10, 0)) == "blue_green"
    assert modes(pair("general", 20, 0), gpus=(gpu(0, 80),), free_bytes=GIB) == "blue_green"


def test_of_several_gpus_each_must_have_room() -> None:
    assert modes(pair("general", 10, 0, 1), gpus=(gpu(0), gpu(1))) == "blue_green"
    assert modes(pair("general", 10, 0, 1), gpus=(gpu(0), gpu(1, free=18))) == "fixed"


@pytest.mark.parametrize(
    "taken",
    [
        {"others": [{"deployment": "x", "service": "y", "port": 1, "gpus": [0], "bytes": 4 * GIB}]},
        {"more": [release("support", "standby", 4, 0)]},
        {"gpus": (gpu(0, free=20),)},
    ],
    ids=["another deployment", "a release on standby", "a foreign process"],
)
def test_what_others_have_of_a_gpu_is_theirs(taken: dict[str, Any]) -> None:
    assert modes(pair("general", 10, 0), **taken) == "fixed"
    assert modes(pair("general", 8, 0), **taken) == "blue_green"


def test_several_on_one_gpu_take_from_what_the_others_leave() -> None:
    both = pair("general", 6, 0), pair("support", 6, 0)
    assert modes(both[0]) == modes(both[1]) == "blue_green"
    assert modes(*both) == "blue_green fixed", "12 GiB run, one more fits and two do not"
    assert modes(*both, gpus=(gpu(0, 48),)) == "blue_green blue_green"
    elsewhere = pair("support", 6, 1)
    assert modes(both[0], elsewhere, gpus=(gpu(0), gpu(1))) == "blue_green blue_green"


def test_what_is_needed_in_any_case_is_kept_for_it_whatever_comes_first() -> None:
    first, fresh = pair("general", 8, 0), (release("support", "new", 6, 0), None)
    assert modes(first, fresh) == "fixed blue_green" and modes(fresh, first) == "blue_green fixed"
    larger = pair("support", 10, 0, old_gib=4)
    assert modes(pair("general", 8, 0), larger) == "fixed fixed", "what it grows by is not to be had twice"
    assert modes(pair("general", 5, 0), larger) == "blue_green fixed"


def vacated(*pairs: room.Pair, running: list[Release], removed: list[Release], gpus: Any, **state: Any) -> str:
    told = look(*gpus, memory_gib=250, **state)["state"]
    return " ".join(one.service for one in room.vacated(pairs, told, running, removed))


def test_what_is_wanted_no_more_makes_room_where_there_is_no_other() -> None:
    general, going, small = release("general", "now", 8, 0), release("going", "now", 10, 0), release("s", "now", 2, 0)
    coming, up = (release("coming", "new", 10, 0), None), [general, going, small]
    asked = {"running": up, "removed": [small, going], "gpus": (gpu(0),)}
    assert vacated(coming, **asked) == "going", "the largest first, and no more than need be"
    assert vacated(coming, **{**asked, "gpus": (gpu(0, 48),)}) == "", "there is room beside it"
    assert vacated((release("coming", "new", 14, 0), None), **asked) == "going s"
    assert vacated((release("coming", "new", 18, 0), None), **asked) == "", "all of them would not be enough"
    assert vacated(coming, **{**asked, "running": [general]}) == "", "what is down has nothing"
    elsewhere = (release("coming", "new", 10, 1), None)
    assert vacated(elsewhere, **{**asked, "gpus": (gpu(0), gpu(1))}) == "", "it makes no room on another GPU"
    unknown, fresh = release("going", "now", 0, 0), (release("coming", "new", 0, 0), None)
    assert vacated(fresh, running=[unknown], removed=[unknown], gpus=(gpu(0, free=23),)) == "going"


def test_on_the_cpu_the_memory_that_is_free_counts() -> None:
    going, coming = release("going", "now", 20), (release("coming", "new", 20), None)
    asked: dict[str, Any] = {"running": [going], "removed": [going], "gpus": ()}
    assert vacated(coming, **asked, free_bytes=10 * GIB) == "going"
    assert vacated(coming, **asked, free_bytes=30 * GIB) == ""


def test_servers_on_the_cpu_share_the_memory_of_the_host() -> None:
    both = pair("general", 20), pair("support", 20)
    assert modes(*both, gpus=(), free_bytes=50 * GIB) == "blue_green blue_green"
    assert modes(*both, gpus=(), free_bytes=40 * GIB) == "blue_green fixed"
    fresh = (release("third", "new", 20), None)
    assert modes(*both, fresh, gpus=(), free_bytes=50 * GIB) == "blue_green fixed blue_green"


@pytest.mark.parametrize(
    ("pairs", "gpus"),
    [
        ([pair("general", 1, 0)], ()),
        ([pair("general", 1, 1)], (gpu(0),)),
        ([pair("general", 1, 0)], ({**gpu(0), "memory_bytes": 0, "free_bytes": 0},)),
        ([pair("general", 0, 0)], (gpu(0, 80),)),
        ([pair("general", 1, 0, old_gib=0)], (gpu(0, 80),)),
    ],
    ids=["no GPU told", "another GPU told", "no memory told", "new one not known", "old one not known"],
)
def test_where_too_little_is_known_the_old_one_goes_first(
    pairs: list[room.Pair], gpus: tuple[dict[str, Any], ...]
) -> None:
    assert modes(*pairs, gpus=gpus) == "fixed"
    assert modes(*pairs, gpus=gpus, strategy="blue_green") == "blue_green", "who knows better says so"


def test_one_of_another_deployment_that_is_not_known_has_its_gpu_for_itself() -> None:
    others = [{"deployment": "x", "service": "y", "port": 1, "gpus": [0], "bytes": 0}]
    assert modes(pair("general", 1, 0), others=others) == "fixed"


def test_what_is_up_already_needs_no_more_room() -> None:
    new, old = pair("general", 11, 0)
    assert modes((new, old), more=[new]) == "blue_green"
    assert modes((new, old), pair("support", 1, 0), more=[new]) == "blue_green fixed"


def test_the_same_release_is_started_again_in_its_place_and_gateways_hand_over() -> None:
    new, _ = pair("general", 1, 0)
    gateway = replace(release("gateway", "new", 0), kind="gateway")
    assert modes((new, new), (gateway, None), gpus=(gpu(0, 80),)) == "fixed handover"
