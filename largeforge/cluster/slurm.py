"""Train as a job of a Slurm cluster: `python -m largeforge.cluster.slurm SPEC`, the command of `launcher=slurm`.

Submits the job through submitit, follows it until it ends, and passes on the events that its processes write to the
job's output files. Told to stop, it cancels the job. A job of an earlier attempt that is still there, because its
follower was killed, is cancelled before another one is submitted over the same checkpoints.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from largeforge import artifacts, events
from largeforge.cluster.blame import Ending, cause
from largeforge.cluster.spec import JobSpec
from largeforge.cluster.task import NodeTask

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = "job.json"
SLURM_TIMEOUT_S = 60
CANCEL_TIMEOUT_S = 30
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")
ALIVE = (*WAITING, "RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "STOPPED")
DONE = ("COMPLETED", "GONE")
REQUEUE_S = 10.0
"""How long a job that is put back into the queue may look as if it had failed."""
REQUEUED_S = 120.0
"""The same, once its log says that it was put back: a busy controller takes its time."""
_PUT_BACK = "DUE TO JOB REQUEUE"
"""What slurmstepd writes into the log of such a job."""
_WHY = {
    "TIMEOUT": "reached its time limit (launcher.timeout_min); run the same command again to continue",
    "PREEMPTED": "was preempted; run the same command again to continue",
    "CANCELLED": "was cancelled by somebody; run the same command again to continue",
    "NODE_FAIL": "lost a node; run the same command again to continue",
    "BOOT_FAIL": "lost a node as it started; run the same command again to continue",
    "OUT_OF_MEMORY": "was killed for using more memory than it asked for (launcher.mem_gb)",
    "DEADLINE": "reached its deadline",
}


class Job(Protocol):
    """What of submitit's jobs is used."""

    job_id: str
    num_tasks: int

    def cancel(self) -> None: ...


class Output:
    """What the tasks of a job write, read as it grows."""

    def __init__(self, folder: Path, job_id: str, tasks: int):
        self._paths = {
            (task, kind): folder / f"{job_id}_{task}_log.{kind}" for task in range(tasks) for kind in ("out", "err")
        }
        self._offsets = dict.fromkeys(self._paths, 0)

    def lines(self, *, last: bool = False) -> Iterator[tuple[int, str]]:
        """Return each new line with the task that wrote it; `last`: also one that is not ended."""
        for (task, kind), path in self._paths.items():
            try:
                with path.open("rb") as stream:
                    stream.seek(self._offsets[task, kind])
                    data = stream.read()
            except OSError:  # not yet there
                continue
            whole = data if last else data[: data.rfind(b"\n") + 1]
            self._offsets[task, kind] += len(whole)
            yield from ((task, line) for line in whole.decode("utf-8", "replace").splitlines())


class Following:
    """One job from its submission to its end."""

    def __init__(self, spec: JobSpec, out: events.Events, *, passed: IO[str], log: IO[str]):
        self._spec, self._out, self._passed, self._log = spec, out, passed, log
        self._folder = Path(spec.folder) / "work" / "slurm"
        self._failed: dict[int, dict[str, Any]] = {}
        self._last: dict[int, deque[str]] = {}
        self._state = ""
        self._told = ("", "")
        self._stopped = False

    def run(self) -> int:
        """Submit and follow the job; return an exit code, after a `failed` event if it is not 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._cancel_earlier()
        try:
            job = self._submit()
        except Exception as error:  # submitit raises what sbatch says in exceptions of several kinds
            return self._fail(f"the job could not be submitted: {_first_words(error)}")
        output = Output(self._folder, job.job_id, job.num_tasks)
        ended_at = 0.0
        while not self._stopped:
            state = self._look(job)
            self._take(output)
            if state in ALIVE:
                ended_at = 0.0
            elif state in DONE or self._spec.cluster != "slurm" or self._has_failed(ended_at):
                self._take(output, last=True)
                return self._end(job, state)
            else:
                ended_at = ended_at or time.monotonic()
            time.sleep(self._spec.poll_s)
        job.cancel()
        self._await_end(lambda: self._look(job))
        self._take(output, last=True)
        return 130

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _submit(self) -> Job:
        import submitit

        spec = self._spec
        executor = submitit.AutoExecutor(
            self._folder, cluster=spec.cluster, slurm_max_num_timeout=spec.max_requeues, slurm_python=spec.python
        )
        executor.update_parameters(**spec.parameters)
        task = NodeTask(spec.python, spec.module, nodes=spec.nodes, processes=spec.processes)
        job: Job = executor.submit(task)
        artifacts.write_json(self._folder / JOB, {"job_id": job.job_id, "cluster": spec.cluster})
        self._out.emit("note", text=f"submitted as {spec.cluster} job {job.job_id}")
        return job

    def _cancel_earlier(self) -> None:
        """End the job of an earlier attempt that nobody follows any more."""
        try:
            earlier = json.loads((self._folder / JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        try:
            if earlier.get("cluster") != "slurm" or slurm_state(earlier["job_id"])[0] not in ALIVE:
                return
            self._out.emit("note", text=f"cancelling slurm job {earlier['job_id']} of an earlier attempt")
            subprocess.run(["scancel", str(earlier["job_id"])], capture_output=True, timeout=SLURM_TIMEOUT_S)
            self._await_end(lambda: slurm_state(earlier["job_id"])[0])
        except (OSError, subprocess.TimeoutExpired) as error:
            text = f"slurm job {earlier['job_id']} of an earlier attempt may still run: {type(error).__name__}: {error}"
            self._out.emit("note", text=text)

    @staticmethod
    def _await_end(state: Any) -> None:
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        while state() in ALIVE and time.monotonic() < deadline:
            time.sleep(0.2)

    def _has_failed(self, since: float) -> bool:
        """Whether a job that looks as if it had failed, since a moment, will not come back from the queue."""
        put_back = any(_PUT_BACK in line for lines in self._last.values() for line in lines)
        return bool(since) and time.monotonic() - since > (REQUEUED_S if put_back else REQUEUE_S)

    def _look(self, job: Job) -> str:
        """Return the job's state, and tell about it when it changed."""
        if self._spec.cluster == "slurm":
            state, detail = slurm_state(job.job_id)
        else:
            state, detail = str(getattr(job, "state", "")), ""
        if state in WAITING and self._state not in WAITING and self._state:
            self._failed.clear()  # put back into the queue: what was said as it ended is no failure
            self._last.clear()
        if state in ALIVE and (state, detail) != self._told:
            self._told = (state, detail)
            self._out.emit("note", text=f"job {job.job_id} is {state.lower()}{f' ({detail})' if detail else ''}")
        self._state = state
        return state

    def _take(self, output: Output, *, last: bool = False) -> None:
        for task, line in output.lines(last=last):
            event = events.decode(line)
            if event is not None and event["kind"] == "failed":
                self._failed.setdefault(task, event)
            elif event is not None:
                self._passed.write(line + "\n")
                self._passed.flush()
            elif line.strip():
                self._last.setdefault(task, deque(maxlen=60)).append(line)
                self._log.write(f"[{task}] {line}\n")
                self._log.flush()

    def _end(self, job: Job, state: str) -> int:
        if state in ("COMPLETED", "FINISHED") and not self._failed and self._succeeded(job):
            return 0
        where = f"{self._spec.cluster} job {job.job_id}"
        if state in _WHY:
            return self._fail(f"{where} {_WHY[state]}")
        endings = [self._ending(task) for task in sorted({*self._failed, *self._last})]
        first = cause(endings) if endings else None
        if first and (first.killed or first.error):
            said = f"{first.host}: {first.killed}" if first.killed else first.error
            return self._fail(f"{where}: {said}", exit_code=first.exit_code, reason=first.kind)
        words = [line for task in sorted(self._last) for line in self._last[task]][-15:]
        tail = "\n  ".join(words or ["(empty)"])
        return self._fail(f"{where} ended as {state.lower()}. The end of its log:\n  {tail}")

    def _ending(self, task: int) -> Ending:
        event = self._failed.get(task, {})
        return Ending(
            f"node {task}", "local", 1, error=str(event.get("error", "")), exit_code=event.get("exit_code", 1),
            reason=event.get("reason", ""), words=list(self._last.get(task, ())),
        )  # fmt: skip

    def _succeeded(self, job: Any) -> bool:
        """Tell whether every task came to its end; Slurm calls a job complete that submitit put to an end itself."""
        with suppress(Exception):
            return all(job.task(number).exception() is None for number in range(job.num_tasks))
        return False

    def _fail(self, message: str, *, exit_code: int = 1, reason: str = "") -> int:
        self._out.emit("failed", error=message, exit_code=exit_code, reason=reason)
        return exit_code


def slurm_state(job_id: str) -> tuple[str, str]:
    """Return a job's state and its reason or nodes, as the controller knows them; `GONE` when it forgot the job.

    Asks the controller: submitit asks the accounting database, which small clusters do not have.
    """
    argv = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T|%R"]
    for _ in range(3):
        try:
            asked = subprocess.run(argv, capture_output=True, text=True, timeout=SLURM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        if asked.returncode == 0 and asked.stdout.strip():
            state, _, detail = asked.stdout.strip().splitlines()[0].partition("|")
            return state, detail.strip("()") if detail not in ("None", "(None)") else ""
        if asked.returncode == 0 or "Invalid job id" in asked.stderr:
            return "GONE", ""
        time.sleep(1)
    return "RUNNING", "the controller does not answer"


def _first_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if "sbatch: error" in line or "error:" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def main(arguments: list[str]) -> int:
    """Carry out the spec on the command line."""
    spec = JobSpec.decode(arguments[0])
    stage = json.loads((Path(spec.folder) / "stage.json").read_text(encoding="utf-8"))["stage"]
    return Following(spec, events.Events(stage, sys.stdout), passed=sys.stdout, log=sys.stderr).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
