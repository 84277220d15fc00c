"""Commands on hosts through OpenSSH: to their end, line by line, and the lock that keeps two controllers apart."""

from __future__ import annotations

import getpass
import json
import os
import platform
import secrets
import subprocess
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from largeforge import reaper
from largeforge.deploy import remote_python, secret_refs
from largeforge.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from types import TracebackType

    from largeforge.deploy.connection import Reach
    from largeforge.deploy.steps import Step

T = TypeVar("T")
R = TypeVar("R")

HEARTBEAT_S = 5.0
LOCK_SILENCE_S = 30
LOCK_TIMEOUT_S = 30.0
LOST = 255
"""Exit code of ssh when there is no connection, or not any more."""


class ConnectionLost(DeployError):
    """A host cannot be reached, or not any more; what was begun there may go on."""


class LockHeld(DeployError):
    """Somebody else is changing the deployment, or has done so meanwhile."""


def run(reach: Reach, argv: list[str], *, root: bool = True, stdin: str = "", timeout_s: float = 120.0) -> str:
    """Run a command on a host and return what it prints.

    Raises DeployError with its last words when it fails, takes too long, or the host cannot be reached.
    """
    command = reaper.command(reach.command(argv, root=root), grace_s=2)
    try:
        ended = subprocess.run(
            command, input=_opening(reach, root) + stdin, capture_output=True, text=True, errors="replace",
            timeout=timeout_s, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DeployError(f"{reach.name}: no end after {timeout_s:g} s: {_short(argv)}") from None
    if ended.returncode:
        raise DeployError(f"{reach.name}: {_said(ended.stderr or ended.stdout, ended.returncode)}")
    return ended.stdout


def answer(host: str, said: str, *, keys: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON object with these keys that a program on a host has printed last.

    Raises DeployError where it has printed anything else, such as a shell's greeting.
    """
    last = "".join(said.strip().splitlines()[-1:])
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        raise DeployError(f"{host}: its answer cannot be read: {last[:200]!r}")
    return found


def side_by_side(work: Callable[[T], R], given: Iterable[T], *, at_once: int) -> list[R]:
    """Return what `work` makes of each, at the same time; the first error is raised once its turn is there.

    Unlike those of a ThreadPoolExecutor, its threads hold no interruption back: they, and the commands that they wait
    for, end with this process.
    """
    turns, futures = threading.Semaphore(at_once), []

    def do(future: Future[R], one: T) -> None:
        with turns:
            try:
                future.set_result(work(one))
            except BaseException as error:
                future.set_exception(error)

    for one in given:
        futures.append(Future[R]())
        threading.Thread(target=do, args=(futures[-1], one), daemon=True).start()
    return [future.result() for future in futures]


def lines(reach: Reach, argv: list[str], *, root: bool = True, stdin: str = "", check: bool = True) -> Iterator[str]:
    """Yield the lines that a command on a host prints, as they come.

    Raises ConnectionLost when the connection breaks, and with `check` DeployError when the command fails.
    """
    process = subprocess.Popen(
        reaper.command(reach.command(argv, root=root), grace_s=2), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        process.stdin.write(_opening(reach, root) + stdin)
        process.stdin.close()
        yield from (line.rstrip("\n") for line in process.stdout)
        if code := process.wait():
            said = _said(process.stderr.read(), code)
            if code == LOST:
                raise ConnectionLost(f"{reach.name}: {said}")
            if check:
                raise DeployError(f"{reach.name}: {said}")
    except BrokenPipeError:
        raise ConnectionLost(f"{reach.name}: the connection is lost") from None
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def carry_out(reach: Reach, step: Step) -> None:
    """Bring one step about on a host, whatever is there now."""
    run(reach, ["sh", "-c", step.command()], stdin=step.input())


def who() -> str:
    """Return who is at work here, for others to see."""
    return f"{getpass.getuser()}@{platform.node()}"


class Locks:
    """The lock of a deployment on each of some hosts; a context. `check` tells whether all are still held.

    `asked` connects already, so that what else has to be waited for is waited for at the same time.
    """

    def __init__(self, reaches: Mapping[str, Reach], deployment: str):
        self._reaches, self._deployment = dict(reaches), deployment
        self._held: dict[str, subprocess.Popen[str]] = {}
        self._token = secrets.token_hex(8)
        self._turn = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def asked(self) -> Iterator[Self]:
        """Ask for the locks without waiting for them, and let them go at the end."""
        try:
            self._ask()
            yield self
        finally:
            self._let_go()

    def __enter__(self) -> Self:
        """Take all locks, or none.

        Raises DeployError with who holds one.
        """
        try:
            self._ask()
            self.confirm()
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def confirm(self, *names: str) -> None:
        """Wait until all locks that were asked for are held; given names, only those, and the others are let go.

        Raises DeployError with who holds one.
        """
        for name in set(self._held).difference(names or self._held):
            self._close(self._held.pop(name))
        for name, process in self._held.items():
            self._confirm(name, process)

    def check(self, *names: str) -> None:
        """Take the locks of these hosts, or of all, again where a link that broke has cost them.

        Raises DeployError when that is impossible, or somebody else has had one meanwhile.
        """
        with self._turn:
            for name in names or tuple(self._held):
                if self._held[name].poll() is not None:
                    self._take_again(name)

    def _take_again(self, name: str) -> None:
        until = time.monotonic() + LOCK_SILENCE_S + LOCK_TIMEOUT_S
        while True:
            self._close(self._held[name])
            self._held[name] = self._begin(self._reaches[name])
            said = self._answer(self._held[name])
            if said.get("before") not in (
                self._token,
                "",
            ):  # empty: the host has started again, and nobody had it since
                reason = f"and {said['held_by']} has it now" if "held_by" in said else "and was not had again"
                raise (LockHeld if said else DeployError)(
                    f"{name}: its lock was lost with the connection, {reason}; nothing more is done there"
                )
            if said.get("held"):
                return
            if time.monotonic() > until:
                raise DeployError(f"{name}: its lock is still held for the connection that was lost")
            time.sleep(1.0)  # until the host has noticed that, too

    def _ask(self) -> None:
        for name in sorted(self._reaches):
            self._held[name] = self._begin(self._reaches[name])
        threading.Thread(target=self._beat, daemon=True).start()

    def _begin(self, reach: Reach) -> subprocess.Popen[str]:
        argv = remote_python.argv(
            "hold", self._deployment, self._token, f"{who()} (process {os.getpid()})", str(LOCK_SILENCE_S)
        )
        process = subprocess.Popen(
            reaper.command(reach.command(argv, root=True), grace_s=1), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(_opening(reach, True))
        process.stdin.flush()
        return process

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Return what a host says of its lock; empty when it says nothing in time."""
        assert process.stdout is not None
        late = threading.Timer(LOCK_TIMEOUT_S, process.terminate)
        late.daemon = True
        late.start()
        try:
            line = process.stdout.readline()
        finally:  # an interruption does not wait for it
            late.cancel()
        said: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        return said

    def _confirm(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        said = self._answer(process)
        if "held_by" in said:
            raise LockHeld(f"{name}: {said['held_by']} is changing this deployment; wait until that has ended")
        if not said.get("held"):
            process.terminate()
            raise DeployError(f"nothing was changed: {name}: {_said(process.stderr.read(), process.wait())}")

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            for process in tuple(self._held.values()):
                try:
                    process.stdin.write("\n")  # type: ignore[union-attr]
                    process.stdin.flush()  # type: ignore[union-attr]
                except (OSError, ValueError):
                    continue

    def _let_go(self) -> None:
        self._over.set()
        for process in self._held.values():
            process.terminate()
        for process in self._held.values():
            self._close(process)
        self._held.clear()

    @staticmethod
    def _close(process: subprocess.Popen[str]) -> None:
        process.terminate()
        process.wait()
        for stream in (process.stdout, process.stderr):
            stream.close()  # type: ignore[union-attr]


def _opening(reach: Reach, root: bool) -> str:
    """Return the line that sudo reads first, where it wants one."""
    if root and reach.sudo and reach.host.sudo_password:
        return secret_refs.fetch(reach.host.sudo_password) + "\n"
    return ""


def _said(text: str, code: int) -> str:
    last = [line for line in text.strip().splitlines() if line.strip()][-3:]
    return " / ".join(last)[-600:] or f"exit code {code}"


def _short(argv: list[str]) -> str:
    return " ".join(word if len(word) < 60 else f"{word[:40]}…" for word in argv)[:200]
