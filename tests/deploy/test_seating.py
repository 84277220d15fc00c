"""From what hosts say of themselves to where servers are put, and what hosts should have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.deploy import desired, present, seating
from largeforge.errors import DeployError
from tests.deploy.conftest import GIB, Case, gpu, look

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted


def wanted(case: Case, **looks: object) -> Wanted:
    found = {"front": look(), "box": look(), "other": look(), **looks}
    return seating.wanted_of(case.given, case.experts, case.places, found, lock="c" * 64)  # type: ignore[arg-type]


def test_a_server_is_put_on_a_gpu_with_its_share_of_it(folder: Path) -> None:
    made = wanted(Case(folder), box=look(gpu(0, free=3), gpu(1)))
    seat = made.seats["general"]
    assert (seat.host, seat.gpus) == ("box", (1,)) and 8 * GIB <= seat.bytes_each <= 20 * GIB
    service = made.services["box"]["general"]
    assert service.environment["CUDA_VISIBLE_DEVICES"] == "1"
    share = float(service.argv[service.argv.index("--gpu-memory-utilization") + 1])
    assert share == pytest.approx(seat.share) and share * 24 * GIB >= 8 * GIB


def test_labels_decide_and_replicas_are_on_different_hosts(folder: Path) -> None:
    gpus = {"box": look(gpu(0)), "other": look(gpu(0))}
    case = Case(folder, placing={"general": {"labels": {"rack": ["!a"]}}})
    assert wanted(case, **gpus).seats["general"].host == "other"
    both = wanted(Case(folder, replicas=2), **gpus)
    assert {seat.host for seat in both.seats.values()} == {"box", "other"}


def test_what_does_not_fit_is_refused_with_what_would_help(folder: Path) -> None:
    case = Case(folder)
    case.given.needs["general"]["alternatives"] = [
        {
            "override": "serving.max_model_len=1024",
            "needed_bytes": 4 * GIB,
            "wanted_bytes": 4 * GIB,
            "tensor_parallel_size": 1,
        }
    ]
    with pytest.raises(DeployError, match=r"(?s)do not fit on the hosts.*serving\.max_model_len=1024"):
        wanted(case, box=look(gpu(0, 6)))


def test_a_server_stays_where_it_is(folder: Path) -> None:
    case = Case(folder)
    first = wanted(case, other=look(gpu(0)))
    here = state_of(first, "other")
    again = wanted(case, box=look(gpu(0), gpu(1)), other=look(gpu(0), **here))
    assert again.seats["general"].host == "other"
    assert again.services["other"]["general"].key == first.services["other"]["general"].key


def test_memory_of_other_deployments_is_left_to_them(folder: Path) -> None:
    others = [{"deployment": "x", "service": "y", "port": 18000, "gpus": [0], "bytes": 20 * GIB}]
    made = wanted(Case(folder), box=look(gpu(0), gpu(1), others=others))
    assert made.seats["general"].gpus == (1,)
    assert desired.ports(made, "box", look(others=others)["state"])["general"] == 18001


def state_of(made: Wanted, host: str, *, active: bool = True) -> dict[str, object]:
    """Return the state of a host on which everything is as wanted."""
    layout, paths, units = made.layout(host), {}, {}
    for name, service in made.services[host].items():
        for step in (*desired.release_files(layout, service, 18000), *units_of(made, host)):
            paths[step.path] = {
                "kind": "file",
                "user": "root",
                "mode": "644",
                "sha256": sha(step.text),
                "text": step.text,
                "changed": 1.0,
            }
        paths[f"{layout.service(name)}/current"] = {"kind": "link", "target": f"releases/{service.key}"}
        units[layout.unit(name, service.key)] = {"ActiveState": "active" if active else "inactive"}
    return {"paths": paths, "units": units}


def units_of(made: Wanted, host: str) -> list[desired.steps.File]:
    steps = desired.prepared(made, host, dict.fromkeys(made.services[host], 18000))
    return [step for step in steps if isinstance(step, desired.steps.File) and step.path.endswith(".service")]


def sha(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_what_is_as_wanted_is_not_replaced_and_what_is_down_or_edited_is(folder: Path) -> None:
    case = Case(folder)
    made = wanted(case, box=look(gpu(0)))
    whole = state_of(made, "box")
    found = {"box": {**look(gpu(0))["state"], **whole}}
    assert present.replacements(made, found) == []
    down = {"box": {**found["box"], **state_of(made, "box", active=False)}}
    (one,) = present.replacements(made, down)
    assert one.old is not None and one.old.key == one.new.key
    edited = {"box": {**found["box"], "paths": dict(found["box"]["paths"])}}
    unit = next(path for path in edited["box"]["paths"] if path.endswith(".service"))
    edited["box"]["paths"][unit] = {**edited["box"]["paths"][unit], "sha256": "other"}
    assert len(present.replacements(made, edited)) == 1


def test_without_room_for_both_the_old_server_stops_first(folder: Path) -> None:
    case = Case(folder, device="cpu")
    case.given.needs["general"] = {"needed_bytes": 20 * GIB, "wanted_bytes": 20 * GIB}
    first = wanted(case)
    host = first.seats["general"].host
    state = state_of(first, host)
    (folder / "base" / "model.safetensors").write_text("new weights")
    second = wanted(case, **{host: look(**state)})
    room = {host: {**look(memory_gib=64)["state"], **state}}
    tight = {host: {**look(memory_gib=64)["state"], **state, "free_bytes": 10 * GIB}}
    assert [one.mode for one in present.replacements(second, room)] == ["blue_green"]
    assert [one.mode for one in present.replacements(second, tight)] == ["fixed"]


def test_an_ordinary_gpu_holds_one_server_whatever_memory_its_host_has(folder: Path) -> None:
    case = Case(folder)
    case.given.needs["general"] = {"needed_bytes": 20 * GIB, "wanted_bytes": 20 * GIB}
    first = wanted(case, box=look(gpu(0), memory_gib=250))
    state = state_of(first, "box")
    (folder / "base" / "model.safetensors").write_text("new weights")
    second = wanted(case, box=look(gpu(0), memory_gib=250, **state))
    assert second.seats["general"].gpus == (0,)
    modes = {
        gib: [
            one.mode
            for one in present.replacements(second, {"box": look(gpu(0, gib), memory_gib=250, **state)["state"]})
        ]
        for gib in (24, 80)
    }
    assert modes == {24: ["fixed"], 80: ["blue_green"]}
    down = state_of(first, "box", active=False)
    (one,) = present.replacements(second, {"box": look(gpu(0), **down)["state"]})
    assert one.mode == "blue_green", "the old one has nothing that it would need"


def test_units_are_hardened_and_hold_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB", "hf_secret")
    made = wanted(Case(folder, secrets={"HF_TOKEN": "env:HUB"}), box=look(gpu(0)))
    steps = desired.prepared(made, "box", {"general": 18000})
    unit = next(
        step.text
        for step in steps
        if isinstance(step, desired.steps.File) and "general" in step.path and step.path.endswith(".service")
    )
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "User=largeforge",
        "WatchdogSec=120",
        "Restart=on-failure",
    ):
        assert f"\n{line}\n" in unit
    assert (
        "LoadCredentialEncrypted=HF_TOKEN:/etc/largeforge/shop/HF_TOKEN.cred" in unit and "PrivateDevices" not in unit
    )
    assert all("hf_secret" not in step.command() + repr(step) for step in steps)
    assert not any("hf_secret" in step.text for step in steps if isinstance(step, desired.steps.File))
