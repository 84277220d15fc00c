"""Which servers begin as canaries, what they need, and rollouts that are in the way or went wrong before."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.deploy import present, seating
from largeforge.deploy.rollouts import beginning
from largeforge.deploy.rollouts import document as documents
from largeforge.deploy.update import Release, Replacement
from largeforge.errors import DeployError, GateError
from largeforge.recipe.sections.rollouts import Rollout
from largeforge.recipe.sections.slos import Slo
from tests.deploy.conftest import GIB, Case, gpu, look

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.deploy.desired import Wanted

OLD_ANSWERS = {name: {"model": f"registry:{name}/1", "lock": "a" * 64} for name in ("general", "support")}


def wanted_of(folder: Path, **rollout: Any) -> Wanted:
    case = Case(folder, update={"strategy": "blue_green"})
    case.given.rollout = Rollout.model_validate({"strategy": "canary", **rollout})
    case.given.slo = Slo.model_validate({"objectives": {"up": {"indicator": "availability", "objective": 0.98}}})
    case.given.aliases = {"support": "support@champion"}
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    return seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]


def states(wanted: Wanted, *, up: bool = True) -> tuple[dict[str, Any], Replacement]:
    """Return hosts on which an old release of the server is up, and its replacement."""
    host = wanted.seats["general"].host
    found = {name: look(gpu(0))["state"] for name in wanted.hosts}
    new = next(one.new for one in present.replacements(wanted, found) if one.new.service == "general")
    old = Release(host, "general", "old", wanted.layout(host).unit("general", "old"), 18000, answers=OLD_ANSWERS)
    found[host]["units"] = {old.unit: {"ActiveState": "active" if up else "inactive"}}
    return found, Replacement(new, old, "blue_green")


def test_servers_of_which_another_release_is_up_begin_as_canaries(folder: Path) -> None:
    wanted = wanted_of(folder)
    found, one = states(wanted)
    gateway = Replacement(replace(one.new, service="gateway", kind="gateway"), None, "handover")
    first = replace(one, old=None)
    assert beginning.divided(wanted, [one, gateway], found) == ([replace(one, mode="canary")], [gateway])
    assert beginning.divided(wanted, [first], found) == ([], [first]), "nothing serves yet"
    down, _ = states(wanted, up=False)
    assert beginning.divided(wanted, [one], down) == ([], [one]), "nothing to compare it with"
    at_once = wanted_of(folder, experts={"general": {"strategy": "immediate"}})
    assert beginning.divided(at_once, [one], found) == ([], [one])


def test_a_canary_needs_room_and_the_error_says_what_helps(folder: Path) -> None:
    wanted = wanted_of(folder)
    found, one = states(wanted)
    with pytest.raises(DeployError, match=r"needs room .*rollout\.experts\.general\.strategy=immediate"):
        beginning.divided(wanted, [replace(one, mode="fixed")], found)
    found[one.new.host]["units"][one.new.unit] = {"ActiveState": "active"}
    link = f"{wanted.layout(one.new.host).home}/services/general/canary"
    found[one.new.host]["paths"][link] = {"kind": "link", "target": f"releases/{one.new.key}"}
    (again,), _ = beginning.divided(wanted, [replace(one, mode="fixed")], found)
    assert again.is_up and again.mode == "canary", "it is up already"


def test_the_room_of_a_canary_is_that_of_its_gpu(folder: Path) -> None:
    case = Case(folder)
    case.given.rollout = Rollout.model_validate({"strategy": "canary"})
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    wanted = seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]
    host, layout = wanted.seats["general"].host, wanted.layout(wanted.seats["general"].host)
    said = {"kind": "vllm", "place": {}, "answers": {}, "bytes": 20 * GIB, "gpus": [0]}
    paths = {
        f"{layout.release('general', 'old')}/service.json": {"kind": "file", "text": json.dumps(said)},
        f"{layout.release('general', 'old')}/port": {"kind": "file", "text": "18000"},
        f"{layout.service('general')}/current": {"kind": "link", "target": "releases/old"},
    }
    units = {layout.unit("general", "old"): {"ActiveState": "active"}}
    full, large = (
        {host: look(each, memory_gib=250, paths=paths, units=units)["state"]} for each in (gpu(0), gpu(0, 80))
    )
    with pytest.raises(DeployError, match=r"needs room for the new general .*GiB on GPU 0\)"):
        beginning.divided(wanted, present.replacements(wanted, full), full)
    (canary,), _ = beginning.divided(wanted, present.replacements(wanted, large), large)
    assert canary.mode == "canary"


def test_a_rollout_holds_what_is_promised_and_which_models_are_changed(folder: Path) -> None:
    wanted = wanted_of(folder, experts={"general": {"bake_s": 7}})
    _, one = states(wanted)
    document = beginning.begin(wanted, [one], wanted.record(who="me"), by="me")
    (group,) = document.groups
    assert group.server == "general" and set(group.experts) == {"general", "support"}
    assert group.settings.bake_s == 7 and group.settings.analysis.triggers.error_share == 0.02
    assert group.changes["support"].alias == "support@champion"
    assert (group.changes["support"].old, group.changes["support"].new) == ("registry:support/1", "registry:support/7")
    assert documents.parse(document.text()) == document


def test_another_rollout_is_in_the_way_and_the_same_is_gone_on_with(folder: Path) -> None:
    wanted = wanted_of(folder)
    found, one = states(wanted)
    document = beginning.begin(wanted, [one], wanted.record(who="me"), by="me")
    remember(found, wanted, document)
    assert beginning.check(wanted, found) == document
    other = replace(document, target=replace(document.target, services={}))
    remember(found, wanted, replace(other, number=1))
    with pytest.raises(DeployError, match=r"rollout under way .*end it first"):
        beginning.check(wanted, found)


def test_what_was_sent_back_is_not_tried_again_unless_that_is_wanted(folder: Path) -> None:
    wanted = wanted_of(folder)
    found, one = states(wanted)
    document = beginning.begin(wanted, [one], wanted.record(who="me"), by="me").over("rolled_back", ("errors: 9 of 9",))
    remember(found, wanted, document)
    with pytest.raises(GateError, match=r"errors: 9 of 9.*rollout\.again=true"):
        beginning.check(wanted, found)
    assert beginning.check(wanted_of(folder, again=True), found) is None
    remember(found, wanted, replace(document, ended="promoted", number=5))
    assert beginning.check(wanted, found) is None, "it serves, or has served"


def remember(found: dict[str, Any], wanted: Wanted, document: documents.Document) -> None:
    host = wanted.gateways[0]
    path = documents.path(wanted.layout(host), document.id)
    found[host]["paths"][path] = {"kind": "file", "text": document.text()}
