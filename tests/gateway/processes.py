"""Gateways that are processes, as users start them, or as a service manager does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from largeforge import operators

HAND_OVER = """\
import os, sys
for number, descriptor in enumerate(sys.argv[1].split(",")):
    os.dup2(int(descriptor), 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Puts descriptors where a service manager puts them, and goes on as the program."""


class Process:
    """A running gateway."""

    def __init__(self, path, *, listeners=(), **environment):
        command = ["-m", "largeforge.gateway", "--config", str(path)]
        descriptors = [listener.fileno() for listener in listeners]
        if listeners:
            command = ["-c", HAND_OVER, ",".join(map(str, descriptors)), *command]
            environment = {"LISTEN_FDS": str(len(descriptors)), **environment}
        self.child = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            env={**os.environ, **environment},
        )
        self.event = json.loads(self.child.stdout.readline() or "null")
        self.url = self.event["url"] if self.event else ""

    @property
    def operates(self):
        """Headers of who started it."""
        return {"authorization": f"Bearer {operators.kept(int(self.url.rpartition(':')[2]))}"}

    def finish(self):
        out, err = self.child.communicate(timeout=60)
        return self.child.returncode, out, err


@pytest.fixture
def start(tmp_path, make_file, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    processes = []

    def start(urls, *, listeners=(), environment=None, **gateway):
        path = tmp_path / f"gateway{len(processes)}.json"
        path.write_text(make_file(urls, **gateway).model_dump_json())
        processes.append(Process(path, listeners=listeners, **(environment or {})))
        return processes[-1]

    yield start
    for process in processes:
        if process.child.poll() is None:
            process.child.kill()
        process.finish()


@pytest.fixture
def process(start, threaded_fakes):
    return start({name: running.url for name, running in threaded_fakes.items()})
