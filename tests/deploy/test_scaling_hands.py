"""What the autoscaler does on hosts: what it finds under the lock counts, and no answer of a host ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self

import pytest

from largeforge.deploy import shell
from largeforge.deploy.scaling import hands as scaling
from largeforge.deploy.scaling import seats as seating
from largeforge.deploy.scaling.hands import Changed, ScalingHands
from largeforge.deploy.scaling.seats import REASON, Order
from largeforge.deploy.service import Layout, Site
from largeforge.deploy.update import Release
from largeforge.errors import DeployError

SERVERS = {
    "h2": {"general": ("u1", "http://h2:1")}, "h3": {"general-2": ("u2", "http://h3:1"), "general-3": ("u3", "http://h3:2")}
}  # fmt: skip


class Lab:
    """Three hosts, the first with the gateway, as commands on them tell of them; and a lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records = dict.fromkeys(("h1", "h2", "h3"), "r1")
        self.canaries, self.drained = 0, {"http://h3:1": REASON}
        self.states = {"u1": "active", "u2": "active", "u3": "active"}
        self.did: list[tuple[str, dict[str, Any]]] = []
        self.held: list[str] = []
        self.on_lock: Callable[[], None] = lambda: None
        self.says: dict[str, str] = {}
        monkeypatch.setattr(scaling, "Locks", self.locks)
        monkeypatch.setattr(shell, "run", self.run)
        layouts = {host: Layout("/r", "/s", "/l", "shop", "user", "/agent") for host in self.records}
        release = Release("h1", "gateway", "k", "ug", 1, kind="gateway")
        listed = [
            Release(host, service, "k", unit, int(url[-1]), address=host)
            for host, servers in SERVERS.items()
            for service, (unit, url) in servers.items()
        ]
        deployed: Any = SimpleNamespace(
            name="shop", layouts=layouts, site=Site("shop", layouts, ("h1", "h9"), "0.0.0.0", 8080),
            current=lambda: [release, *listed], is_up=lambda one: True, last=SimpleNamespace(sections={}),
        )  # fmt: skip
        reaches: Any = {host: SimpleNamespace(name=host) for host in self.records}
        self.hands = ScalingHands(deployed, reaches, gpus=False)

    def locks(self, reaches: Mapping[str, Any], deployment: str) -> Lab:
        self.held = sorted(reaches)
        return self

    def __enter__(self) -> Self:
        self.on_lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.held = []

    def check(self, *names: str) -> None:
        assert set(names) <= set(self.held)

    def run(self, reach: Any, argv: list[str], *, stdin: str = "", timeout_s: float = 0) -> str:
        host = reach.name
        if host in self.says:
            return self.says[host]
        order = json.loads(argv[-1]) if argv[0] == "python3" else {"do": " ".join(argv)}
        if order["do"] == "look":
            return json.dumps(self.look(host, order)) + "\n"
        assert host in self.held, "nothing is written without its lock"
        self.did.append((host, {key: order[key] for key in ("drained", "start", "stop") if order.get(key)}))
        return "{}\n"

    def look(self, host: str, order: Mapping[str, Any]) -> dict[str, Any]:
        servers = {
            service: {
                "unit": unit, "url": url, "experts": ["general"], "gpus": [], "state": self.states[unit],
                "restarts": 0, "started_s": None, "cache_use": None,
            }
            for service, (unit, url) in SERVERS.get(host, {}).items()
        }  # fmt: skip
        outstanding = {url: 0 for found in SERVERS.values() for _, url in found.values()}
        gateway = {"drained": self.drained, "outstanding": outstanding, "metrics": ""} if order["gateway"] else None
        return {
            "record": self.records[host], "servers": servers, "canaries": self.canaries, "gpu_use": {},
            "gateway": gateway,
        }  # fmt: skip

    def orders(self, **actions: str) -> list[Order]:
        """Look, and return orders by service."""
        looks, failed = self.hands.look()
        assert not failed
        seats = {seat.service: seat for seat in seating.seats(looks)}
        return [Order(action, seats[name.replace("_", "-")]) for name, action in actions.items()]  # type: ignore[arg-type]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def test_gateways_are_told_and_then_units_are_stopped(lab: Lab) -> None:
    orders = lab.orders(general="drain", general_2="stop")
    assert lab.hands.carry_out(orders, unlisted=False, gone=["http://old"]) == orders
    assert lab.did == [
        ("h1", {"drained": {"http://old": None, "http://h2:1": REASON, "http://h3:1": REASON}}),
        ("h3", {"stop": ["u2"]}),
    ]


def test_a_gateway_that_was_away_is_told_which_replicas_do_not_run(lab: Lab) -> None:
    lab.states["u2"] = "inactive"
    (stopped,) = [order.seat for order in lab.orders(general_2="start")]
    assert lab.hands.carry_out([], unlisted=False, behind={"h1": [stopped], "h9": [stopped]}) == []
    assert lab.did == [("h1", {"drained": {"http://h3:1": REASON}})]
    lab.did.clear()
    lab.on_lock = lambda: lab.states.update(u2="active")
    lab.hands.carry_out([], unlisted=False, behind={"h1": [stopped]})
    assert not lab.did[0][1], "it runs by now"


@pytest.mark.parametrize("host", ["h1", "h3"])
def test_a_deployment_that_ran_before_the_lock_was_had_is_not_undone(
    lab: Lab, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    orders = lab.orders(general_2="warm")
    monkeypatch.setattr(ScalingHands, "_list", lambda *_: pytest.fail("the gateways have the file of the other one"))
    lab.on_lock = lambda: lab.records.update({host: "r2"})
    with pytest.raises(Changed):
        lab.hands.carry_out(orders, unlisted=True)
    assert not lab.did


def test_a_host_that_has_missed_a_deployment_all_along_is_no_change(lab: Lab) -> None:
    lab.records["h3"] = "r0"
    lab.hands.carry_out(lab.orders(general_2="stop"), unlisted=False)
    assert lab.did[-1] == ("h3", {"stop": ["u2"]})


def test_a_rollout_that_began_before_the_lock_was_had_keeps_its_canaries(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    orders = lab.orders(general_2="warm")
    monkeypatch.setattr(ScalingHands, "_list", lambda *_: pytest.fail("canaries are not in this file"))
    lab.on_lock = lambda: setattr(lab, "canaries", 1)
    with pytest.raises(DeployError, match="a rollout is under way on h1, h3"):
        lab.hands.carry_out(orders, unlisted=True)
    assert not lab.did


def test_what_somebody_has_drained_while_it_was_asked_stays_drained(lab: Lab) -> None:
    orders = lab.orders(general="drain", general_2="warm")
    lab.on_lock = lambda: lab.drained.update({"http://h3:1": "to be repaired"})
    assert lab.hands.carry_out(orders, unlisted=False) == orders[:1]
    assert lab.did == [("h1", {"drained": {"http://h2:1": REASON}})]
    lab.did.clear()
    assert lab.hands.carry_out(orders[1:], unlisted=True, gone=["http://old"]) == [] and not lab.did


def test_the_gateways_that_answer_get_a_file_with_all_replicas(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[tuple[str, ...], list[str]]] = []
    monkeypatch.setattr(scaling, "gateway_file", lambda sections, servers: [one.url for one in servers])
    monkeypatch.setattr(
        scaling.HostHands, "put_gateway_file", lambda self, file: put.append((self._site.gateways, file))
    )  # fmt: skip
    lab.hands.carry_out(lab.orders(general_2="stop"), unlisted=True)
    assert put == [(("h1",), ["http://h2:1", "http://h3:1", "http://h3:2"])], "not a host that nobody has the lock of"


UNREADABLE = ["", "Last login: Mon Jan 5\n", "[]", '"r1"', "{}", '{"record": "r1"}', "{\n"]


@pytest.mark.parametrize("said", UNREADABLE)
def test_an_answer_that_cannot_be_read_names_its_host(lab: Lab, said: str) -> None:
    orders = lab.orders(general="drain", general_2="warm")
    lab.says["h3"] = said
    looks, failed = lab.hands.look()
    assert set(looks) == {"h1", "h2"} and failed["h3"].startswith("h3: its answer cannot be read: ")
    assert lab.hands.warm(orders[1].seat, []).startswith("h3: its answer cannot be read: ")
    with pytest.raises(DeployError, match="h3: its answer cannot be read"):
        lab.hands.carry_out(orders, unlisted=True)
    assert not lab.did


def test_a_greeting_before_the_answer_is_passed_over(lab: Lab) -> None:
    lab.says["h2"] = "Welcome to h2\n" + json.dumps(lab.look("h2", {"gateway": None}))
    assert lab.hands.look()[1] == {}


def test_what_was_written_down_comes_as_it_is(lab: Lab) -> None:
    lab.says["h1"] = "{dam"
    assert lab.hands.kept() == {"h1": "{dam"}


INTERRUPTED = """
from types import SimpleNamespace
from largeforge.deploy.scaling.hands import ScalingHands
from largeforge.deploy.service import Layout, Site

class Silent:
    name, sudo = "h1", []

    def command(self, argv, *, root):
        return ["sleep", "60"]

layouts = {"h1": Layout("/r", "/s", "/l", "shop", "user", "/agent")}
deployed = SimpleNamespace(layouts=layouts, site=Site("shop", layouts, (), "", 1), current=lambda: [])
hands = ScalingHands(deployed, {"h1": Silent()}, gpus=False)
print("looks", flush=True)
hands.look()
"""


def test_a_host_that_says_nothing_holds_no_interrupted_look_back() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "looks\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=15)[1]
    finally:
        process.kill()
        process.communicate()
    assert "KeyboardInterrupt" in said, said
