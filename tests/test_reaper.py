"""Trees of real processes, ended in every way that the reaper promises to survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge import reaper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not reaper.LINUX, reason="the full promise holds on Linux")

TREE = """
setsid sh -c 'echo $$ > setsid.pid; exec sleep 1000' &
(setsid sh -c 'echo $$ > daemon.pid; exec sleep 1000' &)
sh -c 'trap "" TERM INT HUP; echo $$ > stubborn.pid; while :; do sleep 1000; done' &
sh -c 'sh -c "echo \\$\\$ > grandchild.pid; sleep 1000; true"; true' &
echo $$ > root.pid
"""
NAMES = ("setsid", "daemon", "stubborn", "grandchild", "root")

CALLER = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from largeforge import reaper
child = subprocess.Popen(reaper.command(["sh", "-c", sys.argv[2]], grace_s=float(sys.argv[3])), start_new_session=True)
with open("reaper.pid", "w") as file:
    file.write(str(child.pid))
time.sleep(1000)
"""


def until(condition: Callable[[], bool], *, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Pids:
    """The pids that the processes of a tree wrote into a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getitem__(self, name: str) -> int:
        path = self.folder / f"{name}.pid"
        until(lambda: path.is_file() and path.read_text().strip() != "")
        return int(path.read_text())

    def living(self) -> list[str]:
        return [path.stem for path in self.folder.glob("*.pid") if alive(int(path.read_text()))]


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Pids]:
    found = Pids(tmp_path)
    yield found
    for name in found.living():
        os.kill(found[name], signal.SIGKILL)


@contextmanager
def start(folder: Path, argv: str | list[str], *, grace_s: float = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell script or a command under the reaper, and wait for its end."""
    command = reaper.command(["sh", "-c", argv] if isinstance(argv, str) else argv, grace_s=grace_s)
    with ended(subprocess.Popen(command, cwd=folder, start_new_session=True)) as process:
        yield process


@contextmanager
def start_caller(folder: Path, script: str, *, grace_s: float = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that runs a script under the reaper and sleeps, and wait for its end."""
    root = str(Path(reaper.__file__).parents[1])
    argv = [sys.executable, "-c", CALLER, root, script, str(grace_s)]
    with ended(subprocess.Popen(argv, cwd=folder)) as process:
        yield process


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def test_kill_9_of_the_caller_leaves_no_descendant(tmp_path: Path, pids: Pids) -> None:
    with start_caller(tmp_path, TREE + "wait") as caller:
        for name in NAMES:
            assert alive(pids[name])
        caller.kill()
    until(lambda: not pids.living())


def test_caller_that_dies_at_once_leaves_nothing(tmp_path: Path, pids: Pids) -> None:
    with start_caller(tmp_path, "echo $$ > root.pid; exec sleep 1000") as caller:
        assert pids["reaper"]
        caller.kill()
    until(lambda: not pids.living())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_whole_tree(tmp_path: Path, pids: Pids, number: int) -> None:
    with start(tmp_path, TREE + "wait") as process:
        for name in NAMES:
            assert alive(pids[name])
        process.send_signal(number)
    assert process.returncode == 128 + signal.SIGTERM
    assert pids.living() == []


def test_descendants_may_finish_within_the_grace_time(tmp_path: Path, pids: Pids) -> None:
    script = "trap 'sleep 0.3; echo saved > saved; exit 7' TERM; echo $$ > root.pid; while :; do sleep 0.05; done"
    with start(tmp_path, script, grace_s=60) as process:
        assert pids["root"]
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 7
    assert (tmp_path / "saved").is_file()


def test_second_signal_kills_at_once(tmp_path: Path, pids: Pids) -> None:
    script = "trap 'echo asked > asked' TERM; echo $$ > root.pid; while :; do sleep 0.05; done"
    with start(tmp_path, script, grace_s=100_000) as process:
        assert pids["root"]
        process.send_signal(signal.SIGTERM)
        until((tmp_path / "asked").is_file)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGKILL
    assert pids.living() == []


def test_leftovers_end_with_the_command(tmp_path: Path, pids: Pids) -> None:
    waiting = "".join(f"while [ ! -s {name}.pid ]; do sleep 0.02; done; " for name in NAMES)
    with start(tmp_path, TREE + waiting + "exit 3", grace_s=0.2) as process:
        pass
    assert process.returncode == 3
    assert pids.living() == []


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -SEGV $$", 128 + signal.SIGSEGV), ("kill -9 $$", 137)]
)
def test_exit_code_is_the_commands(tmp_path: Path, script: str, code: int) -> None:
    with start(tmp_path, script) as process:
        pass
    assert process.returncode == code


def test_command_that_does_not_exist(tmp_path: Path) -> None:
    argv = reaper.command(["/no/such/program"])
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stderr == "cannot start /no/such/program: No such file or directory\n"


def test_standard_streams_and_arguments_pass_through(tmp_path: Path) -> None:
    argv = reaper.command(["sh", "-c", 'cat; echo "$1" >&2', "sh", "--grace  5"])
    done = subprocess.run(argv, cwd=tmp_path, input="hello", capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("hello", "--grace  5\n")


def test_sigkill_of_the_reaper_kills_its_command(tmp_path: Path, pids: Pids) -> None:
    with start(tmp_path, "echo $$ > root.pid; exec sleep 1000") as process:
        assert pids["root"]
        process.kill()
    until(lambda: not pids.living())


def test_outer_reaper_leaves_the_order_to_the_caller_of_an_inner_one(tmp_path: Path, pids: Pids) -> None:
    """The inner command sees one SIGTERM, from its own caller, after that one has done its work."""
    inner = "trap 'cp order seen; exit 0' TERM; echo $$ > inner.pid; while :; do sleep 0.05; done"
    middle = f"""
import pathlib, signal, subprocess, sys, time
sys.path.insert(0, {str(Path(reaper.__file__).parents[1])!r})
from largeforge import reaper
child = subprocess.Popen(reaper.command(["sh", "-c", {inner!r}], grace_s=60), start_new_session=True)
def stop(*_):
    time.sleep(0.3)
    pathlib.Path("order").write_text("after the middle")
    child.terminate()
    sys.exit(child.wait())
signal.signal(signal.SIGTERM, stop)
pathlib.Path("middle.pid").write_text(str(__import__("os").getpid()))
time.sleep(1000)
"""
    with start(tmp_path, [sys.executable, "-c", middle], grace_s=60) as process:
        assert pids["inner"]
        assert pids["middle"]
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert (tmp_path / "seen").read_text() == "after the middle"


def test_inner_reaper_ends_its_tree_when_its_caller_is_killed(tmp_path: Path, pids: Pids) -> None:
    with start_caller(tmp_path, TREE + "wait", grace_s=0.2) as caller:
        for name in NAMES:
            assert alive(pids[name])
        caller.terminate()
    until(lambda: not pids.living())


def test_thread_that_started_it_may_end(tmp_path: Path, pids: Pids) -> None:
    """The kernel reports the death of the starting thread; the caller as a whole lives on."""
    from concurrent.futures import ThreadPoolExecutor

    script = "echo $$ > root.pid; while [ ! -e go ]; do sleep 0.02; done; exit 5"
    command = reaper.command(["sh", "-c", script])
    with ThreadPoolExecutor(1) as pool:
        process = pool.submit(subprocess.Popen, command, cwd=tmp_path, start_new_session=True).result()
        assert pids["root"]
    (tmp_path / "go").touch()
    assert process.wait() == 5
