"""Build an environment once: aside, under a lock, and renamed when it is whole.

An environment is a virtual environment without packages of its own but the pinned ones; everything else, torch above
all, comes from the interpreter that runs this (a line in a `.pth` file). So it costs megabytes and seconds instead of
gigabytes and minutes, and no build of torch is ever downloaded. What the tool then sees is checked: each pin, and
that all needs of the pinned packages are met. A build that was killed is begun anew; what pip had downloaded comes out
of pip's own cache.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from largeforge import reaper
from largeforge.environments import packages, spec, store
from largeforge.environments.store import Environment
from largeforge.errors import BuildError
from largeforge.recipe import environment_checks

if TYPE_CHECKING:
    from largeforge.environments.spec import Base, Spec

Report = Callable[[str], None]
"""Takes one line for people."""

_COMPLAINT = re.compile(r"\s*(WARNING|DEPRECATION|\[notice\])")
_SHOWN_LINES = 15


def ensure(wanted: Spec, report: Report) -> Environment:
    """Return an environment on top of the running interpreter, built now if need be.

    Raises BuildError when a package cannot be had, or what is there does not fit together.
    """
    base = spec.running()
    if found := store.find(wanted, base):
        return found
    folder = store.root() / wanted.key(base)
    with _alone(folder, report):
        return store.find(wanted, base) or _build(wanted, base, folder, report)


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    """Hold the lock of one environment: two runs do not build the same one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another run builds this environment: waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(wanted: Spec, base: Base, folder: Path, report: Report) -> Environment:
    if shared := environment_checks.shared(wanted.requirements):
        raise BuildError(f"environment {wanted.name}: {', '.join(shared)} must come from the running environment")
    if find_spec("pip") is None:
        raise BuildError(f"environment {wanted.name}: {sys.executable} has no pip; python -m ensurepip, or install pip")
    started, aside = time.monotonic(), folder.with_name(f".{folder.name}.building")
    shutil.rmtree(aside, ignore_errors=True)
    report(f"building environment {wanted.name}: {len(wanted.requirements)} packages on top of {base.prefix}")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(aside)
    own = store.site(aside)
    _install(wanted, own, aside / "tmp", report)
    _share(own, base)
    found = packages.closure(wanted.pins, [str(own), *base.paths], own=[str(own)])
    if found.problems:
        lines = "\n".join(f"  - {problem}" for problem in found.problems)
        raise BuildError(f"environment {wanted.name} does not fit on top of {base.prefix}:\n{lines}")
    seconds = round(time.monotonic() - started, 1)
    environment = Environment(
        wanted.name, folder.name, folder, wanted.requirements, found.versions, base.prefix, base.version, seconds
    )
    store.write(environment, aside)
    if folder.exists():
        store.remove(folder)
    aside.rename(folder)
    report(f"environment {wanted.name} is ready after {seconds:.0f} s")
    return environment


def _share(own: Path, base: Base) -> None:
    """Let the packages of the base be found after the environment's own, their `.pth` files included."""
    lines = [f"import site; site.addsitedir({path!r})\n" for path in base.paths]
    (own / "_shared.pth").write_text("".join(lines), encoding="utf-8")


def _install(wanted: Spec, own: Path, temporary: Path, report: Report) -> None:
    """Install exactly the pinned packages; raises BuildError with what pip complained of."""
    temporary.mkdir()  # on the disk that has room for the environment: /tmp may be small
    options = ["--no-deps", "--no-build-isolation", "--use-pep517", "--no-compile", "--progress-bar=off"]
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--target", str(own)]
    environ = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "TMPDIR": str(temporary)}
    log = temporary / "pip.log"
    with log.open("wb") as errors, subprocess.Popen(
        reaper.command([*pip, *options, *wanted.requirements], grace_s=2),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environ, text=True, errors="replace",
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            _follow(process.stdout, len(wanted.requirements), report)
        except BaseException:
            process.terminate()
            raise
        code = process.wait()
    if code:
        said = [line for line in log.read_text(errors="replace").splitlines() if not _COMPLAINT.match(line)]
        raise BuildError(f"environment {wanted.name}: pip ended with {code}:\n" + "\n".join(said[-_SHOWN_LINES:]))
    shutil.rmtree(temporary)
    shutil.rmtree(own / "bin", ignore_errors=True)  # scripts of another interpreter


def _follow(lines: IO[str], total: int, report: Report) -> None:
    """Read pip's output to its end and say how far it is."""
    collected = 0
    for line in lines:
        if match := re.match(r"(?:Collecting|Processing) (\S+)", line):
            collected += 1
            report(f"fetching {collected} of {total}: {Path(match[1]).name}")
        elif line.startswith("Building wheel"):
            report(line.strip().lower())
