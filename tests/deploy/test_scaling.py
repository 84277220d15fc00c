"""Replicas that are started and stopped: what gateways measure, who is chosen, what is done and in which order."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.autoscale import targets
from largeforge.deploy.scaling import controller
from largeforge.deploy.scaling import seats as seating
from largeforge.deploy.scaling.controller import AGAIN_S, Autoscaler, Expert
from largeforge.deploy.scaling.hands import Changed
from largeforge.deploy.scaling.readings import reading, within
from largeforge.deploy.scaling.runs import STEADY_S, Runs
from largeforge.deploy.scaling.seats import REASON, Order, Seat
from largeforge.errors import DeployError
from largeforge.gateway.metrics import Metrics
from largeforge.recipe.schema import Autoscaling, Slo

SLO = Slo.model_validate({"objectives": {"answer": {"indicator": "latency", "objective": 0.95, "threshold_ms": 1000}}})
GATEWAY = "largeforge_gateway"


def page(*, waiting: float = 0, ended: float = 0, times: Mapping[str, float] | None = None, worker: str = "") -> str:
    """Return a gateway's page; `times` is by upper bound, cumulative."""
    label = f',worker="{worker}"' if worker else ""
    lines = [
        f'{GATEWAY}_requests_waiting{{expert="general"{label}}} {waiting}',
        f'{GATEWAY}_requests_total{{expert="general",model="m",status="200"{label}}} {ended}',
        f'{GATEWAY}_requests_total{{expert="other",model="m",status="200"{label}}} 999.0',
    ]
    for bound, count in (times or {}).items():
        lines.append(
            f'{GATEWAY}_request_duration_seconds_bucket{{expert="general",le="{bound}",model="m"{label}}} {count}'
        )
    return "\n".join(lines)


def test_all_gateways_and_workers_are_one() -> None:
    pages = {
        "a": page(waiting=2, ended=5, worker="0") + "\n" + page(waiting=1, ended=7, worker="1"),
        "b": page(ended=3),
    }
    before = reading(0, {host: page(ended=1) for host in pages})
    now = reading(5, pages)
    assert now.waiting({"general"}) == 3
    assert reading(5, {"a": page(ended=9)}).ended({"general"}, reading(0, {"a": page(ended=4)})) == 5
    assert now.ended({"general"}, now) == 0 and now.ended({"general"}, before) == 14


def test_a_gateway_that_was_started_anew_counts_from_nothing() -> None:
    assert reading(5, {"a": page(ended=2)}).ended({"general"}, reading(0, {"a": page(ended=900)})) == 2


def test_percentiles_are_those_between_two_readings() -> None:
    before = reading(0, {"a": page(times={"0.5": 100, "1.0": 100, "+Inf": 100})})
    now = reading(60, {"a": page(times={"0.5": 100, "1.0": 190, "+Inf": 200})})
    assert now.quantile_ms("latency", 0.5, {"general"}, before) == pytest.approx(500 + 500 * 50 / 90)
    assert now.quantile_ms("latency", 0.95, {"general"}, before) == 1000, "beyond the last bound nothing is known"
    assert now.quantile_ms("latency", 0.95, {"general"}, now) is None
    assert now.quantile_ms("ttft", 0.95, {"general"}, before) is None


def test_a_page_of_the_gateway_itself_is_read() -> None:
    from prometheus_client import CollectorRegistry

    metrics = Metrics(CollectorRegistry())
    metrics.requests.labels("general", 'quo"ted', "200").inc(3)
    metrics.duration.labels("general", 'quo"ted').observe(0.3)
    now = reading(1, {"a": metrics.render().decode()})
    assert now.ended({"general"}, reading(0, {})) == 3
    assert now.quantile_ms("latency", 0.95, {"general"}, reading(0, {})) == pytest.approx(487.5)


def test_readings_go_back_as_far_as_the_window() -> None:
    every = [reading(time, {}) for time in (0, 50, 100, 150, 200)]
    assert [one.time for one in within(every, 200, window_s=120)] == [50, 100, 150, 200]


def seat(service: str, status: seating.Status, **more: Any) -> Seat:
    return Seat(more.pop("host", "box"), service, f"{service}.unit", f"http://{service}", ("general",), status, **more)


def ordered(found: Sequence[Seat], wanted: int, **more: Any) -> list[tuple[str, str]]:
    given = {"given_up": (), "overdue": (), **more}
    return [(order.action, order.seat.service) for order in seating.orders(found, wanted, **given)]


def test_what_serves_stays_and_the_last_goes_first() -> None:
    three = [seat("general-10", "serving"), seat("general", "serving"), seat("general-2", "serving")]
    assert ordered(three, 3) == []
    assert ordered(three, 1) == [("drain", "general-2"), ("drain", "general-10")]


def test_what_runs_already_is_taken_before_another_is_started() -> None:
    found = [seat("general", "stopped"), seat("general-2", "warm"), seat("general-3", "starting")]
    assert ordered(found, 1) == [("warm", "general-2"), ("stop", "general-3")]
    assert ordered(found, 2) == [("warm", "general-2")]
    assert ordered(found, 3) == [("warm", "general-2"), ("start", "general")]


def test_a_replica_is_stopped_once_it_has_nothing_to_answer_or_is_overdue() -> None:
    busy = [seat("general", "serving"), seat("general-2", "warm", outstanding=2)]
    assert ordered(busy, 1) == []
    assert ordered(busy, 1, overdue={"general-2.unit"}) == [("stop", "general-2")]
    assert ordered([busy[0], seat("general-2", "warm")], 1) == [("stop", "general-2")]


def test_what_is_somebody_elses_or_was_given_up_is_not_touched() -> None:
    found = [seat("general", "held"), seat("general-2", "stopped")]
    assert ordered(found, 2, given_up={"general-2.unit"}) == []
    assert ordered(found, 0) == []


def test_one_that_fails_makes_room_for_another_and_is_left_to_systemd_where_there_is_none() -> None:
    failing = seat("general", "failing")
    assert ordered([failing, seat("general-2", "stopped")], 1) == [("start", "general-2"), ("stop", "general")]
    assert ordered([failing], 1) == [] and ordered([failing], 0) == [("stop", "general")]
    assert ordered([failing], 1, given_up={"general.unit"}) == [("stop", "general")]
    assert seating.hopeless([failing, seat("general-2", "stopped")], given_up=()) == [failing]
    others = [seat("general-2", "stopped"), seat("general-3", "held"), seat("general-4", "failing")]
    assert seating.hopeless([failing, *others], given_up={"general-2.unit"}) == []


def test_an_order_that_somebody_has_seen_to_meanwhile_is_left_out() -> None:
    before = [seat("general", "serving"), seat("general-2", "warm"), seat("general-3", "stopped")]
    listed = [Order(*one) for one in zip(("drain", "stop", "start"), before, strict=True)]  # type: ignore[arg-type]
    assert seating.still(listed, before) == listed
    assert seating.still(listed, [before[0]]) == listed[:1], "its release is another one by now"
    now = [seat("general", "held"), seat("general-2", "serving"), seat("general-3", "held")]
    assert seating.still(listed, now) == []


def look(**servers: Any) -> dict[str, Any]:
    drained = {f"http://{name}": told.pop("drained") for name, told in servers.items() if "drained" in told}
    known = {
        name: {
            "unit": f"{name}.unit", "url": f"http://{name}", "experts": ["general"], "gpus": [], "state": "active",
            "restarts": 0, "started_s": 30.0, "cache_use": None, **told,
        }
        for name, told in servers.items()
    }  # fmt: skip
    outstanding = {f"http://{name}": 0 for name in servers}
    gateway = {"drained": drained, "outstanding": outstanding, "metrics": page()}
    return {"record": "r1", "servers": known, "canaries": 0, "gpu_use": {}, "gateway": gateway}


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, "serving"),
        ({"drained": REASON}, "warm"),
        ({"drained": "rollout"}, "held"),
        ({"state": "activating", "drained": REASON}, "starting"),
        ({"state": "activating", "restarts": 3, "drained": REASON}, "failing"),
        ({"state": "activating", "restarts": 2}, "starting"),
        ({"state": "activating", "restarts": 50}, "failing"),
        ({"state": "activating", "restarts": 50, "drained": "to be repaired"}, "held"),
        ({"restarts": 50}, "serving"),
        ({"state": "inactive", "drained": REASON}, "stopped"),
        ({"state": "inactive"}, "held"),
        ({"state": "deactivating", "drained": REASON}, "leaving"),
    ],
)
def test_what_a_replica_is_follows_from_its_unit_and_from_who_has_drained_it(
    told: dict[str, Any], status: str
) -> None:  # fmt: skip
    (found,) = seating.seats({"box": look(general=told)})
    assert found.status == status


def test_restarts_that_a_server_has_run_well_after_are_no_failures() -> None:
    runs = Runs()

    def status(now: float, **told: Any) -> str:
        looks = {"box": look(general=told)}
        runs.observe(looks, now)
        return seating.seats(looks, steady=runs.steady)[0].status

    assert status(0, restarts=7) == "serving"
    assert status(STEADY_S / 2, restarts=7, state="activating") == "failing", "it has not run for long"
    assert [status(100 + second, restarts=8) for second in (0, STEADY_S)] == ["serving"] * 2
    assert status(200, restarts=9, state="activating") == "starting", "the first time since it ran well"
    assert status(205, restarts=11, state="activating") == "failing"
    assert status(210, restarts=2, state="activating") == "starting", "somebody has started it anew"
    assert status(215, restarts=3, state="activating") == "failing"


def test_a_server_that_ends_soon_after_each_start_has_not_run_well() -> None:
    runs, found = Runs(), ""
    for now, restarts in enumerate(range(5)):
        for state in ("active", "activating"):
            looks = {"box": look(general={"restarts": restarts, "state": state})}
            runs.observe(looks, STEADY_S * now)
            found = seating.seats(looks, steady=runs.steady)[0].status
    assert found == "failing"


class Box:
    """A host with three replicas, a gateway and a clock; replicas take 20 s to start."""

    def __init__(self) -> None:
        self.now, self.kept_state = 1000.0, {}  # type: tuple[float, dict[str, Any]]
        self.names = ("general", "general-2", "general-3")
        self.state = dict.fromkeys(self.names, "active")
        self.drained: dict[str, str] = {}
        self.outstanding = dict.fromkeys(self.names, 0)
        self.waiting, self.ended, self.record, self.canaries = 0.0, 0.0, "r1", 0
        self.ready_at: dict[str, float] = {}
        self.restarts = dict.fromkeys(self.names, 0)
        self.unreachable, self.busy, self.wrong, self.written = False, "", "", ""
        self.cuts = False
        self.did: list[str] = []
        self.said: list[str] = []
        self.asked: list[Sequence[Mapping[str, Any]]] = []

    def look(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        if self.unreachable:
            return {}, {"box": "no route to host"}
        for name, at in list(self.ready_at.items()):
            if self.now >= at:
                self.state[name] = "active"
                del self.ready_at[name]
        told = {name: {"state": self.state[name], "restarts": self.restarts[name]} for name in self.names}
        found = look(**told)
        found["gateway"] |= {
            "drained": {f"http://{name}": reason for name, reason in self.drained.items()},
            "outstanding": {f"http://{name}": count for name, count in self.outstanding.items()},
            "metrics": page(waiting=self.waiting, ended=self.ended),
        }
        found |= {"record": self.record, "canaries": self.canaries}
        return {"box": found}, {}

    def warm(self, seat: Seat, questions: Sequence[Mapping[str, Any]]) -> str:
        assert seat.service in self.drained, "it is asked before the gateways send it anything"
        self.asked.append(questions)
        return self.wrong

    def carry_out(
        self, orders: Sequence[Order], *, unlisted: bool, gone: Sequence[str] = (), behind: Any = None
    ) -> list[Order]:  # fmt: skip
        assert not unlisted and orders and not behind
        for url in gone:
            self.drained.pop(url.removeprefix("http://"))
        if self.busy:
            raise DeployError(self.busy)
        for one in orders:
            name = one.seat.service
            self.did.append(f"{one.action} {name}")
            if one.action == "start":
                self.state[name], self.ready_at[name] = "activating", self.now + 20
            elif one.action == "warm":
                del self.drained[name]
            else:
                self.drained[name] = REASON
                if one.action == "stop":
                    assert self.outstanding[name] == 0 or self.cuts
                    self.state[name], self.outstanding[name] = "inactive", 0
                    self.ready_at.pop(name, None)
        return list(orders)

    def keep(self, state: Mapping[str, Any]) -> None:
        self.kept_state, self.written = dict(state), json.dumps(state)

    def kept(self) -> dict[str, str]:
        return {"box": self.written}

    def scaler(self, **settings: Any) -> Autoscaler:
        scaling = Autoscaling(cache_use=0, **{"up_s": 10, "down_s": 30, **settings})
        expert = Expert("general", scaling, targets(scaling, SLO, max_num_seqs=10), {"general": "generate"})
        made = Autoscaler(
            "r1", {"general": expert}, {"general": ""}, self, self.said.append, clock=lambda: self.now
        )  # fmt: skip
        made.go_on()
        return made

    def live(self, scaler: Autoscaler, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            scaler.look()
            self.now += 5


def test_replicas_that_nobody_needs_are_drained_and_then_stopped_and_come_back_under_load() -> None:
    box = Box()
    box.outstanding["general"] = 4
    scaler = box.scaler()
    box.live(scaler, 60)
    assert box.did == ["drain general-2", "drain general-3", "stop general-2", "stop general-3"]
    box.did.clear()
    box.outstanding["general"], box.ended = 10, 20
    box.live(scaler, 60)
    assert box.did == ["start general-2", "warm general-2"], "once, though it takes four looks to start"
    (questions,) = box.asked
    assert questions[0]["path"] == "/v1/chat/completions" and questions[0]["body"]["model"] == "general"
    assert box.drained == {"general-3": REASON} and "general-2 on box: answers, and gets requests" in box.said
    assert any("10 requests in flight" in line for line in box.said)


def test_the_last_one_stops_and_the_first_request_that_waits_brings_it_back() -> None:
    box = Box()
    scaler = box.scaler(min_replicas=0, idle_s=60)
    box.live(scaler, 120)
    assert set(box.state.values()) == {"inactive"}
    box.did.clear()
    box.waiting = 1
    box.live(scaler, 5)
    assert box.did == ["start general"]
    box.live(scaler, 25)
    assert box.did == ["start general", "warm general"]


def test_a_new_controller_goes_on_where_the_last_one_ended() -> None:
    box = Box()
    first = box.scaler()
    box.outstanding["general"] = 4
    box.live(first, 20)
    assert box.did == [] and box.kept_state["experts"]["general"]["wanted"] == 3
    box.live(first, 15)
    second = box.scaler()
    state = second.experts["general"].state
    assert state is not None and state.wanted == 1 and state.log[-1].reasons == ("1 have been enough for 30 s",)
    box.live(second, 5)
    assert box.did[-2:] == ["stop general-2", "stop general-3"], "what the first has drained is stopped by the second"


def test_a_replica_that_never_finishes_is_stopped_though_its_controller_was_followed_by_another() -> None:
    box = Box()
    box.outstanding |= {"general": 4, "general-2": 1}
    box.live(box.scaler(), 40)
    assert box.did[:2] == ["drain general-2", "drain general-3"] and "stop general-2" not in box.did
    second, box.cuts = box.scaler(), True
    box.live(second, second.drain_timeout_s)
    assert "stop general-2" not in box.did, "its request has its time"
    box.live(second, 5)
    assert box.did[-1] == "stop general-2"


def test_time_to_finish_begins_anew_with_each_time_that_a_replica_leaves() -> None:
    box = Box()
    box.outstanding |= {"general": 4, "general-2": 1}
    scaler = box.scaler()
    box.live(scaler, 70)
    box.outstanding["general"] = 12
    box.live(scaler, 30)
    assert box.did[-1] == "warm general-2"
    box.outstanding["general"], box.did = 4, []
    box.live(scaler, 60)
    assert box.did[0] == "drain general-2" and "stop general-2" not in box.did


DAMAGED = [
    "{", "null", "[]", "7", '"general"', "\ufffd\x00", '{"version": 7}', '{"version": 1}',
    '{"version": 1, "time": "now"}',
    '{"version": 1, "time": 5, "experts": {"general": []}}', '{"version": 1, "time": 5, "experts": {"general": {}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_what_was_written_down_and_is_damaged_is_told_in_one_line_and_begun_anew(text: str) -> None:
    box = Box()
    box.written = text
    scaler = box.scaler()
    (told,) = box.said
    assert told.startswith("box: what was written down there is damaged, and is begun anew: ") and "\n" not in told
    box.live(scaler, 40)
    assert box.did == ["drain general-2", "drain general-3", "stop general-2", "stop general-3"]
    assert json.loads(box.written)["experts"]["general"]["wanted"] == 1


@pytest.mark.parametrize("damage", ["wanted", "looked", "needs", "history", "pace", "log", "idle_since"])
@pytest.mark.parametrize("by", ["many", None, [], {}, [[1]], float("nan"), 1e400, -1])
def test_whatever_of_a_state_is_damaged_a_controller_begins(damage: str, by: Any) -> None:
    box = Box()
    box.live(box.scaler(), 40)
    kept = json.loads(box.written)
    kept["experts"]["general"][damage] = by
    box.written = json.dumps(kept)
    scaler = box.scaler()
    box.live(scaler, 40)
    assert json.loads(box.written)["experts"]["general"]["wanted"] == 1


def test_of_several_hosts_the_newest_that_can_be_read_counts() -> None:
    box = Box()
    box.live(box.scaler(), 40)
    newest = box.written
    older = json.loads(newest)
    older["time"] -= 60
    older["experts"]["general"]["wanted"] = 2
    box.kept = lambda: {"a": json.dumps(older), "b": newest, "c": "{", "d": ""}  # type: ignore[method-assign]
    box.said.clear()
    state = box.scaler().experts["general"].state
    assert state is not None and state.wanted == 1 and len(box.said) == 1 and box.said[0].startswith("c: ")


def test_while_a_deployment_is_under_way_nothing_is_started_or_stopped() -> None:
    box = Box()
    box.busy = "box: ann@desk is changing this deployment; wait until that has ended"
    scaler = box.scaler()
    box.live(scaler, 60)
    assert not box.did and sum("ann@desk is changing" in line for line in box.said) == 1
    box.busy = ""
    box.live(scaler, 5)
    assert box.did == ["drain general-2", "drain general-3"]


def test_while_a_rollout_is_under_way_nothing_is_started_or_stopped() -> None:
    box = Box()
    box.canaries = 1
    scaler = box.scaler()
    box.live(scaler, 60)
    assert not box.did and sum("a rollout is under way" in line for line in box.said) == 1
    box.canaries = 0
    box.live(scaler, 5)
    assert box.did == ["drain general-2", "drain general-3"]


def test_another_deployment_is_noticed() -> None:
    box = Box()
    scaler = box.scaler()
    scaler.look()
    box.record = "r2"
    with pytest.raises(Changed):
        scaler.look()


def test_hosts_that_have_missed_a_deployment_are_no_other_deployment() -> None:
    box = Box()
    scaler = box.scaler()
    whole = box.look
    older = {**whole()[0]["box"], "record": "r0"}
    box.look = lambda: ({**whole()[0], "other": older}, {})  # type: ignore[method-assign]
    scaler.look()
    assert "general: " in box.said[0]


def test_a_gateway_that_does_not_know_who_is_drained_is_behind() -> None:
    knows = look(general={}, general_2={"state": "inactive", "drained": REASON})
    forgot = {**knows, "servers": {}, "gateway": {**knows["gateway"], "drained": {}}}
    away = {**forgot, "gateway": {"error": "no route to host"}}
    looks = {"one": knows, "two": forgot, "three": away, "four": {**forgot, "gateway": None}}
    found = seating.seats(looks)
    assert {host: [seat.service for seat in missed] for host, missed in seating.behind(looks, found).items()} == {
        "two": ["general_2"]
    }


def test_looks_at_deployments_that_change_all_the_time_are_counted_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, slept = Box(), []
    made = iter(range(100))

    def of(*_: Any, **__: Any) -> tuple[Any, float]:
        box.record = f"r{next(made) + 2}"
        return box.scaler(), 5.0

    monkeypatch.setattr(controller, "reaches", lambda *_: nullcontext({"box": None}))
    monkeypatch.setattr(controller, "host_names", lambda *_: ["box"])
    last = SimpleNamespace(gateways=["box"])
    found = SimpleNamespace(name="shop", states={"box": {}}, last=last)
    monkeypatch.setattr(controller, "_found", lambda *_: found)
    monkeypatch.setattr(controller, "of", of)
    monkeypatch.setattr(controller, "Locks", lambda *_: nullcontext(SimpleNamespace(check=lambda: None)))
    controller.run(SimpleNamespace(), "shop", report=box.said.append, looks=3, sleep=slept.append)  # type: ignore[arg-type]
    assert slept == [5.0, 5.0] and sum("another deployment" in line for line in box.said) == 3


def test_without_a_gateway_that_answers_nothing_is_decided() -> None:
    box = Box()
    scaler = box.scaler()
    box.live(scaler, 20)
    box.unreachable = True
    box.live(scaler, 60)
    assert not box.did and sum("no route to host" in line for line in box.said) == 1


def test_a_dry_run_says_what_it_would_do_and_does_nothing() -> None:
    box = Box()
    scaler = box.scaler()
    scaler.acts = False
    box.live(scaler, 60)
    assert not box.did and not box.kept_state
    assert "general: 3 → 1 replicas: 1 have been enough for 30 s" in box.said


def test_a_replica_that_answers_wrongly_gets_no_requests_and_another_is_tried() -> None:
    box = Box()
    scaler = box.scaler()
    box.live(scaler, 60)
    box.outstanding["general"], box.wrong = 10, "it does not answer /v1/chat/completions: 500"
    box.did.clear()
    box.live(scaler, 60)
    assert box.did[:3] == ["start general-2", "stop general-2", "start general-3"] and "general-2" in box.drained
    assert "general-2 on box: it does not answer /v1/chat/completions: 500" in box.said
    without = Box()
    without.wrong = "nobody asks"
    unasked = without.scaler(prewarm=False)
    without.live(unasked, 60)
    without.outstanding["general"] = 10
    without.live(unasked, 60)
    assert without.did[-1] == "warm general-2" and not without.asked


def test_a_replica_that_does_not_start_is_left_alone_for_a_while() -> None:
    box = Box()
    scaler = box.scaler()
    box.live(scaler, 60)
    box.outstanding["general"], box.did = 10, []
    box.live(scaler, 15)
    assert box.did == ["start general-2"]
    box.restarts["general-2"], box.ready_at = 5, {}
    box.live(scaler, 5)
    assert box.did == ["start general-2", "stop general-2", "start general-3"]
    box.restarts["general-2"] = 0
    box.live(scaler, 60)
    assert "general-2 on box: it does not start; it is tried again after 10 minutes" in box.said
    box.outstanding["general-3"], box.did = 10, []
    box.now += AGAIN_S
    box.live(scaler, 90)
    assert "start general-2" in box.did


def test_replicas_are_asked_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box()
    scaler = box.scaler()
    box.live(scaler, 60)
    together, asked = threading.Barrier(2, timeout=10), set()

    def warm(seat: Seat, questions: Sequence[Mapping[str, Any]]) -> str:
        if seat.service not in asked:
            asked.add(seat.service)
            together.wait()  # raises where one waits for the other to end
        return "it answers nothing" if seat.service == "general-3" else ""

    monkeypatch.setattr(box, "warm", warm)
    box.outstanding["general"], box.did = 24, []
    box.live(scaler, 40)
    assert box.did == ["start general-2", "start general-3", "warm general-2"]
    assert "general-3 on box: it answers nothing" in box.said


def test_one_that_serves_and_then_fails_to_start_again_and_again_is_replaced_and_tried_again_later() -> None:
    box = Box()
    box.outstanding["general"] = 4
    scaler = box.scaler()
    box.live(scaler, 60)
    box.outstanding["general"], box.state["general"], box.did = 0, "activating", []
    for restarts in (1, 2):
        box.restarts["general"] = restarts
        box.live(scaler, 5)
    assert not box.did, "a start may fail"
    box.restarts["general"] = 50
    box.live(scaler, 30)
    assert box.did == ["stop general", "start general-2", "warm general-2"]
    assert box.drained == {"general": REASON, "general-3": REASON}, "the gateways do not count on it"
    assert "general on box: it does not start; it is tried again after 10 minutes" in box.said
    box.restarts["general"], box.outstanding["general-2"], box.did = 0, 24, []
    box.live(scaler, 60)
    assert box.did == ["start general-3", "warm general-3"], "it is left alone"
    box.now += AGAIN_S
    box.live(scaler, 90)
    assert box.did[2:] == ["start general", "warm general"]


def test_the_only_one_is_left_to_systemd_though_it_fails_to_start() -> None:
    box = Box()
    box.names = ("general",)
    scaler = box.scaler()
    box.live(scaler, 60)
    box.state["general"], box.restarts["general"] = "activating", 50
    box.live(scaler, 60)
    assert not box.did and not box.drained
    assert box.said.count("general on box: it does not start, and there is no other to take its place") == 1
    box.state["general"] = "active"
    box.live(scaler, 60)
    assert not box.did and not any("→" in line for line in box.said)


def test_servers_of_releases_that_are_gone_are_forgotten_where_all_hosts_answer() -> None:
    box = Box()
    box.drained |= {"old": REASON, "other": "to be repaired"}
    scaler = box.scaler()
    box.live(scaler, 60)
    assert set(box.drained) == {"general-2", "general-3", "other"}


def test_what_somebody_has_drained_or_stopped_stays_so() -> None:
    box = Box()
    box.drained["general-2"], box.state["general-3"] = "to be repaired", "inactive"
    scaler = box.scaler()
    box.outstanding["general"] = 30
    box.live(scaler, 90)
    assert not box.did
