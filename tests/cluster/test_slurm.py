"""Jobs without a cluster: submitit's local executor, and Slurm's commands as small scripts."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from largeforge import events
from largeforge.cluster import slurm
from largeforge.cluster.spec import JobSpec
from largeforge.cluster.task import NodeTask

pytest.importorskip("submitit", reason="submitit is an extra")

WORKER = """\
import json, os, sys
rank = os.environ["RANK"]
if rank == "0":
    print(json.dumps({"stage": "train", "kind": "progress", "step": int(os.environ["WORLD_SIZE"])}), flush=True)
if sys.argv[1] == "killed" and rank == "1":
    os.kill(os.getpid(), 9)
if rank == sys.argv[1]:
    failed = {"stage": "train", "kind": "failed", "error": "no disk", "exit_code": 5, "reason": "disk"}
    print(json.dumps(failed), flush=True)
    sys.exit(5)
"""


def follow(folder: Path, **fields: Any) -> tuple[int, list[dict[str, Any]]]:
    spec = JobSpec(
        str(folder), "local", sys.executable, ("lf_test_worker", fields.pop("fails", "")), 1, 2,
        {"timeout_min": 5, "nodes": 1, "tasks_per_node": 1}, 0, poll_s=0.1, **fields,
    )  # fmt: skip
    assert JobSpec.decode(spec.encode()) == spec
    passed = io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        code = slurm.Following(spec, events.Events("train", passed), passed=passed, log=io.StringIO()).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, [json.loads(line) for line in passed.getvalue().splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lf_test_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_job_is_followed_to_its_end(folder: Path) -> None:
    code, told = follow(folder)
    assert code == 0
    assert [event["step"] for event in told if event["kind"] == "progress"] == [2]
    assert told[0]["text"].startswith("submitted as local job ")


def test_what_a_worker_said_before_it_failed_is_the_message(folder: Path) -> None:
    code, told = follow(folder, fails="1")
    assert code == 5
    assert (told[-1]["kind"], told[-1]["reason"]) == ("failed", "disk")
    assert told[-1]["error"].endswith(": no disk")


def test_a_process_that_was_killed_is_named(folder: Path) -> None:
    code, told = follow(folder, fails="killed")
    assert code == 1
    assert ": node 0: one of its worker processes (rank 1) was killed by SIGKILL" in told[-1]["error"]
    assert "\n" not in told[-1]["error"]
    assert told[-1]["reason"] == "killed", "the runner would say it in its own words, without the host"


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return a function that makes `squeue` print something."""

    def say(text: str, code: int = 0) -> None:
        script = tmp_path / "squeue"
        script.write_text(f"#!/bin/sh\necho '{text}' {'>&2' if code else ''}\nexit {code}\n")
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return say


@pytest.mark.parametrize(
    ("text", "code", "state"),
    [
        ("PENDING|(Resources)", 0, ("PENDING", "Resources")),
        ("RUNNING|node[1-2]", 0, ("RUNNING", "node[1-2]")),
        ("COMPLETED|None", 0, ("COMPLETED", "")),
        ("", 0, ("GONE", "")),
        ("slurm_load_jobs error: Invalid job id specified", 1, ("GONE", "")),
    ],
)
def test_the_state_of_a_job(answers: Callable[..., None], text: str, code: int, state: tuple[str, str]) -> None:
    answers(text, code)
    assert slurm.slurm_state("7") == state


def test_nodes_of_a_job_meet_at_the_first_and_jobs_do_not_meet_each_other() -> None:
    task = NodeTask("python", ["largeforge.stages", "x"], nodes=2, processes=8)
    first, second = (task.command(["n1", "n2"], node=node, job="41") for node in (0, 1))
    assert "--rdzv-endpoint=n1:20041" in first and "--rdzv-endpoint=n1:20041" in second
    assert "--rdzv-conf=is_host=1" in first and "--rdzv-conf=is_host=0" in second
    assert "--local-addr=n2" in second and "--nproc-per-node=8" in second
    assert "--rdzv-endpoint=n1:20042" in task.command(["n1", "n2"], node=0, job="42")
