"""A working directory with data, plans made in it, and one check looked at alone."""

from __future__ import annotations

import os
import stat
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from largeforge.planning import make_plan
from largeforge.preflight.context import Context
from largeforge.preflight.run import examine
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

TRAIN = ("+recipe=sft_qwen7b", "dataset.path=rows.jsonl")
"""A training of a model of the hub on a GPU, which registers its result."""
ON_CPU = (*TRAIN, "hardware=cpu")
SERVE = ("+recipe=serve_quickstart",)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, with forty rows in `rows.jsonl`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1 =", "response": "2"}\n' * 40)
    return tmp_path


def plan_of(*words):
    """Return the plan of a command line, made as `doctor` makes it."""
    composition = compose([*words, "mode=plan"])
    return make_plan(validate(composition), recipe_folder=composition.recipe_folder)


@pytest.fixture
def look(folder):
    """Look at one check: `look("disk", *words)` gives its findings; keywords are environment variables."""

    def looked(check, *words, plan=None, timeout_s=3.0, **variables):
        environ = {"PATH": os.environ["PATH"], "HF_HOME": str(folder / "hf"), **variables}
        plan = plan_of(*words) if words else plan
        return examine(Context(plan, environ=environ, timeout_s=timeout_s), only=[check])

    return looked


_NVIDIA_SMI = """
import sys, time
time.sleep(GIVEN["sleep_s"])
if GIVEN["code"]:
    sys.exit(print("NVIDIA-SMI has failed: it could not talk to the driver.") or GIVEN["code"])
words = " ".join(sys.argv[1:])
if "--query-gpu=" in words:
    wanted = words.partition("--query-gpu=")[2].split()[0].split(",")
    for gpu in GIVEN["gpus"]:
        print(", ".join(gpu.get(name, "[N/A]") for name in wanted))
elif "--query-compute-apps=" in words:
    print(GIVEN["apps"])
else:
    print(f"| NVIDIA-SMI {GIVEN['driver']}  Driver Version: {GIVEN['driver']}  CUDA Version: {GIVEN['cuda']} |")
"""


@pytest.fixture
def nvidia_smi(folder):
    """Put a program on a path that speaks as `nvidia-smi` does; returns the folder for `PATH`."""

    def written(gpus, apps="", driver="570.86.15", cuda="12.8", code=0, sleep_s=0):
        program = folder / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        known = [
            {
                "index": str(index), "uuid": f"GPU-{index}", "name": name, "memory.total": str(total),
                "memory.free": str(free), "driver_version": driver,
            }
            for index, (name, total, free) in enumerate(gpus)
        ]  # fmt: skip
        values = {"gpus": known, "apps": apps, "driver": driver, "cuda": cuda, "code": code, "sleep_s": sleep_s}
        program.write_text(f"#!{sys.executable} -I\nGIVEN = {values!r}\n{_NVIDIA_SMI}")
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return f"{program.parent}:{os.environ['PATH']}"

    return written


@dataclass
class Server:
    """A server on the loopback that answers as it is told."""

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    date: str = ""
    hangs: bool = False
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server():
    """A real HTTP server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.seen.append((self.path, dict(self.headers)))
            if found.hangs:
                found.released.wait(30)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return found.date or super().date_time_string(timestamp)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.released.set()
    http.shutdown()
    http.server_close()
    thread.join()


def only(findings):
    """Return the single finding."""
    assert len(findings) == 1, findings
    return findings[0]


def levels(findings):
    """Return the levels of findings."""
    return [finding.level for finding in findings]


def model_folder(path: Path) -> Path:
    """Make a folder that passes for a model."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"0")
    return path
