"""Agents of hosts that are all this machine, with small programs in place of a training."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge import events
from largeforge.cluster import agent, nodes
from largeforge.cluster.spec import Node, Spec
from tests.e2e.workspace import processes, wait_for

EVENT = '{{"time": 1.0, "stage": "train", "kind": "{kind}", {fields}}}'
SAY = f"print('{EVENT.format(kind='progress', fields=chr(34) + 'step' + chr(34) + ': 1')}', flush=True)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "stage.json").write_text('{"stage": "train"}')
    return tmp_path


def node(name: str, program: str, **fields: Any) -> Node:
    argv = (sys.executable, "-c", program)
    return Node(**{"name": name, "address": "local", "reached_at": "127.0.0.1", "argv": argv, "gpus": 0,
                   "python": sys.executable, **fields})  # fmt: skip


def train(folder: Path, *members: Node, **fields: Any) -> tuple[int, list[dict[str, Any]], str]:
    passed, log = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        training = nodes.Training(
            Spec(str(folder), members, **fields), events.Events("train", passed), passed=passed, log=log
        )
        code = training.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, [json.loads(line) for line in passed.getvalue().splitlines()], log.getvalue()


def test_events_come_from_whatever_host_and_the_log_says_which(folder: Path) -> None:
    log = "import sys; print('a word', file=sys.stderr)"
    code, told, logged = train(folder, node("a", log), node("b", SAY))
    assert code == 0
    assert [event["kind"] for event in told] == ["note", "progress"]
    assert told[0]["text"] == "training on 2 hosts: a, b"
    assert "[a] a word\n" in logged
    assert not list((folder / "work").iterdir()), "the file that shows shared storage is gone"


def test_when_one_host_fails_the_others_are_ended_and_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "SETTLE_S", 0.2)
    mark = f"marked by {folder}"
    failed = EVENT.format(kind="failed", fields='"error": "no disk", "exit_code": 5, "reason": "disk"')
    code, told, _ = train(
        folder,
        node("a", f"import time; time.sleep(600)  # {mark}"),
        node("b", f"import sys; print('{failed}', flush=True); sys.exit(5)"),
    )
    assert code == 5
    assert (told[-1]["error"], told[-1]["reason"]) == ("host b: no disk", "disk")
    assert not processes(mark)


def test_a_host_that_goes_without_a_word_is_named_with_the_end_of_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "SETTLE_S", 0.2)
    code, told, _ = train(folder, node("a", "import sys; sys.exit('something broke')"), node("b", "pass"))
    assert code == 1
    assert told[-1]["error"] == "host a: its processes ended with exit code 1. The end of its log:\n  something broke"


def test_a_killed_agent_takes_its_processes_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "SETTLE_S", 0.2)
    mark = f"marked by {folder}"
    program = "import os; os.kill(int(open('/proc/%d/stat' % os.getppid()).read().split()[3]), 9); import time; "
    code, told, _ = train(folder, node("a", f"{program}time.sleep(600)  # {mark}"), node("b", "pass"))
    assert code == 1
    assert "host a: the connection was lost" in told[-1]["error"]
    wait_for(lambda: not processes(mark), timeout_s=30)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"python": "/nowhere/python"}, "host b: /nowhere/python cannot be started there"),
        ({"gpus": 99}, "host b: it has 0 GPUs, and 99 are to train there"),
    ],
)
def test_a_host_that_cannot_do_its_part_is_named_before_anything_starts(
    folder: Path, fields: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told, _ = train(folder, node("a", SAY), node("b", SAY, **fields))
    assert code == 1
    assert [event["kind"] for event in told] == ["failed"]
    assert told[0]["error"].startswith(words)


def test_hosts_must_have_the_same_packages(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "python"
    patch = "import largeforge; largeforge.__version__ = '9.9'; import runpy; "
    run = "runpy.run_module('largeforge.cluster.agent', run_name='__main__')"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{patch}{run}"\n')
    other.chmod(0o755)
    code, told, _ = train(folder, node("a", SAY), node("b", SAY, python=str(other)))
    assert code == 1
    assert "a has largeforge" in told[-1]["error"] and "b has 9.9" in told[-1]["error"]


@pytest.fixture
def leash(folder: Path) -> Any:
    """An agent as ssh would start it, whose processes run until they are ended."""
    (folder / "work" / "token").write_text("secret")
    order = {
        "argv": [sys.executable, "-c", f"import time; time.sleep(600)  # marked by {folder}"], "address": "127.0.0.1",
        "gpus": 0, "workdir": "", "token": "secret", "token_path": str(folder / "work" / "token"), "lost_after_s": 1.0,
        "environment": {},
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "largeforge.cluster.agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        assert "ready" in process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_for(lambda: processes(f"marked by {folder}"), timeout_s=30)
        yield process


def test_silence_ends_the_processes_of_a_host(folder: Path, leash: subprocess.Popen[str]) -> None:
    assert leash.wait(timeout=30) != 0
    assert not processes(f"marked by {folder}", "time.sleep(600)")


def test_a_host_trains_over_the_interface_with_the_route_to_the_others() -> None:
    assert agent.interface_to(["127.0.0.1", "127.0.0.1"]) == "lo"
    assert agent.interface_to([]) == ""
    assert agent.interface_to(["no such name.invalid"]) == ""
    order = {"address": "203.0.113.7", "peers": ["127.0.0.1"], "environment": {}}
    assert agent.environment(order)["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_host_knows_the_interface_of_its_address() -> None:
    assert agent.interface_of("127.0.0.1") == "lo"
    assert agent.interface_of("203.0.113.7") == ""
    assert agent.interface_of("no such name.invalid") == ""


def test_the_environment_of_a_host_is_its_own_with_what_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    found = agent.environment({"address": "127.0.0.1", "environment": {"OMP_NUM_THREADS": "2"}})
    assert (found["GLOO_SOCKET_IFNAME"], found["NCCL_SOCKET_IFNAME"]) == ("eth9", "lo")
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["PATH"] == os.environ["PATH"]
