"""Servers of a measurement: programs compiled from C, processes on cores of their own, what they use.

A server that is not measured right now stands still (SIGSTOP), so that it takes nothing from the one that is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from largeforge import reaper
from scripts.benchmarks import _peers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_S = 180.0
_FIRST = '{ echo -20 > /proc/self/autogroup; } 2>/dev/null; exec nice -n -20 "$@"'
"""Linux weighs sessions, and then the processes within each."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """A server did not start, or an answer was wrong."""


def compiled(name: str, *, folder: Path | None = None) -> Path:
    """Return the program made of `_gateway_<name>.c`, compiled when its source is new."""
    source = Path(__file__).with_name(f"_gateway_{name}.c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = (folder or _peers.cache_folder()) / "gateway" / f"{name}-{digest}"
    if not program.is_file():
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchmarkFailed("no C compiler: the load and its upstream are compiled; install gcc")
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        ended = subprocess.run([compiler, "-O2", "-o", str(fresh), str(source)], capture_output=True, text=True)
        if ended.returncode:
            raise BenchmarkFailed(f"{source.name} cannot be compiled: {ended.stderr[-1000:]}")
        fresh.replace(program)
    return program


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other run measures on this machine, and be the only one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gateway.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run to end", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Cores:
    """Which cores the measured server has, and which the load and the upstream have."""

    server: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def apart(cls, count: int) -> Cores:
        """The first `count` cores for the server and the others for the rest; all for both when none would be left."""
        there = tuple(sorted(os.sched_getaffinity(0)))
        return cls(there[:count], there[count:]) if len(there) > count else cls(there, there)


def on_cores(cores: Sequence[int], argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv`, in a session of its own, on these cores only; for root before other work."""
    first = ["sh", "-c", _FIRST, "sh"] if os.geteuid() == 0 else []
    return [*first, "taskset", "--cpu-list", ",".join(map(str, cores)), *argv]


class Server:
    """One server with all its processes; leaving the context ends them."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        port: int,
        cores: Sequence[int],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ):
        self.name = name
        self.port = port
        self._argv = reaper.command(on_cores(cores, argv), grace_s=3)
        self._environment = {**os.environ, **(environment or {})}
        self._cwd = cwd or folder
        self._log = folder / f"{name.replace(' ', '-')}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, cwd=self._cwd, env=self._environment, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self.go_on()
        self._process.terminate()
        self._process.wait()

    def wait(self, request: bytes, expected: bytes, *, expert: str = "") -> None:
        """Wait until it answers a request rightly, and with this expert when one is named.

        Raises BenchmarkFailed with its last words when it does not.
        """
        deadline = time.monotonic() + START_S
        while not self._answers(request, expected, expert):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"{self.name} does not start: {self.last_words()}")
            time.sleep(0.1)

    def _answers(self, request: bytes, expected: bytes, expert: str) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body=request, headers=headers)
            answer = connection.getresponse()
            chosen = answer.getheader("x-largeforge-expert", "")
            return answer.status == 200 and expected in answer.read() and (not expert or chosen == expert)
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-1500:].strip()

    def stand_still(self) -> None:
        """Stop it where it is."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Return its processes without the reaper."""
        assert self._process is not None
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (fields := _stat(int(folder.name))):
                children.setdefault(int(fields[1]), []).append(int(folder.name))
        found = [self._process.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found[1:]

    def cpu_s(self) -> float:
        """Return the CPU seconds that its living processes have used."""
        stats = (_stat(pid) for pid in self.pids())
        return sum((int(fields[11]) + int(fields[12])) / _TICKS_PER_S for fields in stats if fields)

    def memory_mib(self) -> dict[str, float]:
        """Return what its processes hold now and held at most; what they share counts once for each."""
        return {"now": self._kib("VmRSS") / 1024, "peak": self._kib("VmHWM") / 1024}

    def _kib(self, key: str) -> float:
        return sum(_status_kib(pid, key) for pid in self.pids())


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _status_kib(pid: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def machine_busy_s() -> float:
    """Return the seconds that all cores together were busy since the machine started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def ask(program: Path, *, port: int, cores: Sequence[int], **words: object) -> dict[str, Any]:
    """Run the load (see `_gateway_load.c` for its words) and return what it measured.

    Raises BenchmarkFailed when an answer was wrong.
    """
    argv = [str(program), f"port={port}", *(f"{key}={value}" for key, value in words.items())]
    ended = subprocess.run(on_cores(cores, argv), capture_output=True, text=True, start_new_session=True)
    if ended.returncode:
        raise BenchmarkFailed(ended.stderr.strip()[-1200:] or f"the load ended with {ended.returncode}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
