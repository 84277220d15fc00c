"""Stages of training run again and again, without the seconds that importing trl takes each time.

A process that has imported everything forks one for each attempt; what is forked runs the real stage, from a spec
as the runner writes it, and may be killed. Run as a program it is that process: a JSON line in (`spec`, `log`,
`limits`), a JSON line out with the pid, another one with its exit status.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.workspace import Workspace, environment, wait_for

QUIET = {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive"}


@dataclass
class Attempts:
    """One training in a folder of its own, in as many attempts as it takes."""

    folder: Path
    config: dict[str, Any]
    inputs: dict[str, str]
    server: Server

    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "work").mkdir(parents=True)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "work" / "checkpoints"

    def sealed(self) -> list[int]:
        """Return the steps of the checkpoints that are there, oldest first."""
        return sorted(int(path.parent.name.split("-")[1]) for path in self.checkpoints.glob("checkpoint-*/large*.json"))

    @property
    def told(self) -> dict[str, int]:
        """The last step that was told of, by the kind of event, as the runner records it."""
        return {
            kind: max((event["step"] for attempt in self.attempts for event in attempt.of(kind)), default=0)
            for kind in ("progress", "eval")
        }

    def start(self, ends: bool = True, **limits: int) -> Attempt:
        """Start an attempt; `limits` are resource limits by the end of their name, such as `FSIZE`.

        One that does not end trains to its last step and waits to be killed, however late that is.
        """
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()
        if not ends:
            os.mkfifo(self.folder / "out" / "config.json")  # the first file that is written after training
        spec = {
            "stage": "train", "kind": "train", "config": self.config, "inputs": self.inputs, "lock": "",
            "out": str(self.folder / "out"), "work": str(self.folder / "work"), "recorded": self.told,
        }  # fmt: skip
        path = self.folder / "stage.json"
        path.write_text(json.dumps(spec))
        log = self.folder / f"attempt-{len(self.attempts)}.jsonl"
        self.attempts.append(self.server.start(path, log, limits))
        return self.attempts[-1]

    def run(self, **limits: int) -> Attempt:
        """Run an attempt to its end."""
        attempt = self.start(**limits)
        attempt.wait()
        return attempt

    def weights(self) -> bytes:
        """Return what was trained."""
        return next((self.folder / "out").glob("*model.safetensors")).read_bytes()


@dataclass
class Attempt:
    """One process of a training."""

    pid: int
    log: Path
    _ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None
    """Exit code, or minus the number of the signal that killed it."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has told so far."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    @property
    def notes(self) -> str:
        return "\n".join(event["text"] for event in self.of("note"))

    @property
    def losses(self) -> dict[int, float]:
        return {event["step"]: event["loss"] for event in self.of("progress")}

    @property
    def failure(self) -> dict[str, Any]:
        return self.of("failed")[-1]

    @property
    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = self.of("result")[-1]["metrics"]
        return found

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something has happened; fails when the process ends before."""
        wait_for(lambda: condition() or self._ended.is_set())
        assert condition(), self.log.with_suffix(".err").read_text()[-3000:]

    def reach(self, step: int) -> None:
        """Wait until a step is done."""
        self.wait_for(lambda: max(self.losses, default=0) >= step)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Send a signal and wait for the end."""
        os.kill(self.pid, number)
        self.wait()

    def wait(self) -> None:
        assert self._ended.wait(300), "it never ended"


class Server:
    """The process that forks attempts."""

    def __init__(self) -> None:
        self._attempts: dict[int, Attempt] = {}
        self._started = threading.Condition()
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.attempts"], cwd=Path(__file__).parents[2],
            env={**environment(), **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"), **QUIET},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, spec: Path, log: Path, limits: dict[str, int]) -> Attempt:
        assert self._process.stdin is not None
        log.unlink(missing_ok=True)
        with self._started:
            known = set(self._attempts)
            self._process.stdin.write(json.dumps({"spec": str(spec), "log": str(log), "limits": limits}) + "\n")
            self._process.stdin.flush()
            assert self._started.wait_for(lambda: set(self._attempts) - known, timeout=300)
            attempt = self._attempts[(set(self._attempts) - known).pop()]
        attempt.log = log
        return attempt

    def size_bytes(self) -> int:
        """Return the address space that an attempt begins with, once everything is imported."""
        assert self._ready.wait(300)
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._started:
                if "ready" in told:
                    self._ready.set()
                elif "status" in told:
                    self._attempts[told["pid"]].code = os.waitstatus_to_exitcode(told["status"])
                    self._attempts[told["pid"]]._ended.set()
                else:
                    self._attempts[told["pid"]] = Attempt(told["pid"], Path())
                    self._started.notify_all()
        self._process.stdout.close()


def prepared(workspace: Workspace, recipe: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return config and inputs of the training of the first run of a recipe, which has ended."""
    first = min((workspace.path / "runs" / recipe).iterdir())
    spec = json.loads((first / "train" / "stage.json").read_text())
    return spec["config"], spec["inputs"]


def serve() -> None:
    """Fork an attempt for each line."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from trl import SFTConfig, SFTTrainer  # noqa: F401

    import largeforge.methods.sft
    import largeforge.stages.train  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tell({"ready": 1})
    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _attempt(told)
        _tell({"pid": pid})
        threading.Thread(target=_bury, args=(pid,), daemon=True).start()


def _attempt(told: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, told["log"]), (2, Path(told["log"]).with_suffix(".err"))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    for name, value in told["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    from largeforge.stages.__main__ import main

    code = 1
    try:
        code = main([told["spec"]])
    finally:
        os._exit(code)


def _bury(pid: int) -> None:
    _tell({"pid": pid, "status": os.waitpid(pid, 0)[1]})


_telling = threading.Lock()


def _tell(what: dict[str, int]) -> None:
    with _telling:
        print(json.dumps(what), flush=True)


if __name__ == "__main__":
    serve()
