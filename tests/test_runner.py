"""The runner with a fake stage process; the end-to-end tier runs the real stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from largeforge import runner, runs
from largeforge.artifacts import Manifest, read_manifest
from largeforge.errors import GateError, Interrupted, StageError
from largeforge.hardware import Machine
from largeforge.plan import Plan, Stage
from largeforge.recipe.schema import Recipe
from largeforge.training import checkpoints
from tests.e2e.workspace import processes

FAKE = Path(__file__).parent / "fakes" / "stage.py"


def recipe(root: Path, **runs_section: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "hardware": {"name": "cpu", "device": "cpu"},
            "hosts": {"name": "local", "hosts": {"local": {"address": "local"}}},
            "launcher": {"name": "single"},
            "runs": {"root": str(root), **runs_section},
        }
    )


def stage(name: str, *needs: str, threads: int = 1, fingerprint: str = "", **config: Any) -> Stage:
    inputs = {f"input{index}": need for index, need in enumerate(needs)}
    print_of = fingerprint or f"fingerprint-of-{name}-{json.dumps(config, sort_keys=True)}"
    return Stage(name, "fake", "", name, config, inputs, threads=threads, fingerprint=print_of.replace("/", "_"))


def plan(root: Path, *stages: Stage, digest: str = "abcdef0123456789", cores: int = 2, **runs_section: Any) -> Plan:
    machine = Machine("cpu", "", 0, 8.0, cores)
    return Plan(recipe(root, **runs_section), stages, {"digest": digest, "recipe": {}}, machine)


@pytest.fixture(autouse=True)
def fake_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(self: Any, stage: Stage, spec: Path) -> list[str]:
        return [sys.executable, "-I", str(FAKE), str(spec)]

    monkeypatch.setattr("largeforge.runner._Execution._command", command)


def go(wanted: Plan) -> tuple[Path, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    with runs.opened(wanted) as run:
        runner.run(wanted, run, seen.append)
        return run.path, seen


def finished(events: list[dict[str, Any]]) -> dict[str, bool]:
    """Return, for each stage that finished, whether it was reused."""
    return {event["stage"]: event["reused"] for event in events if event["kind"] == "finished"}


def test_stages_run_in_order_of_their_inputs_and_leave_sealed_artifacts(tmp_path: Path) -> None:
    path, events = go(
        plan(tmp_path, stage("a", write="A"), stage("b", "a", write="B"), stage("c", "a", "b", write="C"))
    )
    assert (path / "c" / "out" / "artifact.txt").read_text() == "CABA"
    manifest = json.loads((path / "c" / "manifest.json").read_text())
    assert manifest["metrics"] == {"length": 1.0}
    assert manifest["files"]["artifact.txt"]["size"] == 4
    assert set(manifest["inputs"]) == {"input0", "input1"}
    assert [event["stage"] for event in events if event["kind"] == "started"] == ["a", "b", "c"]


def test_prints_of_libraries_go_to_the_log_and_events_to_the_sink(tmp_path: Path) -> None:
    path, events = go(plan(tmp_path, stage("a", write="A")))
    log = (path / "a" / "log.txt").read_text()
    assert "not an event" in log
    assert "a line for the log" in log
    assert [event["loss"] for event in events if event["kind"] == "progress"] == [1.0]


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    count = tmp_path / "starts"
    wanted = plan(tmp_path / "runs", stage("a", write="A", append=str(count)))
    first, _ = go(wanted)
    second, events = go(wanted)
    assert first == second
    assert count.read_text() == "a 1\n"
    assert finished(events) == {"a": True}


def test_a_damaged_artifact_is_made_again(tmp_path: Path) -> None:
    count = tmp_path / "starts"
    wanted = plan(tmp_path / "runs", stage("a", write="A", append=str(count)))
    path, _ = go(wanted)
    (path / "a" / "out" / "artifact.txt").write_text("B")
    go(wanted)
    assert (path / "a" / "out" / "artifact.txt").read_text() == "A"
    assert len(count.read_text().splitlines()) == 2


def test_an_equal_stage_of_another_run_is_reused(tmp_path: Path) -> None:
    count = tmp_path / "starts"
    shared = stage("a", write="A", append=str(count))
    go(plan(tmp_path / "runs", shared, stage("b", "a", write="B")))
    path, events = go(plan(tmp_path / "runs", shared, stage("b", "a", write="other"), digest="fedcba9876543210"))
    assert (path / "b" / "out" / "artifact.txt").read_text() == "otherA"
    assert len(count.read_text().splitlines()) == 1
    assert finished(events) == {"a": True, "b": False}
    assert json.loads((path / "a" / "manifest.json").read_text())["reused_from"].endswith("/a")


def test_without_resume_everything_runs_afresh_in_a_new_directory(tmp_path: Path) -> None:
    wanted = plan(tmp_path, stage("a", write="A"))
    fresh = plan(tmp_path, stage("a", write="A"), resume=False)
    first, _ = go(wanted)
    second, events = go(fresh)
    assert first != second
    assert finished(events) == {"a": False}


def test_independent_stages_run_side_by_side_up_to_the_cores(tmp_path: Path) -> None:
    flags = {name: str(tmp_path / name) for name in "ab"}
    stages = [stage(name, write=name, append=flags[name], wait_for=flags[other]) for name, other in ("ab", "ba")]
    path, _ = go(plan(tmp_path / "runs", *stages))
    assert (path / "a" / "out" / "artifact.txt").is_file()


def test_a_damaged_artifact_is_looked_at_once_while_its_stage_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(tmp_path, stage("a", threads=2, write="A"), stage("b", threads=2, write="B"))
    path, _ = go(wanted)
    for name in "ab":
        (path / name / "out" / "artifact.txt").write_text("?")
    looked: list[str] = []
    finished_here = runs.Run.finished

    def count(self: runs.Run, one: Stage, **options: bool) -> Any:
        looked.append(one.name)
        return finished_here(self, one, **options)

    monkeypatch.setattr(runs.Run, "finished", count)
    go(wanted)
    assert sorted(looked) == ["a", "b"]


def test_a_stage_waits_until_its_threads_are_free(tmp_path: Path) -> None:
    order = tmp_path / "order"
    stages = [stage(name, threads=2, write=name, append=str(order)) for name in "abc"]
    _, events = go(plan(tmp_path / "runs", *stages, cores=2))
    kinds = [(event["kind"], event["stage"]) for event in events if event["kind"] in ("started", "finished")]
    assert kinds == [(kind, name) for name in "abc" for kind in ("started", "finished")]
    assert order.read_text() == "a 2\nb 2\nc 2\n"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"fail": "the disk is full"}, StageError, "a: the disk is full"),
        ({"fail": "gate refused the model", "exit": 3}, GateError, "a: gate refused the model"),
        ({"exit": 7}, StageError, "exit code 7"),
        ({"exit": 255}, StageError, "exit code 255"),
        ({"die": int(signal.SIGKILL)}, StageError, "SIGKILL"),
    ],
)
def test_a_failure_is_one_message_and_keeps_what_is_done(
    tmp_path: Path, config: dict[str, Any], error: type[Exception], message: str
) -> None:
    wanted = plan(tmp_path, stage("before", write="A"), stage("a", "before", **config), stage("after", "a"))
    with pytest.raises(error, match=message):
        go(wanted)
    path = runs.existing(wanted)[0]
    assert (path / "before" / "manifest.json").is_file()
    assert not (path / "a" / "manifest.json").exists()
    assert not (path / "after").exists()


def test_the_reason_of_a_failure_is_in_the_event_for_programs(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    wanted = plan(tmp_path, stage("a", fail="out of memory: 2 GiB", reason="out_of_memory"))
    with runs.opened(wanted) as run, pytest.raises(StageError, match="2 GiB"):
        runner.run(wanted, run, seen.append)
    assert [(event["reason"], event["error"]) for event in seen if event["kind"] == "failed"] == [
        ("out_of_memory", "out of memory: 2 GiB")
    ]


def test_a_training_that_died_names_the_checkpoint_that_it_continues_from(tmp_path: Path) -> None:
    wanted = plan(tmp_path, stage("a", die=int(signal.SIGKILL)))
    with pytest.raises(StageError) as first:
        go(wanted)
    assert "is kept" not in str(first.value)
    for step in (90, 100):
        seal = runs.existing(wanted)[0] / "a" / "work" / "checkpoints" / f"checkpoint-{step}" / checkpoints.SEAL
        seal.parent.mkdir(parents=True)
        seal.touch()
    with pytest.raises(StageError, match="checkpoint-100 is kept: the same command continues from it"):
        go(wanted)


def test_a_stage_is_told_which_steps_are_recorded(tmp_path: Path) -> None:
    wanted = plan(tmp_path, stage("a", exit=1))
    with pytest.raises(StageError):
        go(wanted)
    folder = runs.existing(wanted)[0] / "a"
    told = [
        {"time": 0.0, "stage": "a", "kind": kind, "step": step}
        for kind, step in (("progress", 6), ("eval", 6), ("progress", 7))
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    with pytest.raises(StageError):
        go(wanted)
    assert json.loads((folder / "stage.json").read_text())["recorded"] == {"progress": 7, "eval": 6}


def test_the_log_is_quoted_when_a_stage_dies_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="a line for the log"):
        go(plan(tmp_path, stage("a", exit=1)))


def test_bad_data_keeps_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        go(plan(tmp_path, stage("a", fail="my.jsonl:3: not JSON", exit=2)))
    assert caught.value.exit_code == 2


def test_a_failing_stage_stops_the_ones_beside_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    forever = stage("forever", append=str(started), wait_for=str(tmp_path / "never"))
    failing = stage("failing", fail="no", wait_for=str(started))
    with pytest.raises(StageError):
        go(plan(tmp_path / "runs", forever, failing))
    assert not processes(FAKE.name, str(tmp_path))


def test_two_runs_at_once_use_two_directories(tmp_path: Path) -> None:
    wanted = plan(tmp_path, stage("a", write="A"))
    with runs.opened(wanted) as first, runs.opened(wanted) as second:
        assert first.path != second.path


def test_a_directory_that_another_process_takes_first_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, make = plan(tmp_path, stage("a", write="A")), runs._new
    with ExitStack() as stack:

        def taken_at_once(folder: Path, new: Plan) -> Path:
            path = make(folder, new)
            monkeypatch.setattr("largeforge.runs._new", make)
            stack.enter_context(runs.Run(path, tmp_path).held())
            return path

        monkeypatch.setattr("largeforge.runs._new", taken_at_once)
        with runs.opened(wanted) as run:
            assert len(list(run.path.parent.iterdir())) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_stage_and_says_how_to_continue(tmp_path: Path, number: int) -> None:
    started = tmp_path / "started"
    wanted = plan(tmp_path / "runs", stage("a", append=str(started), wait_for=str(tmp_path / "never")))

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="run the same command again"):
        go(wanted)
    thread.join()
    assert not processes(FAKE.name, str(tmp_path))


def test_a_killed_runner_leaves_no_process_and_the_next_run_continues(tmp_path: Path) -> None:
    started, flag = tmp_path / "started", tmp_path / "flag"
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_runner as t; from pathlib import Path
import largeforge.runner as r
r._Execution._command = lambda self, stage, spec: [sys.executable, "-I", str(t.FAKE), str(spec)]
t.go(t.plan(Path({str(tmp_path / "runs")!r}), t.stage("a", write="A", fingerprint="a"),
    t.stage("b", "a", write="B", append={str(started)!r}, wait_for={str(flag)!r}, fingerprint="b")))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while processes(FAKE.name, str(tmp_path)):
        assert time.monotonic() < deadline, "a stage outlived its killed runner"
        time.sleep(0.05)
    flag.touch()
    first = stage("a", write="A", fingerprint="a")
    second = stage("b", "a", write="B", append=str(started), wait_for=str(flag), fingerprint="b")
    path, events = go(plan(tmp_path / "runs", first, second))
    assert finished(events) == {"a": True, "b": False}
    assert (path / "b" / "out" / "artifact.txt").read_text() == "BA"


def test_what_a_stage_resolved_ends_in_the_lock_and_stays_when_the_run_continues(tmp_path: Path) -> None:
    digest = "abcdef0123456789"
    wanted = plan(tmp_path, stage("a", write="A"), stage("b", "a", write="B"))
    first = replace(wanted, lock={**wanted.lock, "origin": {"git": {"commit": "one"}}})
    path, _ = go(first)
    with runs.opened(first) as run:
        run.seal(replace(_manifest(run, "a"), info={"resolved": {"revision": "r1"}}))
    second = replace(wanted, lock={**wanted.lock, "origin": {"git": {"commit": "two"}}})
    with runs.opened(second) as run:
        runs.describe(run.path, second)
    found = json.loads((path / "lock.json").read_text())
    assert run.path == path
    assert found["digest"] == digest
    assert found["origin"] == {"git": {"commit": "one"}}
    assert found["resolved"] == {"stages": {"a": {"revision": "r1"}}}


def test_a_stage_taken_from_another_run_brings_what_it_resolved(tmp_path: Path) -> None:
    shared = stage("a", write="A")
    first = plan(tmp_path, shared)
    go(first)
    with runs.opened(first) as run:
        run.seal(replace(_manifest(run, "a"), info={"resolved": {"revision": "r1"}}))
    path, _ = go(plan(tmp_path, shared, digest="fedcba9876543210"))
    assert json.loads((path / "lock.json").read_text())["resolved"] == {"stages": {"a": {"revision": "r1"}}}


def _manifest(run: runs.Run, name: str) -> Manifest:
    manifest = read_manifest(run.stage_dir(name))
    assert manifest is not None
    return manifest


def test_a_password_reaches_the_stage_and_no_file_of_the_run(tmp_path: Path) -> None:
    address = "postgresql://me:s3cret@db/mlflow"
    register = stage("register", fingerprint="f", write=address, uris=["sqlite:///x.db", {"team": address}])
    path, _ = go(plan(tmp_path, register))
    assert (path / "register" / "out" / "artifact.txt").read_text() == address
    assert json.loads((path / "register" / "stage.json").read_text())["config"]["write"] == "postgresql://db/mlflow"
    told = [file for file in path.rglob("*") if file.is_file() and "s3cret" in file.read_text()]
    assert [file.name for file in told] == ["artifact.txt"]


@pytest.mark.parametrize(("busy", "policy"), [(0.0, None), (0.9, "passive")])
def test_threads_do_not_spin_where_other_programs_want_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: float, policy: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("largeforge.processor.busy_cores", lambda: busy)
    given: list[dict[str, str]] = []
    started = subprocess.Popen

    def start(*words: Any, **options: Any) -> Any:
        given.append(options["env"])
        return started(*words, **options)

    monkeypatch.setattr("largeforge.runner.subprocess.Popen", start)
    go(plan(tmp_path, stage("one", threads=2), stage("two", "one", threads=1)))
    assert [environment.get("OMP_WAIT_POLICY") for environment in given] == [policy, None]
