"""Parts of hosts that are all this machine, with small programs in place of a training."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from largeforge.cluster import agent
from largeforge.cluster.spec import Part
from tests.e2e.workspace import processes, wait_for

EVENT = '{{"time": 1.0, "stage": "train", "kind": "{kind}", {fields}}}'
SAY = f"print('{EVENT.format(kind='progress', fields=chr(34) + 'step' + chr(34) + ': 1')}', flush=True)"
SLEEP = "import time; time.sleep(600)"
ADDRESSES = {"a": "127.0.0.1", "b": "127.0.0.1"}


@dataclass
class Running:
    """One host's part."""

    process: subprocess.Popen[str]

    def ended(self) -> tuple[int, list[dict[str, Any]], str]:
        """Wait for its end; return the exit code, what it told, and its log."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, port: int) -> Any:
    """Start the part of a host, which runs a small program."""
    began: list[Running] = []

    def started(host: str, program: str, **changed: Any) -> Running:
        folder = tmp_path / f"{host}{len(began)}"
        folder.mkdir()
        (folder / "stage.json").write_text('{"stage": "train"}')
        argv = (sys.executable, "-c", f"{program}  # marked by {tmp_path}")
        given = {
            "host": host, "addresses": ADDRESSES, "argv": argv, "port": port, "key": "k", "connect_timeout_s": 20.0,
            "lost_after_s": 5.0, **changed,
        }  # fmt: skip
        (folder / "part.json").write_text(Part(**given).encode())
        command = [sys.executable, "-m", "largeforge.cluster.part", str(folder / "part.json")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        began.append(Running(process))
        return began[-1]

    yield started
    for one in began:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def failure(told: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [event for event in told if event["kind"] == "failed"]
    return found


def test_hosts_begin_together_and_events_and_logs_come_from_each(start: Any) -> None:
    tell = "import os, sys; print(os.environ['PET_MASTER_PORT'], os.environ['GLOO_SOCKET_IFNAME'], file=sys.stderr)"
    first, second = start("a", f"{tell}; {SAY}"), start("b", tell)
    code, told, log = first.ended()
    assert (code, [event["kind"] for event in told]) == (0, ["note", "progress"])
    assert told[0]["text"] == "training on 2 hosts: a (lo), b (lo)"
    assert second.ended() == (0, [], log), "all are told the port of the first"
    assert log.split()[1] == "lo" and int(log.split()[0]) > 1024


def test_what_fails_first_is_told_by_the_first_host_and_all_end(start: Any, tmp_path: Path) -> None:
    failed = EVENT.format(kind="failed", fields='"error": "no disk", "exit_code": 5, "reason": "disk"')
    first, second = start("a", SLEEP), start("b", f"import sys; print('{failed}', flush=True); sys.exit(5)")
    code, told, _ = first.ended()
    assert code == 5
    assert {name: failure(told)[name] for name in ("error", "reason", "host", "lost")} == {
        "error": "host b (127.0.0.1): no disk", "reason": "disk", "host": "b", "lost": False,
    }  # fmt: skip
    assert second.ended()[:2] == (5, [])
    assert not processes(f"marked by {tmp_path}", "-c")


def test_a_host_whose_processes_end_without_a_word_is_named_with_the_end_of_its_log(start: Any) -> None:
    first, second = start("a", SLEEP), start("b", "import sys; sys.exit('something broke')")
    said = failure(first.ended()[1])["error"]
    assert said.startswith("host b (127.0.0.1): its processes ended with exit code 1. The end of its log:")
    assert said.endswith("something broke")
    assert second.ended()[0] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_host_that_is_gone_or_silent_ends_the_others(start: Any, tmp_path: Path, number: signal.Signals) -> None:
    first, second = start("a", SLEEP), start("b", SLEEP)
    wait_for(lambda: len(processes(f"marked by {tmp_path}", "-c")) >= 4, timeout_s=30)
    second.process.send_signal(number)
    code, told, _ = first.ended()
    assert code == 1
    assert (failure(told)["host"], failure(told)["lost"]) == ("b", True)


def test_when_the_first_host_is_gone_the_others_say_so_and_end(start: Any, tmp_path: Path) -> None:
    first, second = start("a", SLEEP), start("b", SLEEP)
    wait_for(lambda: len(processes(f"marked by {tmp_path}", "-c")) >= 4, timeout_s=30)
    first.process.kill()
    code, told, _ = second.ended()
    assert code == 1
    assert failure(told)["error"].startswith("host a (127.0.0.1): the connection was lost")
    wait_for(lambda: not processes(f"marked by {tmp_path}", "-c"), timeout_s=30)


def test_a_host_that_does_not_come_is_named_before_anything_starts(start: Any, tmp_path: Path) -> None:
    first = start("a", SAY, connect_timeout_s=1.0)
    code, told, _ = first.ended()
    assert code == 1
    assert failure(told)["error"] == "host b did not come to a within 1 s (launcher.connect_timeout_s)"


def test_a_host_that_does_not_reach_the_first_says_where_it_looked(start: Any, port: int) -> None:
    said = failure(start("b", SAY, connect_timeout_s=1.0).ended()[1])
    assert said["error"].startswith(f"host b does not reach a at 127.0.0.1:{port} (Connection refused); ")


def test_who_has_not_the_key_of_the_attempt_is_not_let_in(start: Any) -> None:
    first, other = start("a", SAY, connect_timeout_s=4.0), start("b", SAY, key="another", connect_timeout_s=2.0)
    assert "(it turned us away)" in failure(other.ended()[1])["error"]
    assert "host b did not come" in failure(first.ended()[1])["error"]


def test_told_to_end_it_lets_its_processes_end_by_themselves_and_blames_nobody(start: Any, tmp_path: Path) -> None:
    save = "import signal, sys; signal.signal(15, lambda *_: (print('saved', file=sys.stderr), sys.exit(130)))"
    ready = {host: f"{save}; open({str(tmp_path / f'ready-{host}')!r}, 'w'); {SLEEP}" for host in ADDRESSES}
    first, second = start("a", ready["a"]), start("b", ready["b"])
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 2, timeout_s=30)
    for one in (first, second):
        one.process.terminate()
    for one in (first, second):
        code, told, log = one.ended()
        assert code == 130 and log == "saved\n"
        assert not [event for event in told if event["kind"] == "failed"]


def test_one_host_that_is_told_to_end_is_why_the_others_end(start: Any, tmp_path: Path) -> None:
    first, second = start("a", SLEEP), start("b", SLEEP)
    wait_for(lambda: len(processes(f"marked by {tmp_path}", "-c")) >= 4, timeout_s=30)
    second.process.terminate()
    assert "host b (127.0.0.1): it was told to end there, by systemctl" in failure(first.ended()[1])["error"]


def test_a_host_trains_over_the_interface_with_the_route_to_the_others() -> None:
    assert agent.interface_to(["127.0.0.1", "127.0.0.1"]) == "lo"
    assert agent.interface_to([]) == ""
    assert agent.interface_to(["no such name.invalid"]) == ""
    assert agent.network("203.0.113.7", ["127.0.0.1"])["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_host_knows_the_interface_of_its_address() -> None:
    assert agent.interface_of("127.0.0.1") == "lo"
    assert agent.interface_of("203.0.113.7") == ""
    assert agent.interface_of("no such name.invalid") == ""
