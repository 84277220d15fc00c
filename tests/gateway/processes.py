"""Gateways that are processes, as users start them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from largeforge import operators


class Process:
    """A running gateway."""

    def __init__(self, path):
        self.child = subprocess.Popen(
            [sys.executable, "-m", "largeforge.gateway", "--config", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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

    def start(urls, **gateway):
        path = tmp_path / f"gateway{len(processes)}.json"
        path.write_text(make_file(urls, **gateway).model_dump_json())
        processes.append(Process(path))
        return processes[-1]

    yield start
    for process in processes:
        if process.child.poll() is None:
            process.child.kill()
        process.finish()


@pytest.fixture
def process(start, threaded_fakes):
    return start({name: running.url for name, running in threaded_fakes.items()})
