"""Starts a process for each tracker beside a run, and gathers what went wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

from largeforge import artifacts, reaper
from largeforge.secrets import without_passwords
from largeforge.tracking.upload import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from largeforge.recipe.schema import Recipe

CONFIG = "trackers.json"
"""File below `<run>/tracking/` with the trackers of the run, for `largeforge track`."""
PROGRAM = ("-m", "largeforge.tracking")
PATIENCE_S, INTERRUPTED_S = 45.0, 5.0
"""How long the end of a run waits for trackers, and that of an interrupted one."""
WRITTEN_BY_A_SWEEP = ("mlflow",)
"""Trackers to which a sweep writes its trials itself (`sweep/tracking.py`)."""


def following(run_dir: Path, recipe: Recipe) -> Following:
    """Start the recipe's trackers for a run."""
    chosen = {name: tracker.model_dump(mode="json") for name, tracker in recipe.tracking.items()}
    if recipe.sweep.trial:
        chosen = {name: config for name, config in chosen.items() if config["name"] not in WRITTEN_BY_A_SWEEP}
    registry = recipe.registry.model_dump(mode="json")
    if chosen:
        kept = without_passwords({"tracking": chosen, "registry": registry})
        artifacts.write_json(run_dir / FOLDER / CONFIG, kept)
    return Following(run_dir, {name: _start(run_dir, name, config, registry) for name, config in chosen.items()})


@dataclass
class _Process:
    """One tracker's process."""

    popen: subprocess.Popen[bytes]
    problems: list[str] = field(default_factory=list)
    """What it said, in order; a thread adds to it."""
    is_told: bool = False
    listener: threading.Thread | None = None

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None
        return self.popen.stdin

    def wait(self) -> None:
        """Wait for its end, and for its last words."""
        self.stdin.close()
        self.popen.wait()
        if self.listener is not None:
            self.listener.join()


@dataclass
class Following:
    """The trackers of a run that goes on."""

    run_dir: Path
    processes: Mapping[str, _Process]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind, whatever happened."""
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.terminate()
            process.wait()

    def problems(self) -> list[str]:
        """Return what went wrong with each tracker, once for each."""
        found = []
        for name, process in self.processes.items():
            code = process.popen.poll()
            if not process.is_told and (process.problems or code):
                process.is_told = True
                found.append(
                    self._note(name, process.problems[-1] if process.problems else self._last_words(name, code))
                )
        return found

    def close(self, *, patience_s: float = PATIENCE_S) -> list[str]:
        """Tell the trackers that the run has ended, wait a while for them, and return what went wrong."""
        for process in self.processes.values():
            process.stdin.close()
        deadline = time.monotonic() + patience_s
        found = []
        for name, process in self.processes.items():
            try:
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.terminate()
                if not process.is_told and not process.problems:
                    process.is_told = True
                    found.append(self._note(name, f"it was not done within {patience_s:.0f} s"))
            process.wait()
        return found + self.problems()

    def _note(self, name: str, problem: str) -> str:
        from largeforge.runs import relative

        later = f"python -m largeforge track {relative(self.run_dir)}"
        return f"{name} does not track this run: {problem.rstrip('.')}. To send it later: {later}"

    def _last_words(self, name: str, code: int | None) -> str:
        try:
            lines = log_of(self.run_dir, name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"its process ended with exit code {code}"


def recorded(run_dir: Path) -> dict[str, Any]:
    """Return the sections `tracking` and `registry` that a run was tracked with; empty without any."""
    try:
        found = json.loads((run_dir / FOLDER / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def log_of(run_dir: Path, name: str) -> Path:
    """Return the file with the standard error of a tracker's process."""
    return run_dir / FOLDER / f"{name}.log"


def _start(run_dir: Path, name: str, config: Mapping[str, Any], registry: Mapping[str, Any]) -> _Process:
    """Start a tracker's process; a `wandb` folder in the working directory must not be imported by it."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    with log_of(run_dir, name).open("ab") as log:
        popen = subprocess.Popen(
            reaper.command([sys.executable, *PROGRAM, str(run_dir)], grace_s=2),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=environment,
        )  # fmt: skip
    process = _Process(popen)
    process.listener = threading.Thread(target=_listen, args=(process,), daemon=True)
    process.listener.start()
    with suppress(BrokenPipeError):  # it died at once, and said why
        process.stdin.write(json.dumps({"config": config, "registry": registry}).encode() + b"\n")
        process.stdin.flush()
    return process


def _listen(process: _Process) -> None:
    assert process.popen.stdout is not None
    with process.popen.stdout as lines:
        for line in lines:
            process.problems.append(line.decode("utf-8", "replace").strip())
