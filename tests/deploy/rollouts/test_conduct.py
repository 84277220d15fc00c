"""A rollout on hosts that are played: what is kept before it is done, gateways that fall silent, its two ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.deploy.rollouts.beginning import promoted
from largeforge.deploy.rollouts.conduct import conduct
from largeforge.deploy.rollouts.looking import Look
from largeforge.deploy.rollouts.rolling import Rolling
from largeforge.deploy.service import Site
from largeforge.deploy.update import Replacement, Update
from largeforge.errors import DeployError, GateError
from tests.deploy.rollouts.test_looking import document
from tests.deploy.test_update import NEW, OLD, TOPOLOGY, Played

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Document
    from largeforge.deploy.update import Release

SITE = Site("shop", {}, ("front",), "0.0.0.0", 8080, unreachable_s=20)


class PlayedGateways:
    """Gateways in front of models that fail as often as is said; a look is as long as `look_s`."""

    def __init__(self, *, failing: float = 0.0, commands: dict[int, str] | None = None, silent: range = range(0)):
        self.failing, self.commands, self.silent = failing, commands or {}, silent
        self.kept: list[Document] = []
        self.guarded: dict[str, str] = {}
        self.now = 1000.0
        self._canary = self._bad = self._stable = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        share = self.kept[-1].groups[0].share
        self._canary += int(200 * share)
        self._stable += int(200 * (1 - share))
        self._bad = int(self.failing * self._canary)

    def exchange(self, document: Document) -> tuple[Look, dict[str, str]]:
        self.kept.append(document)
        if len(self.kept) in self.silent:
            return Look({}), {"front": "no route to host"}
        arms = {
            "canary": {"requests": self._canary, "errors": self._bad},
            "stable": {"requests": self._stable, "errors": 0},
        }
        given = self.commands.pop(len(self.kept), None)
        return Look({"front": {"general": arms}}, (given,) if given else (), self.guarded), {}


def conducted(gateways: PlayedGateways, begun: Document | None = None, **options: Any) -> tuple[Document, list[str]]:
    said: list[str] = []
    ended = conduct(
        begun or document(), gateways, report=lambda host, text: said.append(f"{host}: {text}" if host else text),
        unreachable_s=20, clock=gateways.clock, sleep=gateways.sleep, **options,
    )  # fmt: skip
    return ended, said


def test_every_decision_is_on_the_hosts_before_the_next_look() -> None:
    gateways = PlayedGateways()
    ended, said = conducted(gateways)
    assert ended.verdict == "promoted" and gateways.kept[-1] == ended
    assert next(one.groups[0].share for one in gateways.kept if one.groups[0].state) == 0.1
    assert said[0].startswith("0.1 of the traffic: canary: 0.1") and said[-1].startswith("promoted: ")


def test_a_model_that_fails_is_sent_back_with_the_reason() -> None:
    ended, said = conducted(PlayedGateways(failing=0.3))
    assert ended.verdict == "rolled_back"
    assert said[-1].startswith("sent back: errors: ") and "of the canary" in said[-1]


def test_a_rollout_that_is_gone_on_with_ends_as_if_nothing_had_been() -> None:
    gateways = PlayedGateways()

    def die(document: Document) -> None:
        if len(gateways.kept) > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conducted(gateways, on_look=die)
    left = gateways.kept[-1]
    ended, _ = conducted(gateways, left)
    assert ended.verdict == "promoted"
    whole, _ = conducted(PlayedGateways())
    assert ended.groups[0].state and whole.groups[0].state
    assert ended.groups[0].state.watch.whole.canary.requests >= whole.groups[0].state.watch.whole.canary.requests


def test_gateways_may_be_silent_for_a_while_but_not_for_ever() -> None:
    ended, said = conducted(PlayedGateways(silent=range(3, 6)))
    assert ended.verdict == "promoted"
    assert len([line for line in said if line.startswith("front: its gateway does not answer")]) == 1
    with pytest.raises(DeployError, match=r"no gateway has answered for 20 s.*no route to host"):
        conducted(PlayedGateways(silent=range(3, 1000)))


def test_a_pause_by_command_ends_the_one_who_gave_it_and_holds_the_one_who_conducts() -> None:
    gateways = PlayedGateways()
    left, _ = conducted(gateways, command="pause")
    assert left.groups[0].phase == "paused" and left.groups[0].share == 0.1
    gateways = PlayedGateways(commands={4: "pause", 30: "resume"})
    ended, _ = conducted(gateways)
    phases = [one.groups[0].phase for one in gateways.kept]
    assert ended.verdict == "promoted" and phases.count("paused") > 20


@pytest.mark.parametrize(("failing", "ending"), [(0.0, "promoted"), (0.4, "rolled_back")])
def test_what_is_promoted_serves_and_what_is_sent_back_is_gone(failing: float, ending: str) -> None:
    played, gateways, settled = Played(OLD), PlayedGateways(failing=failing), []
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)
    bring_in = bringing(update, canaries)
    if failing:
        with pytest.raises(GateError, match="sent back: errors"):
            rolling.run(bring_in, settle=settled.append)
        assert played.up == played.asked == {OLD.url}
    else:
        rolling.run(bring_in, settle=settled.append)
        assert played.up == played.asked == {NEW.url}
    assert [one.ended for one in settled] == [ending] and gateways.kept[-1] == settled[0]
    with_canary = [file for file in played.files if any("arm" in one for one in file["upstreams"]["general"])]
    assert with_canary and "arm" not in str(played.files[-1]["upstreams"])


def test_a_promotion_that_fails_is_sent_back() -> None:
    played, gateways, settled = Played(OLD), PlayedGateways(), []
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)

    def refuse() -> None:
        raise DeployError("the answers are wrong")

    with pytest.raises(DeployError, match="the answers are wrong"):
        rolling.run(bringing(update, canaries, verify=refuse), settle=settled.append)
    assert [one.ended for one in settled] == ["rolled_back"] and "the answers are wrong" in settled[0].reasons[0]
    assert played.up == played.asked == {OLD.url}


def test_a_canary_that_does_not_start_leaves_nothing_behind() -> None:
    played, gateways = Played(OLD), PlayedGateways()
    played.refused = {NEW.key: "no memory"}
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)
    with pytest.raises(DeployError, match="no memory"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None)
    assert played.up == played.asked == {OLD.url}
    assert [one.ended for one in gateways.kept] == ["", "not_begun"], "it was kept before anything was done"


def left_promoted(played: Played, gateways: PlayedGateways) -> Document:
    """Return the rollout of a controller that dies before anything of what was promoted is in service."""

    def die() -> None:
        raise SystemExit

    rolling, _ = made(played, gateways, [Replacement(NEW, OLD, "canary")])
    with pytest.raises(SystemExit):
        rolling.run(die, settle=lambda ended: None)
    assert gateways.kept[-1].verdict == "promoted" and not gateways.kept[-1].ended
    return gateways.kept[-1]


@pytest.mark.parametrize("left_by", ["the command line", "a file"])
def test_a_model_that_was_promoted_and_is_not_in_service_can_be_sent_back(left_by: str) -> None:
    played, gateways, settled = Played(OLD), PlayedGateways(), []
    begun, canaries = left_promoted(played, gateways), [Replacement(NEW, OLD, "canary", is_up=True)]
    if left_by == "a file":
        gateways.commands[len(gateways.kept) + 1] = "abort"
    rolling, update = made(played, gateways, canaries, begun)
    with pytest.raises(GateError, match="by command"):
        rolling.run(
            bringing(update, canaries), settle=settled.append, command="abort" if left_by == "the command line" else ""
        )
    assert played.up == played.asked == {OLD.url} and [one.ended for one in settled] == ["rolled_back"]


def test_a_model_that_a_gateway_took_out_is_not_brought_into_service() -> None:
    played, gateways = Played(OLD), PlayedGateways()
    begun, canaries = left_promoted(played, gateways), [Replacement(NEW, OLD, "canary", is_up=True)]
    gateways.guarded = {"general": "9 of 20 failed"}
    rolling, update = made(played, gateways, canaries, begun)
    with pytest.raises(GateError, match="the gateway has taken it out by itself: 9 of 20 failed"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None)
    assert played.up == played.asked == {OLD.url}


def test_what_is_promoted_goes_on_and_commands_that_come_too_late_are_refused() -> None:
    played, gateways = Played(OLD), PlayedGateways()
    begun, canaries = left_promoted(played, gateways), [Replacement(NEW, OLD, "canary", is_up=True)]
    rolling, update = made(played, gateways, canaries, begun)
    with pytest.raises(DeployError, match=r"it was promoted; .*resume"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None, command="pause")
    update.run(promoted(canaries), removed=(), sections=TOPOLOGY, verify=lambda: None)
    with pytest.raises(DeployError, match="a part of it is in service"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None, command="abort")
    assert rolling.run(lambda: None, settle=lambda ended: None).ended == "promoted"
    assert played.up == played.asked == {NEW.url}


def test_abort_needs_no_canary_that_starts() -> None:
    played, gateways = Played(OLD), PlayedGateways()
    played.refused = {NEW.key: "no memory"}
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)
    with pytest.raises(GateError, match="sent back: by command"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None, command="abort")
    assert gateways.kept[-1].ended == "rolled_back" and played.up == played.asked == {OLD.url}
    assert not [line for line in played.told if line.startswith("switch")]


def test_a_command_that_was_left_before_the_canaries_are_up_is_not_lost() -> None:
    played, gateways = Played(OLD), PlayedGateways(commands={1: "abort"})
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)
    with pytest.raises(GateError, match="by command"):
        rolling.run(bringing(update, canaries), settle=lambda ended: None)
    assert played.up == played.asked == {OLD.url}


def test_a_promotion_that_fails_before_it_begins_leaves_no_canary() -> None:
    played, gateways = Played(OLD), PlayedGateways()
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)
    played.fail_file = True
    broken = {**TOPOLOGY, "router": {"name": "broken"}}
    with pytest.raises(DeployError, match="refuses its file"):
        rolling.run(
            lambda: update.run(promoted(canaries), removed=(), sections=broken, verify=lambda: None),
            settle=lambda ended: None,
        )
    assert played.up == played.asked == {OLD.url} and gateways.kept[-1].ended == "rolled_back"


def test_what_serves_is_not_sent_back_for_what_is_left_to_do() -> None:
    played, gateways, settled = Played(OLD), PlayedGateways(), []
    canaries = [Replacement(NEW, OLD, "canary")]
    rolling, update = made(played, gateways, canaries)

    def bring_in() -> None:
        bringing(update, canaries)()
        raise DeployError("front: no space left to write down what serves")

    with pytest.raises(DeployError, match="no space left"):
        rolling.run(bring_in, settle=settled.append)
    assert played.up == played.asked == {NEW.url} and not settled
    again, _ = made(played, gateways, [], gateways.kept[-1], live=NEW)
    assert again.run(lambda: None, settle=settled.append).ended == "promoted"


def made(
    played: Played, gateways: PlayedGateways, canaries: list[Replacement], begun: Document | None = None, *,
    live: Release = OLD,
) -> tuple[Rolling, Update]:  # fmt: skip
    update = Update(played, live=[live], sections=TOPOLOGY, report=lambda host, text: None, drain_timeout_s=1.0)
    rolling = Rolling(
        begun or document(), gateways, update, canaries, report=lambda host, text: None, site=SITE,
        clock=gateways.clock, sleep=gateways.sleep,
    )  # fmt: skip
    return rolling, update


def bringing(
    update: Update, canaries: list[Replacement], *, verify: Callable[[], None] = lambda: None
) -> Callable[[], None]:
    return lambda: update.run(promoted(canaries), removed=(), sections=TOPOLOGY, verify=verify)
