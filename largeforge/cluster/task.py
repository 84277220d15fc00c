"""What a job of a cluster runs on each of its nodes: torch's elastic agent with the processes of that node.

submitit pickles a `NodeTask`, calls it in the job, and calls `checkpoint` when the job's time is nearly up or it is
preempted; what that returns is put back into the queue.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from largeforge import reaper

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE_S = 60.0
"""Time to save a checkpoint in, before the job is given up; `signal_delay_s` must leave it."""
POLL_S = 0.2
PORT_BASE, PORT_RANGE = 20_000, 20_000


class NodeTask:
    """One node's part of a training."""

    def __init__(self, python: str, module: Sequence[str], *, nodes: int, processes: int):
        self.python, self.module = python, tuple(module)
        self.nodes, self.processes = nodes, processes
        self._process: subprocess.Popen[bytes] | None = None
        self._is_leaving = False

    def __call__(self) -> None:
        """Run the processes of this node to their end; raises SystemError when they fail."""
        from submitit import JobEnvironment

        given = JobEnvironment()
        command = self.command(given.hostnames, node=given.node, job=given.job_id)
        self._process = subprocess.Popen(
            reaper.command(command, grace_s=GRACE_S), start_new_session=True, env={**os.environ, **threads()},
            preexec_fn=_ignore_warnings,
        )  # fmt: skip
        while not self._has_ended():
            time.sleep(POLL_S)
        code = self._process.wait()
        if self._is_leaving:
            return
        if code in (130, 128 + signal.SIGTERM):
            time.sleep(GRACE_S)  # told to end by the cluster, which now ends this as well, or puts it back
        if code:
            raise SystemError(f"the processes of this node ended with exit code {code}")

    def command(self, hosts: Sequence[str], *, node: int, job: str) -> list[str]:
        """Return the argv of this node; all nodes of a job meet at the first host, at a port of the job's own."""
        options = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.processes}", "--rdzv-backend=c10d"]
        if self.nodes == 1:
            options += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
        else:
            port = PORT_BASE + int("".join(filter(str.isdigit, job)) or 0) % PORT_RANGE
            options += [f"--rdzv-endpoint={hosts[0]}:{port}", f"--rdzv-id={job}"]
            options += [f"--rdzv-conf=is_host={int(node == 0)}", f"--local-addr={hosts[node]}"]
        return [self.python, "-m", "torch.distributed.run", *options, "-m", *self.module]

    def checkpoint(self) -> Any:
        """End the processes, which save a checkpoint if they can, and ask to be put back into the queue."""
        from submitit.helpers import DelayedSubmission

        self._is_leaving = True
        if self._process is not None and not self._has_ended():
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return DelayedSubmission(NodeTask(self.python, self.module, nodes=self.nodes, processes=self.processes))

    def _has_ended(self) -> bool:
        """Look without Popen's lock: `checkpoint` is called by a signal that may come while `__call__` looks."""
        if self._process is None or self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}


def threads() -> dict[str, str]:
    """Return the variables that give the processes the cores of the job, rather than those of where it was typed."""
    cores = str(len(os.sched_getaffinity(0)))
    return {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores}


def _ignore_warnings() -> None:
    """Let the cluster's warning pass those who are told by `checkpoint`: it goes to every process of a job."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
