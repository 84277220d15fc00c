"""The way back without a recipe: what comes back beside what serves, and what only after it."""

from __future__ import annotations

import json
from typing import Any

from largeforge.deploy import operate
from largeforge.deploy.history import Record
from largeforge.deploy.operate import Deployed
from largeforge.deploy.service import Layout
from tests.deploy.conftest import GIB, gpu, look

LAYOUT = Layout("/opt/largeforge", "/var/lib/largeforge", "/var/log/largeforge", "shop", "largeforge", "/opt/agent")


def deployed(*gpus: dict[str, Any], gib: int, current: str = "b", up: tuple[str, ...] = ("b",)) -> Deployed:
    """Return a deployment with two releases of one server on GPU 0, of which some are up."""
    said = {"kind": "vllm", "place": {}, "answers": {}, "bytes": gib * GIB, "gpus": [0]}
    paths: dict[str, Any] = {f"{LAYOUT.service('general')}/current": {"kind": "link", "target": f"releases/{current}"}}
    for key in ("a", "b"):
        folder = LAYOUT.release("general", key)
        paths[f"{folder}/service.json"] = {"kind": "file", "text": json.dumps(said), "changed": 1.0}
        paths[f"{folder}/port"] = {"kind": "file", "text": "18000", "changed": 1.0}
    units = {LAYOUT.unit("general", key): {"ActiveState": "active"} for key in up}
    found = look(*gpus, memory_gib=250, paths=paths, units=units)
    return Deployed("shop", {"box": found["state"]}, {"box": found["machine"]}, {"box": LAYOUT}, [])


def way_back(there: Deployed, key: str = "a") -> tuple[str, bool]:
    """Return the mode in which a release comes back, and whether it is up already."""
    services = {"box": {"general": key}}
    record = Record("20260101T000000Z-00000000", "shop", "", "me", services, {}, ["box"], "0.0.0.0", 8080, "largeforge")
    (one,) = operate._returns(there, record)
    return one.mode, one.is_up


def test_what_has_no_room_beside_the_other_on_its_gpu_comes_back_after_it() -> None:
    assert way_back(deployed(gpu(0), gib=20)) == ("fixed", False)
    assert way_back(deployed(gpu(0, 80), gib=20)) == ("blue_green", False)
    assert way_back(deployed(gib=20)) == ("fixed", False), "a host that tells of no GPU"


def test_what_is_on_standby_comes_back_at_once() -> None:
    assert way_back(deployed(gpu(0), gib=11, up=("a", "b"))) == ("blue_green", True)


def test_what_is_current_and_down_is_started_again_and_not_stopped_after_that() -> None:
    """A release that stood beside itself would be retired as the old one in the end."""
    assert way_back(deployed(gpu(0, 80), gib=20, current="a", up=())) == ("fixed", False)
