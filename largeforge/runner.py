"""Execute a plan: every stage in a process of its own, side by side where the cores allow.

A stage that is finished is not run again; one that was interrupted is started again over the
same `work/` folder, where its checkpoints are. The runner alone writes manifests.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from largeforge import artifacts, autopsy, events, processor, reaper
from largeforge.environments import build, spec
from largeforge.errors import GateError, Interrupted, LargeForgeError, StageError
from largeforge.forecast.shortage import after_shortage
from largeforge.onhosts.task import command_on_hosts, is_on_hosts
from largeforge.recipe import extensions, launching
from largeforge.recipe.lock import versions
from largeforge.secrets import withheld, without_passwords
from largeforge.signals import STOP_GRACE_S, Signals
from largeforge.training.checkpoints import Store

if TYPE_CHECKING:
    from largeforge.plan import Plan, Stage
    from largeforge.runs import Run

Sink = Callable[[dict[str, Any]], None]
"""Takes every event of a run, in order."""

_WEIGHTS = {"train": 20, "evaluate": 4, "init": 2}
"""Roughly how long a kind of stage takes beside the others; decides only the order of starting."""


@dataclass
class _Process:
    """A stage that is running."""

    stage: Stage
    popen: subprocess.Popen[bytes]
    started: float
    log_size: int
    """Bytes of the log that earlier attempts wrote."""
    memory_kills: int
    """Processes that the kernel had killed for want of memory when it started."""
    buffer: bytes = b""
    result: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] = field(default_factory=dict)
    reached_gib: float = 0.0
    """Memory at the last report, where there was one."""

    @property
    def stdout(self) -> IO[bytes]:
        assert self.popen.stdout is not None
        return self.popen.stdout


def run(plan: Plan, directory: Run, sink: Sink) -> None:
    """Bring every stage of the plan to its end.

    Raises StageError when a stage fails, GateError when a gate refuses, Interrupted on SIGINT or
    SIGTERM. Stages that were running then are stopped; what is finished stays.
    """
    with Signals() as signals:
        _Execution(plan, directory, sink, signals).run()


class _Execution:
    """One pass over a plan."""

    def __init__(self, plan: Plan, directory: Run, sink: Sink, signals: Signals):
        self.plan, self.directory, self.sink, self.signals = plan, directory, sink, signals
        self.chains = _chains(plan)
        self.done: set[str] = set()
        self.to_run: set[str] = set()
        """Stages that were looked up and must run: looking again would hash their files again."""
        self.running: dict[str, _Process] = {}
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        try:
            while len(self.done) < len(self.plan.stages):
                self._start_ready()
                self._read(0.2)
                self._reap()
                if self.signals.count:
                    raise Interrupted("interrupted; run the same command again to continue")
        except BaseException:
            self._stop()
            raise
        finally:
            self.selector.close()

    def _start_ready(self) -> None:
        """Start each stage whose inputs are there and whose threads are free, those that most waits for first."""
        busy = sum(process.stage.threads for process in self.running.values())
        free = max(self.plan.machine.cores, 1) - busy
        for stage in sorted(self.plan.stages, key=lambda stage: -self.chains[stage.name]):
            waiting = stage.name not in self.done and stage.name not in self.running
            if not waiting or not self.done.issuperset(stage.needs):
                continue
            if self._finished_before(stage):
                continue
            alone_on_gpu = self.plan.machine.device == "cuda" and busy
            if stage.threads and (alone_on_gpu or (busy and stage.threads > free)):
                continue
            self._start(stage)
            busy, free = busy + stage.threads, free - stage.threads

    def _finished_before(self, stage: Stage) -> bool:
        if stage.name in self.to_run:
            return False
        manifest = self.directory.finished(stage)
        if manifest is None and self.plan.recipe.runs.resume:
            source = self.directory.finished_elsewhere(stage)
            manifest = self.directory.reuse(stage, source) if source else None
        if manifest is None:
            self.to_run.add(stage.name)
            return False
        self.done.add(stage.name)
        fields = {"metrics": manifest.metrics, "info": manifest.info}
        self._emit(stage, "finished", seconds=0.0, reused=True, **fields)
        return True

    def _start(self, stage: Stage) -> None:
        folder = self.directory.stage_dir(stage.name)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / artifacts.MANIFEST).unlink(missing_ok=True)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        inputs = {name: str(self.directory.stage_dir(source) / "out") for name, source in stage.inputs.items()}
        spec = {
            "stage": stage.name, "kind": stage.kind, "config": stage.config, "inputs": inputs,
            "out": str(folder / "out"), "work": str(folder / "work"), "lock": self.plan.digest,
            "recorded": _recorded(folder / "events.jsonl"),
        }  # fmt: skip
        # The order of experts decides ties between them, so it is kept.
        artifacts.write_json(folder / "stage.json", without_passwords(spec), sort_keys=False)
        with (folder / "log.txt").open("ab") as log:
            log_size = log.tell()
            popen = subprocess.Popen(
                reaper.command(self._command(stage, folder / "stage.json"), grace_s=STOP_GRACE_S),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, env={**self._environment(stage), **withheld(spec)},
            )  # fmt: skip
        process = _Process(stage, popen, time.time(), log_size, autopsy.memory_kills())
        os.set_blocking(process.stdout.fileno(), False)
        self.selector.register(process.stdout, selectors.EVENT_READ, process)
        self.running[stage.name] = process
        self._emit(stage, "started", title=stage.title)

    def _command(self, stage: Stage, spec: Path) -> list[str]:
        if is_on_hosts(self.plan, stage):
            return command_on_hosts(self.plan, stage, spec.parent)
        python = self._python()
        module = ["largeforge.stages", str(spec)]
        if stage.launcher is None:
            return [python, "-m", *module]
        launcher = extensions.load("launcher", stage.launcher["name"])
        place = launching.place(self.plan.recipe, self.plan.machine, python=python, folder=spec.parent)
        command: list[str] = launcher.command(launcher.Config(**stage.launcher), module, place)
        return command

    def _python(self) -> str:
        """Return the interpreter of the stages; an environment of pinned packages is built when it is first needed."""
        given = self.plan.recipe.environment
        if not given.requirements:
            return given.python or sys.executable
        wanted = spec.Spec(given.name, tuple(given.requirements))
        told = {"time": round(time.time(), 3), "stage": "", "kind": "note"}
        return build.ensure(wanted, lambda text: self.sink({**told, "text": text})).python

    def _environment(self, stage: Stage) -> dict[str, str]:
        """Return the environment of a stage; a `datasets.py` in the working directory must not be imported by it."""
        threads = str(max(stage.threads, 1))
        return {
            **(_KEEP_PAGES if self.plan.machine.device == "cpu" else {}),
            **({"OMP_WAIT_POLICY": "passive"} if self._others_are_busy(stage) else {}),
            **os.environ,
            "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
            "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0",
        }  # fmt: skip

    def _others_are_busy(self, stage: Stage) -> bool:
        """Whether other programs want the cores of a stage whose threads wait for each other.

        OpenMP's threads spin while they wait. With the cores to themselves that makes small models a third faster;
        beside other work the one that is waited for does not run, and a training takes several times as long.
        """
        alone = len(self.running) == 0  # stages of this run have cores of their own
        return self.plan.machine.device == "cpu" and stage.threads > 1 and alone and processor.busy_cores() > _BUSY

    def _read(self, timeout_s: float) -> None:
        """Pass on the events that stages have written; those that write no more are about to end."""
        for key, _ in self.selector.select(timeout_s if self.selector.get_map() else _ENDING_S):
            self._drain(key.data)

    def _drain(self, process: _Process) -> None:
        while True:
            try:
                data = os.read(process.stdout.fileno(), 65536)
            except BlockingIOError:
                return
            if not data:
                if process.stdout in {key.fileobj for key in self.selector.get_map().values()}:
                    self.selector.unregister(process.stdout)
                return
            *lines, process.buffer = (process.buffer + data).split(b"\n")
            for line in lines:
                self._line(process, line.decode("utf-8", "replace"))

    def _line(self, process: _Process, line: str) -> None:
        event = events.decode(line)
        if event is None:
            artifacts.append_line(self.directory.stage_dir(process.stage.name) / "log.txt", line)
        elif event["kind"] == "result":
            process.result = event
        elif event["kind"] == "failed":
            if not process.failed or (event.get("reason") and not process.failed.get("reason")):
                process.failed = event  # other workers fail when one is gone
        else:
            process.reached_gib = float(event.get("memory_gib") or process.reached_gib)
            self.sink(event)

    def _reap(self) -> None:
        """Take in the stages that have ended."""
        for name, process in list(self.running.items()):
            code = process.popen.poll()
            if code is None:
                continue
            self._drain(process)
            process.stdout.close()
            del self.running[name]
            if code != 0 or not process.result:
                raise self._failure(process, code)
            self._seal(process)
            self.done.add(name)

    def _seal(self, process: _Process) -> None:
        stage = process.stage
        folder = self.directory.stage_dir(stage.name)
        seconds = round(time.time() - process.started, 3)
        metrics, info = process.result.get("metrics", {}), process.result.get("info", {})
        manifest = artifacts.Manifest(
            stage=stage.name, kind=stage.kind, fingerprint=stage.fingerprint, lock=self.plan.digest,
            files=artifacts.hash_folder(folder / "out"), versions=versions(), metrics=metrics, info=info,
            inputs={name: self._fingerprint(source) for name, source in stage.inputs.items()},
            started=round(process.started, 3), seconds=seconds,
        )  # fmt: skip
        self.directory.seal(manifest)
        shutil.rmtree(folder / "work", ignore_errors=True)
        self.sink(process.result)
        self._emit(stage, "finished", seconds=seconds, reused=False, metrics=metrics, info=info)

    def _fingerprint(self, name: str) -> str:
        return next(stage.fingerprint for stage in self.plan.stages if stage.name == name)

    def _failure(self, process: _Process, code: int) -> LargeForgeError:
        """Return the error that a stage's end means, in one message."""
        stage = process.stage
        log = self.directory.stage_dir(stage.name) / "log.txt"
        kind: type[LargeForgeError] = (
            GateError if process.failed.get("exit_code") == GateError.exit_code else StageError
        )
        message, reason = self._cause(process, code, log)
        error = kind(f"{stage.name}: {message}")
        if process.failed.get("exit_code") == 2:
            error.exit_code = 2
        self._emit(stage, "failed", error=message, log=str(log), **({"reason": reason} if reason else {}))
        return error

    def _cause(self, process: _Process, code: int, log: Path) -> tuple[str, str]:
        """Return what happened, with what helps where that is known, and the reason in one word."""
        message, reason = str(process.failed.get("error", "")), str(process.failed.get("reason", ""))
        death = autopsy.examine(log, code, since=process.log_size)
        if not reason and death.killer == "SIGKILL" and autopsy.memory_kills() > process.memory_kills:
            message, reason = f"out of memory: the kernel killed its process{_reached(process)}", "out_of_memory"
        elif not message or (death.killer and not reason):
            message = death.text
        if reason == "out_of_memory":
            reached = max(process.reached_gib, float(process.failed.get("memory_gib", 0.0)))
            message = f"{message}\n{after_shortage(self.plan, process.stage.name, reached_gib=reached)}".rstrip()
        kept = Store(log.parent / "work" / "checkpoints", limit=0).steps()
        if kept and (death.killer or reason == "out_of_memory"):
            between = "\n" if "\n" in message else "; "
            message += f"{between}checkpoint-{kept[0]} is kept: the same command continues from it"
        return message, reason

    def _stop(self) -> None:
        """End every running stage; a second Ctrl-C does it without grace."""
        for process in self.running.values():
            process.popen.send_signal(signal.SIGTERM)
        noticed = min(self.signals.count, 1)  # the signal that brought us here, if it was one
        deadline = time.monotonic() + STOP_GRACE_S + 5
        while any(process.popen.poll() is None for process in self.running.values()):
            if self.signals.count > noticed or time.monotonic() > deadline:
                noticed = self.signals.count
                deadline = time.monotonic() + 5
                for process in self.running.values():
                    process.popen.send_signal(signal.SIGTERM)
            self._read(0.1)
        for process in self.running.values():
            process.stdout.close()

    def _emit(self, stage: Stage, kind: str, **fields: Any) -> None:
        self.sink({"time": round(time.time(), 3), "stage": stage.name, "kind": kind, **fields})


_ENDING_S = 0.01
"""Between two looks at whether the last stage that runs has ended."""
_BUSY = 0.3
"""Cores that other programs keep busy from which on threads had better not spin."""
_KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**29)}
"""Lets glibc keep the memory of tensors up to 32 MiB (its limit) for the next: new pages cost a twentieth of a step."""


def _chains(plan: Plan) -> dict[str, int]:
    """Return, for each stage, how much work waits for it along the longest chain, itself included."""
    chains: dict[str, int] = {}
    for stage in reversed(plan.stages):
        waiting = (chains[later.name] for later in plan.stages if stage.name in later.needs)
        chains[stage.name] = _WEIGHTS.get(stage.kind, 1) + max(waiting, default=0)
    return chains


def _recorded(path: Path) -> dict[str, int]:
    """Return the last step that a stage has told of, for its progress and its evaluations."""
    try:
        told = [event for line in path.read_text(encoding="utf-8").splitlines() if (event := events.decode(line))]
    except OSError:
        return {}
    steps = sorted(
        (int(event.get("step", 0)), event["kind"]) for event in told if event["kind"] in ("progress", "eval")
    )
    return {kind: step for step, kind in steps}


def _reached(process: _Process) -> str:
    reached = process.reached_gib
    return f", which had reached {reached:.2f} GiB at its last report" if reached else ""
