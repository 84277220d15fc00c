"""Run one command so that nothing of it is left behind, however it ends and whoever dies first.

    subprocess.Popen(reaper.command([...]), start_new_session=True)

The reaper is a small process between a caller and its command. On Linux it adopts the orphans
of the whole tree (`PR_SET_CHILD_SUBREAPER`) and hears of its caller's death
(`PR_SET_PDEATHSIG`), so that `kill -9` of the caller ends the command too.

* SIGTERM, SIGINT, SIGHUP or the caller's death: SIGTERM to every descendant, SIGKILL after the
  grace time to those still alive. A second signal: SIGKILL at once.
* The command ends by itself: the same for what it left behind, with a shorter grace time.
* The exit code is the command's, 128 + the signal's number when one killed it.

Reapers nest: the outer one leaves the tree of an inner one to that one's own caller at first
(which may want an order, or to finish something) and kills both after its grace time.

Not covered: SIGKILL of the reaper itself kills its command, but not what the command started,
unless another reaper stands above. Elsewhere than on Linux only the command's process group is
ended. Standard library only, and as little of it as possible: every process starts through here.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing takes longer to import than everything else here
if TYPE_CHECKING:
    from collections.abc import Sequence

LINUX = sys.platform.startswith("linux")
NAME = "lf-reaper"
"""The reaper's name in the process table, by which an outer reaper knows an inner one."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ORPHANED = signal.SIGUSR1
"""What the kernel sends when the thread that started us dies: the caller may live on, so we look."""
LEFTOVERS_GRACE_S = 2.0
POLL_S = 0.05

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36


def command(argv: Sequence[str], *, grace_s: float = 10) -> list[str]:
    """Return the command line that runs `argv` under a reaper.

    The process that calls this must also be the one that starts it; `start_new_session=True`
    keeps a terminal's Ctrl-C from reaching the tree behind the caller's back.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), str(grace_s), *argv]  # noqa: PTH100


class Reaper:
    """One run of one command."""

    def __init__(self, *, caller: int, grace_s: float):
        self._caller = caller
        self._grace_s = grace_s
        self._stops = 0
        self._child = 0
        self._status: int | None = None
        self._wakeup = -1

    def run(self, argv: list[str]) -> int:
        """Run `argv` to its end or until told to stop; return its exit code."""
        self._listen()
        if LINUX:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
            _prctl(_PR_SET_PDEATHSIG, ORPHANED)
        self._child = _start(argv)
        while self._status is None and not self._stops and not self._is_orphan():
            self._wait(None if LINUX else 1.0)
        grace_s = self._grace_s if self._status is None else min(self._grace_s, LEFTOVERS_GRACE_S)
        self._clean(grace_s)
        return 1 if self._status is None else _exit_code(self._status)

    def _listen(self) -> None:
        self._wakeup, writer = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, self._stop)
        for number in (signal.SIGCHLD, ORPHANED):
            signal.signal(number, lambda *_: None)

    def _stop(self, *_: object) -> None:
        self._stops += 1

    def _is_orphan(self) -> bool:
        return os.getppid() != self._caller

    def _wait(self, seconds: float | None) -> None:
        """Sleep until a signal comes, then take the exit status of every child that ended."""
        if select.select([self._wakeup], [], [], seconds)[0]:
            os.read(self._wakeup, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child:
                self._status = status

    def _clean(self, grace_s: float) -> None:
        """End every descendant: ask, wait up to `grace_s`, then kill until none is left."""
        deadline = time.monotonic() + grace_s
        _send(signal.SIGTERM, self._living(through_reapers=False))
        while living := self._living():
            if self._stops > 1 or time.monotonic() >= deadline:
                _send(signal.SIGKILL, living)
            self._wait(POLL_S)
        self._wait(0)

    def _living(self, *, through_reapers: bool = True) -> list[int]:
        """Return the descendants that are not zombies, as positive pids; elsewhere the group, negative."""
        if LINUX:
            return descendants(os.getpid(), through_reapers=through_reapers)
        try:
            os.killpg(self._child, 0)
        except OSError:
            return []
        return [-self._child]


def main(arguments: list[str]) -> int:
    """Run `CALLER_PID GRACE_S COMMAND...`."""
    if LINUX:
        _prctl(_PR_SET_NAME, NAME.encode())
    caller, grace_s, *argv = arguments
    return Reaper(caller=int(caller), grace_s=float(grace_s)).run(argv)


def descendants(root: int, *, through_reapers: bool = True) -> list[int]:
    """Read Linux's process table and return the living pids below `root`."""
    children: dict[int, list[tuple[int, str, str]]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib takes longer to import
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                stat = file.read()
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        children.setdefault(int(parent), []).append((int(entry), name, state))
    living: list[int] = []
    parents = [root]
    while parents:
        for pid, name, state in children.get(parents.pop(), ()):
            if name == NAME and not through_reapers:
                continue
            parents.append(pid)
            if state not in "ZX":
                living.append(pid)
    return living


def _start(argv: list[str]) -> int:
    """Start `argv` in a process group of its own that does not outlive this process."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until the child no longer has our handlers
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        return pid
    try:
        os.setpgid(0, 0)
        for number in (*STOPS, ORPHANED, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        if LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"cannot start {argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _send(number: int, pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def _prctl(option: int, value: int | bytes) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value))


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
