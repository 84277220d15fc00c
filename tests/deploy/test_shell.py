"""Waiting for hosts can be interrupted: the command ends at once, not when the host would have been late."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from largeforge.deploy import shell
from largeforge.errors import DeployError

SCRIPT = """
from largeforge.deploy.shell import Locks

class Silent:
    name, sudo = "h1", []

    def command(self, argv, *, root):
        return ["sh", "-c", "echo asked >&2; sleep 60"]

locks = Locks({"h1": Silent()}, "shop")
with locks.asked():
    locks._held["h1"].stderr.readline()
    print("waits", flush=True)
    locks.confirm()
"""


def test_a_host_that_says_nothing_of_its_lock_holds_no_interrupted_command_back() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=20)[1]
    finally:
        process.kill()
        process.communicate()
    assert "KeyboardInterrupt" in said, said


class Here:
    """This machine as a host."""

    name, sudo = "h1", ()

    def command(self, argv: list[str], *, root: bool = False) -> list[str]:
        return argv


def test_bytes_that_are_no_text_are_replaced() -> None:
    here: Any = Here()
    assert shell.run(here, ["printf", "a\\377b"]) == "a\ufffdb"


def test_work_is_done_side_by_side_and_its_results_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=10)

    def work(number: int) -> int:
        together.wait()
        return number * number

    assert shell.side_by_side(work, (3, 1, 2), at_once=3) == [9, 1, 4]
    assert shell.side_by_side(work, (), at_once=3) == []


def test_no_more_work_than_allowed_is_done_at_once_and_an_error_comes_out() -> None:
    now, most = [0], [0]

    def work(number: int) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        now[0] -= 1
        if number == 2:
            raise DeployError("h2 is away")

    with pytest.raises(DeployError, match="h2 is away"):
        shell.side_by_side(work, range(4), at_once=1)
    assert most == [1]
