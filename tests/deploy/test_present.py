"""What of a host's releases stays: as many as are to be kept, and the next run finds nothing more to remove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.deploy import present, seating
from tests.deploy.conftest import Case, gpu, look

if TYPE_CHECKING:
    from largeforge.deploy.service import Layout


def state_of(layout: Layout, service: str, *, releases: dict[str, float], current: str) -> dict[str, Any]:
    """Return what a host tells of releases (key to when each was changed), with one that is current."""
    said = {"kind": "vllm", "place": {}, "answers": {}, "bytes": 0, "gpus": []}
    paths: dict[str, Any] = {}
    for number, (key, changed) in enumerate(releases.items()):
        folder = layout.release(service, key)
        paths[f"{folder}/service.json"] = {"kind": "file", "text": json.dumps(said), "changed": changed}
        paths[f"{folder}/port"] = {"kind": "file", "text": f"{18000 + number}", "changed": changed}
    target = f"releases/{current}"
    paths[f"{layout.home}/services/{service}/current"] = {"kind": "link", "target": target}
    state: dict[str, Any] = look(gpu(0), paths=paths)["state"]
    return state


@pytest.mark.parametrize("kept", [2, 3, 4])
def test_a_run_that_changes_nothing_removes_nothing(folder: Path, kept: int) -> None:
    case = Case(folder, update={"keep_releases": kept})
    looks = {name: look(gpu(0)) for name in case.given.hosts.hosts}
    wanted = seating.wanted_of(case.given, case.experts, case.places, looks, lock="")  # type: ignore[arg-type]
    host = wanted.seats["general"].host
    layout, new = wanted.layout(host), wanted.services[host]["general"].key
    before = {"current": 1.0, "a": 2.0, "b": 3.0, "c": 4.0, new: 5.0}
    found = state_of(layout, "general", releases=before, current="current")
    removed = {key for _, key in present.outdated(wanted, host, found)}
    left = before.keys() - removed
    assert len(left) == kept and {"current", new} <= left, "what served is there to go back to"
    after = state_of(layout, "general", releases={key: before[key] for key in left}, current=new)
    assert present.outdated(wanted, host, after) == []
    assert len(present.kept_ports(wanted, host, after)) == kept
