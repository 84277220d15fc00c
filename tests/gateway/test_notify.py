"""What a service manager hears: ready, reloading, stopping, a line for people, and signs of life."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from largeforge.gateway.crew.telling import Pulse
from largeforge.gateway.notify import Notifier


class Manager:
    """The socket that a service manager listens on, and what came there."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.settimeout(60)
        self.address = address
        self.heard = []

    def until(self, text):
        """Read up to a message that begins like this, and return it."""
        while True:
            self.heard.append(self._socket.recv(4096).decode())
            if self.heard[-1].startswith(text):
                return self.heard[-1]

    def silent_for(self, seconds):
        """Forget what has come; return whether nothing comes for so long."""
        self._socket.settimeout(0)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            pass
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(60)
        return False

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    found = Manager(str(tmp_path / "notify") if request.param == "path" else f"@largeforge-test-{os.getpid()}")
    yield found
    found.close()


@pytest.fixture
def begin(start, threaded_fakes, manager):
    def begin(*, watchdog_s=0, **gateway):
        environment = {"NOTIFY_SOCKET": manager.address}
        if watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        urls = {name: running.url for name, running in threaded_fakes.items()}
        return start(urls, environment=environment, **gateway)

    return begin


@pytest.mark.parametrize("workers", [1, 2])
def test_tells_of_its_life(begin, manager, tmp_path, workers):
    process = begin(workers=workers)
    manager.until("READY=1")
    assert manager.until("STATUS=") == "STATUS=2 of 2 experts up"
    for content in (Path(tmp_path / "gateway0.json").read_text(), "{"):
        (tmp_path / "gateway0.json").write_text(content)
        asked_at = time.monotonic_ns() // 1000
        process.child.send_signal(signal.SIGHUP)
        told = manager.until("RELOADING=1")
        assert int(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", told)[1]) >= asked_at
        manager.until("READY=1")
    process.child.send_signal(signal.SIGTERM)
    told = manager.until("STOPPING=1").splitlines()
    assert "EXTEND_TIMEOUT_USEC=35000000" in told
    assert process.finish()[0] == 0
    assert not any("WATCHDOG" in text for text in manager.heard)


def test_the_line_for_people_tells_of_an_expert_that_is_down(begin, manager, threaded_fakes):
    begin()
    manager.until("STATUS=2 of 2")
    threaded_fakes["support"].fake.healthy = False
    manager.until("STATUS=1 of 2 experts up")


def test_life_is_told_at_least_twice_for_each_time_of_the_watchdog_and_not_by_one_that_hangs(begin, manager):
    process = begin(watchdog_s=2)
    manager.until("WATCHDOG=1")
    times = []
    for _ in range(4):
        manager.until("WATCHDOG=1")
        times.append(time.monotonic())
    assert (times[-1] - times[0]) / 3 < 1.5  # it is 1 s on a machine that has time
    process.child.send_signal(signal.SIGSTOP)
    assert manager.silent_for(3)
    process.child.send_signal(signal.SIGCONT)
    manager.until("WATCHDOG=1")


def test_a_worker_that_hangs_ends_the_signs_of_life_of_all(begin, manager):
    process = begin(watchdog_s=4, workers=2)
    manager.until("WATCHDOG=1")
    children = Path(f"/proc/{process.child.pid}/task/{process.child.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGSTOP)
    try:
        time.sleep(4)
        assert manager.silent_for(4)
    finally:
        os.kill(int(children[1]), signal.SIGCONT)
    manager.until("WATCHDOG=1")


def test_children_do_not_speak_to_the_service_manager(begin, manager):
    process = begin(workers=2)
    for pid in Path(f"/proc/{process.child.pid}/task/{process.child.pid}/children").read_text().split():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environment
    manager.until("READY=1")
    assert manager.heard == ["READY=1"]


@pytest.mark.parametrize(
    ("environment", "watchdog_s", "beat_s"),
    [
        ({}, 0, 0),
        ({"NOTIFY_SOCKET": "/run/x"}, 0, 1),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "500000"}, 0.5, 0.25),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60, 1),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0, 1),
        ({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "60000000"}, 60, 0),
    ],
)
def test_what_the_environment_asks_for(environment, watchdog_s, beat_s):
    found = Notifier.of(environment)
    assert (found.watchdog_s, found.beat_s, environment) == (watchdog_s, beat_s, {})


def test_nobody_who_listens_is_no_fault(tmp_path, caplog):
    Notifier(str(tmp_path / "nobody")).ready()
    assert "was not told READY=1" in caplog.text
    Notifier("").ready()
    assert len(caplog.records) == 1


def test_a_worker_that_ended_is_not_waited_for():
    now, told = [0.0], []
    notifier = Notifier("/run/x", watchdog_s=10, clock=lambda: now[0])
    notifier._send = told.append
    pulse = Pulse(notifier, clock=lambda: now[0])
    pulse.tell()
    assert told == []
    for worker in (0, 1):
        pulse.hear(worker, "2 of 2 experts up")
    pulse.tell()
    assert told == ["WATCHDOG=1", "STATUS=2 of 2 experts up"]
    now[0] = 6.0
    pulse.hear(0, "2 of 2 experts up")
    pulse.tell()
    assert len(told) == 2
    pulse.forget(1)
    pulse.tell()
    assert told[2:] == ["WATCHDOG=1"]
