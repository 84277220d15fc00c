"""The order of an update, and what it leaves when something fails: real decisions, hosts that are played."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from largeforge.deploy.update import Release, Replacement, Update
from largeforge.errors import DeployError

TOPOLOGY = {"gateway": {"port": 8080}, "router": {"name": "keyword"}, "topology": {"experts": {"general": {}}}}


class Played:
    """Hosts that do as told: `up` are the releases whose server runs, `asked` those that the gateways ask."""

    def __init__(self, *up: Release):
        self.up = {release.url for release in up}
        self.asked = set(self.up)
        self.gateways_run = bool(up)
        self.drained: set[str] = set()
        self.refused: dict[str, str] = {}
        self.fail_file = False
        self.told: list[str] = []
        self.files: list[Mapping[str, Any]] = []

    def check(self) -> None:
        """Hold the lock."""

    def switch(self, replacement: Replacement, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        new, old = replacement.new, replacement.old
        self.told.append(f"switch {new.service}@{new.host} {old.key if old else '-'}→{new.key} {replacement.mode}")
        stopped = {one.url for one in (old, *replacement.vacates) if one and replacement.mode == "fixed"} & self.up
        self.up -= stopped
        self._nobody_notices()
        if new.key in self.refused:
            self.up |= stopped
            kind = "restored" if old or stopped else "refused"
            return {"kind": kind, "at": 2.0, "reason": self.refused[new.key], "served": bool(old or stopped)}
        self.up.add(new.url)
        if new.kind == "gateway":
            self.gateways_run = True
            self._ask()
        on_event({"kind": "starting", "at": 1.0})
        on_event({"kind": "ready", "at": 3.0, "seconds": 2.0, "down_s": 2.5 if replacement.mode == "fixed" else 0.0})
        return {"kind": "committed", "at": 4.0}

    def retire(self, release: Release, *, idle_timeout_s: float) -> None:
        self.told.append(f"retire {release.service}@{release.host} {release.key}")
        self.up.discard(release.url)
        self._nobody_notices()

    def put_gateway_file(
        self, file: Mapping[str, Any], *, unasked: Collection[str] = (), undrained: Collection[str] = ()
    ) -> None:
        if self.fail_file and file["router"]["name"] == "broken":
            raise DeployError("one: the gateway refuses its file")
        self.files.append(file)
        self._ask()
        self.drained -= set(undrained)

    def drain(self, url: str, *, timeout_s: float) -> int:
        self.told.append(f"drain {url}")
        self.drained.add(url)
        return 0

    def _ask(self) -> None:
        if self.gateways_run and self.files:
            upstreams = self.files[-1]["upstreams"].values()
            self.asked = {server["url"] for servers in upstreams for server in servers}
            self._nobody_notices()

    def _nobody_notices(self) -> None:
        dead = self.asked - self.up - self.drained
        assert not dead, f"the gateways ask {dead}, which is not up: requests fail"


def release(key: str, *, host: str = "one", service: str = "general", port: int = 18000, kind: str = "vllm") -> Release:
    answers = {"general": {"served_model": "general", "model": f"path:{key}", "lock": key}} if kind == "vllm" else {}
    return Release(host, service, key, f"{service}-{key}.service", port, kind=kind, address=host, answers=answers)


def roll(played: Played, replacements: list[Replacement], **options: Any) -> Update:
    """Return an update that has come to its end."""
    live = options.pop("live", [one.old for one in replacements if one.old and one.new.kind == "vllm"])
    sections = options.pop("sections", TOPOLOGY)
    update = Update(
        played, live=live, sections=options.pop("before", TOPOLOGY if live else {}), report=lambda host, text: None,
        drain_timeout_s=1.0,
    )  # fmt: skip
    whole = {"removed": (), "verify": lambda: None, **options}
    update.run(replacements, sections=sections, **whole)
    return update


OLD, NEW = release("old"), release("new", port=18001)
OLD_2, NEW_2 = (
    release("old2", host="two", service="general-2"),
    release("new2", host="two", service="general-2", port=18001),
)


def test_a_first_deployment_starts_servers_then_tells_the_gateways_and_starts_them() -> None:
    played = Played()
    gateway = release("gw", service="gateway", kind="gateway", port=8080)
    roll(played, [Replacement(NEW, None, "blue_green"), Replacement(gateway, None, "handover")])
    assert played.asked == {NEW.url} <= played.up
    assert played.told == ["switch general@one -→new blue_green", "switch gateway@one -→gw handover"]


def test_replicas_without_room_are_replaced_one_after_the_other_and_requests_go_to_the_other() -> None:
    played = Played(OLD, OLD_2)
    update = roll(played, [Replacement(NEW, OLD, "fixed"), Replacement(NEW_2, OLD_2, "fixed")])
    assert played.asked == played.up == {NEW.url, NEW_2.url} and not played.drained
    switches = [line for line in played.told if line.startswith("switch")]
    assert switches == ["switch general@one old→new fixed", "switch general-2@two old2→new2 fixed"]
    assert played.told.index(f"drain {OLD.url}") < played.told.index(switches[0])
    assert [done.down_s for done in update.done] == [2.5, 2.5]


def test_with_room_the_gateways_change_over_at_once_and_the_old_servers_stop_last() -> None:
    played = Played(OLD, OLD_2)
    roll(played, [Replacement(NEW, OLD, "blue_green"), Replacement(NEW_2, OLD_2, "blue_green")])
    assert played.asked == {NEW.url, NEW_2.url} == played.up
    changed = [
        file["upstreams"]["general"] for file in played.files if file["upstreams"]["general"][0]["lock"] == "new"
    ]
    assert len(changed) == 1 and len(changed[0]) == 2, "one file changes all servers over"
    assert set(played.told[-2:]) == {"retire general@one old", "retire general-2@two old2"}


GENERAL, GOING, COMING, LATER = (
    Release(
        "one", name, f"{name}1", f"{name}.service", port, address="one",
        answers={name: {"served_model": name, "model": f"path:{name}", "lock": name}},
    )
    for port, name in enumerate(("general", "going", "coming", "later"), 18000)
)  # fmt: skip


def with_experts(*names: str) -> dict[str, Any]:
    return {**TOPOLOGY, "topology": {"experts": {name: {} for name in names}}}


CHANGE = {
    "live": [GENERAL, GOING], "removed": [GOING], "before": with_experts("general", "going"),
    "sections": with_experts("general", "coming", "later"),
}  # fmt: skip
IN_ITS_PLACE = [
    Replacement(COMING, None, "fixed", vacates=(GOING,)),
    Replacement(LATER, None, "fixed"),
]


def test_an_expert_that_goes_makes_room_for_one_that_comes() -> None:
    played = Played(GENERAL, GOING)
    update = roll(played, IN_ITS_PLACE, **CHANGE)
    assert played.asked == played.up == {GENERAL.url, COMING.url, LATER.url} and not played.drained
    assert played.told == [
        f"drain {GOING.url}", "switch coming@one -→coming1 fixed", "switch later@one -→later1 fixed",
        "retire going@one going1",
    ]  # fmt: skip
    assert update.serves("one", "coming", "coming1") and not update.serves("one", "going", "going1")


def test_what_serves_nobody_makes_room_without_a_word_to_the_gateways() -> None:
    standby = Release("one", "going", "going0", "going-0.service", 18009, address="one", answers=GOING.answers)
    played = Played(GENERAL, GOING)
    played.up.add(standby.url)
    first = Replacement(COMING, None, "fixed", vacates=(GOING, standby))
    played.refused = {"later1": "it does not load"}
    with pytest.raises(DeployError):
        roll(played, [first, IN_ITS_PLACE[1]], **{**CHANGE, "removed": [GOING, standby]})
    assert played.asked == played.up == {GENERAL.url, GOING.url} and not played.drained
    assert [line for line in played.told if line.startswith("drain")] == [f"drain {GOING.url}"]


def test_what_has_made_room_is_not_asked_before_it_is_up_again() -> None:
    played = Played(GENERAL, GOING)
    url = {"url": GOING.url, **GOING.answers["going"]}
    before = {**CHANGE["before"], "upstreams": {"going": [url]}}

    def verify() -> None:
        assert played.asked == {GENERAL.url, COMING.url, LATER.url}
        raise DeployError("a question was not answered")

    with pytest.raises(DeployError, match="a question was not answered"):
        roll(played, IN_ITS_PLACE, **{**CHANGE, "before": before, "verify": verify})
    assert played.asked == played.up == {GENERAL.url, GOING.url} and not played.drained


@pytest.mark.parametrize(
    ("bad", "undone"),
    [
        ("coming1", []),
        ("later1", ["retire coming@one coming1", "switch going@one -→going1 blue_green"]),
    ],
)
def test_what_has_made_room_serves_again_where_those_that_come_do_not(bad: str, undone: list[str]) -> None:
    played = Played(GENERAL, GOING)
    played.refused = {bad: "it does not load"}
    with pytest.raises(DeployError, match="it does not load"):
        roll(played, IN_ITS_PLACE, **CHANGE)
    assert played.asked == played.up == {GENERAL.url, GOING.url} and not played.drained
    assert [line for line in played.told if "retire" in line or "going1 " in line] == undone
    assert played.files[-1]["topology"] == CHANGE["before"]["topology"]


def test_on_standby_the_old_servers_stay_up() -> None:
    played = Played(OLD)
    roll(played, [Replacement(NEW, OLD, "blue_green")], standby=True)
    assert played.asked == {NEW.url} and OLD.url in played.up


def on_standby() -> tuple[Played, list[Replacement]]:
    """Return hosts on which the releases before are still up, and the way back to those."""
    played = Played(NEW, NEW_2)
    played.up |= {OLD.url, OLD_2.url}
    back = [Replacement(OLD, NEW, "blue_green", is_return=True, is_up=True)]
    return played, [*back, Replacement(OLD_2, NEW_2, "blue_green", is_return=True, is_up=True)]


def test_going_back_to_what_is_up_on_standby_begins_with_the_gateways() -> None:
    played, back = on_standby()
    asked: list[set[str]] = []
    played.drained = {OLD.url}  # as an update before has left it
    switch = played.switch

    def switched(replacement: Replacement, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        asked.append(set(played.asked))
        return switch(replacement, on_event)

    played.switch = switched  # type: ignore[method-assign]
    roll(played, back)
    assert asked == [{OLD.url, OLD_2.url}] * 2
    assert played.asked == {OLD.url, OLD_2.url} == played.up and not played.drained
    assert len(played.files) == 1, "nothing else comes before"


def test_a_standby_that_is_dead_after_all_leaves_what_served_serving() -> None:
    played, back = on_standby()
    played.refused["old2"] = "it did not start"
    with pytest.raises(DeployError, match="it did not start"):
        roll(played, back)
    assert played.asked == {NEW.url, NEW_2.url} <= played.up
    assert OLD.url not in played.up


@pytest.mark.parametrize("mode", ["fixed", "blue_green"])
def test_a_release_that_does_not_start_leaves_the_old_ones_serving(mode: str) -> None:
    played = Played(OLD, OLD_2)
    played.refused["new2"] = "it ended 3 s after it was ready: CUDA out of memory"
    with pytest.raises(
        DeployError, match=r"two: general-2: it ended 3 s after .* memory\. The release before serves on"
    ):
        roll(played, [Replacement(NEW, OLD, mode), Replacement(NEW_2, OLD_2, mode)])
    assert played.asked == {OLD.url, OLD_2.url} and played.asked <= played.up, "what was replaced has gone back"
    assert not played.drained and NEW.url not in played.up


@pytest.mark.parametrize("mode", ["fixed", "blue_green"])
def test_questions_that_are_answered_wrongly_take_everything_back(mode: str) -> None:
    played = Played(OLD)

    def verify() -> None:
        assert played.asked == {NEW.url}
        raise DeployError("verify: the answer is empty")

    with pytest.raises(DeployError, match="the answer is empty"):
        roll(played, [Replacement(NEW, OLD, mode)], verify=verify)
    assert played.asked == {OLD.url} and OLD.url in played.up and NEW.url not in played.up


def test_a_gateway_that_refuses_its_file_takes_everything_back() -> None:
    played = Played(OLD)
    played.fail_file = True
    with pytest.raises(DeployError, match="refuses its file"):
        roll(played, [Replacement(NEW, OLD, "blue_green")], sections={**TOPOLOGY, "router": {"name": "broken"}})
    assert played.asked == {OLD.url} <= played.up and NEW.url not in played.up


def test_a_server_that_is_wanted_no_more_is_asked_no_more_before_it_stops() -> None:
    played = Played(OLD, OLD_2)
    roll(played, [], live=[OLD, OLD_2], removed=[OLD_2])
    assert played.asked == {OLD.url} == played.up and played.told == ["retire general-2@two old2"]


def test_a_failed_first_deployment_leaves_nothing_running() -> None:
    played = Played()
    played.refused["gw"] = "its port is taken"
    gateway = release("gw", service="gateway", kind="gateway", port=8080)
    with pytest.raises(DeployError, match="its port is taken"):
        roll(played, [Replacement(NEW, None, "blue_green"), Replacement(gateway, None, "handover")])
    assert not played.up


def test_a_server_that_was_edited_is_restarted_with_what_was_written() -> None:
    played = Played(OLD, OLD_2)
    roll(played, [Replacement(OLD, OLD, "fixed")], live=[OLD, OLD_2])
    assert played.asked == {OLD.url, OLD_2.url} == played.up and not played.drained


def test_what_cannot_go_back_is_told() -> None:
    class Lost(Played):
        def switch(self, replacement: Replacement, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            if replacement.is_return:
                raise DeployError("one: no route to host")
            return super().switch(replacement, on_event)

    played = Lost(OLD, OLD_2)
    played.refused["new2"] = "bad weights"
    with pytest.raises(DeployError, match=r"(?s)bad weights.*Going back did not succeed everywhere:\none: no route"):
        roll(played, [Replacement(NEW, OLD, "fixed"), Replacement(NEW_2, OLD_2, "fixed")])
    assert played.asked == {OLD_2.url} <= played.up, "two models do not answer in turns"


def test_the_only_server_of_an_expert_that_cannot_go_back_is_asked_all_the_same() -> None:
    class Lost(Played):
        def switch(self, replacement: Replacement, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            if replacement.is_return:
                raise DeployError("one: no route to host")
            return super().switch(replacement, on_event)

    def verify() -> None:
        raise DeployError("verify: the answer is empty")

    played = Lost(OLD)
    with pytest.raises(DeployError, match="Going back did not succeed"):
        roll(played, [Replacement(NEW, OLD, "fixed")], verify=verify)
    assert played.asked == {NEW.url}
