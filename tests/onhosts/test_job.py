"""The program on hosts, as far as it needs neither systemd nor root: lines, locks, and how a job stands."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from largeforge.onhosts.remote import job


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "queue/waiting").mkdir(parents=True)
    return tmp_path


def request(base: Path, name: str, **changed: Any) -> dict[str, Any]:
    found = {"base": str(base), "id": name, "who": f"{name}@desk", "what": "small, train", "gpus": 0}
    return {**found, "gpu_names": [], "limit": 0, **changed}


@contextmanager
def taken(base: Path, place: str, who: str) -> Iterator[None]:
    """A place that somebody computes at."""
    (base / f"queue/{place}.json").write_text(json.dumps({"who": who, "what": "big, train", "since": 1.0}))
    with (base / f"queue/{place}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_the_first_in_line_has_its_turn_when_the_place_is_free(base: Path) -> None:
    with ExitStack() as stack:
        anna, ben = request(base, "anna"), request(base, "ben")
        first, second = (
            stack.enter_context(job.ticket(str(base), anna)),
            stack.enter_context(job.ticket(str(base), ben)),
        )
        with taken(base, "cpu", "carl@home"):
            said = job.standing(str(base), anna, first)
            assert (said["kind"], said["position"]) == ("waiting", 1)
            assert [one["who"] for one in said["holders"]] == ["carl@home"]
        assert job.standing(str(base), anna, first) == {"kind": "turn"}
        behind = job.standing(str(base), ben, second)
        assert (behind["position"], [one["who"] for one in behind["ahead"]]) == (2, ["anna@desk"])


def test_a_ticket_whose_holder_died_is_removed(base: Path) -> None:
    dead = base / "queue/waiting/00000000000000000001-dead0"
    dead.write_text(json.dumps({"id": "dead", "who": "x", "what": "y", "gpus": 0}))
    with job.ticket(str(base), request(base, "anna")) as mine:
        assert job.standing(str(base), request(base, "anna"), mine) == {"kind": "turn"}
    assert not dead.exists() and job.waiting(str(base)) == []


def test_gpus_are_leased_one_by_one_and_one_that_others_use_is_not_free(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [{"uuid": f"GPU-{i}", "name": "L40S", "memory_bytes": 48 << 30, "used_bytes": 0} for i in range(2)]
    monkeypatch.setattr(job, "gpus", lambda: gpus)
    one = request(base, "anna", gpus=1)
    with taken(base, "GPU-0", "carl@home"), job.ticket(str(base), one) as mine:
        assert job.standing(str(base), one, mine) == {"kind": "turn"}
        two = {**one, "gpus": 2}
        assert job.standing(str(base), two, mine)["free"] == 1
        gpus[1]["used_bytes"] = 5 << 30
        said = job.standing(str(base), one, mine)
        assert [(held["who"], held["what"]) for held in said["holders"]][1] == (
            "another program",
            "5 GiB of its memory",
        )
    assert job.candidates({**one, "gpu_names": ["H100"]}) == []
    assert job.candidates({**one, "limit": 1}) == ["GPU-0"]


def test_work_holds_its_place_and_writes_down_what_it_made(base: Path) -> None:
    folder = base / "jobs/one"
    (folder / "stage/out").mkdir(parents=True)
    (base / "queue/cpu.lock").touch()
    made = "open('stage/out/a', 'w').write('x'); print('made', os.environ['TOLD'], flush=True)"
    code = f"import os, time; {made}; time.sleep(1)"
    told = {
        "id": "one-test", "attempt": 1, "places": ["cpu"], "queue": str(base / "queue"), "environment": {"TOLD": "it"},
        "argv": [sys.executable, "-c", code],
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(told))
    process = subprocess.Popen([sys.executable, job.__file__, "work", str(folder)], env={**os.environ})
    events = folder / "events-1.jsonl"
    while not (events.exists() and events.read_text()):
        assert process.poll() is None
    assert job.is_locked(str(base / "queue/cpu.lock"))
    assert process.wait(30) == 0
    assert not job.is_locked(str(base / "queue/cpu.lock"))
    assert events.read_text() == "made it\n"
    ended = json.loads((folder / "ended-1.json").read_text())
    assert ended["code"] == 0
    assert ended["files"] == job.hashes(str(folder / "stage/out")) and list(ended["files"]) == ["a"]


def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(base: Path) -> None:
    for name in ("incoming/k", "inputs"):
        (base / name).mkdir(parents=True)
    (base / "incoming/k/a").write_text("x")
    files = job.hashes(str(base / "incoming/k"))
    (base / "incoming/k/a").write_text("y")
    said = job.place({"home": str(base), "key": "k", "files": files})
    assert said == {"kept": False, "wrong": ["a"]}
    assert not (base / "incoming/k").exists() and not (base / "inputs/k").exists()


def test_only_whole_lines_are_told_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("one\ntw")
    assert list(job.grown(str(path), 0, to_the_end=False)) == [("one\n", 4)]
    assert list(job.grown(str(path), 4, to_the_end=False)) == []
    assert list(job.grown(str(path), 4, to_the_end=True)) == [("tw", 6)]
