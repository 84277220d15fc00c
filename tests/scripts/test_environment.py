"""The set-up: what it decides to do, what it finds missing, and how it recovers from an interrupted one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scripts.environment import build, installed, machine, stamp
from scripts.environment.pip import PipError, complaints, install

ROOT = Path(__file__).resolve().parents[2]
TARGET = stamp.Stamp(device="cpu", python="3.12.1", pins="p", project="q", venv="/repo/.venv")


def changed(**fields: str) -> stamp.Stamp:
    return dataclasses.replace(TARGET, **fields)


@pytest.mark.parametrize(
    ("found", "python", "create", "install"),
    [
        pytest.param(None, "", True, True, id="nothing there"),
        pytest.param(TARGET, "", True, True, id="its Python is gone"),
        pytest.param(TARGET, "3.9.2", True, True, id="its Python is too old"),
        pytest.param(None, "3.12.1", False, True, id="interrupted"),
        pytest.param(changed(pins="other"), "3.12.1", False, True, id="requirements changed"),
        pytest.param(changed(project="other"), "3.12.1", False, False, id="only pyproject.toml changed"),
        pytest.param(changed(device="cuda"), "3.12.1", True, True, id="the GPU is gone"),
        pytest.param(changed(venv="/elsewhere/.venv"), "3.12.1", True, True, id="moved"),
    ],
)
def test_only_what_is_needed_is_done(found: stamp.Stamp | None, python: str, create: bool, install: bool) -> None:
    work = build.needed(found, TARGET, python_of_venv=python)
    assert (work.create, work.install) == (create, install)


def test_a_stamp_comes_back_and_half_of_one_does_not(tmp_path: Path) -> None:
    stamp.write(tmp_path, TARGET)
    assert stamp.read(tmp_path) == TARGET
    (tmp_path / stamp.NAME).write_text((tmp_path / stamp.NAME).read_text()[:20])
    assert stamp.read(tmp_path) is None


def test_a_package_whose_files_are_not_all_there_is_forgotten(tmp_path: Path) -> None:
    for name in ("whole", "cut", "unrecorded", "gone"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\n")
        (info / "RECORD").write_text(f"{name}.py,sha256=x,6\n__pycache__/{name}.pyc,,\n{name}-1.0.dist-info/RECORD,,\n")
    (tmp_path / "cut.py").write_text("x")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "unrecorded-1.0.dist-info" / "RECORD").unlink()
    (tmp_path / "~umpy").mkdir()
    assert installed.remove_damaged(tmp_path) == ["cut", "gone", "unrecorded"]
    assert installed.packages(tmp_path) == {"whole": "1.0"}
    assert not (tmp_path / "~umpy").exists()


@pytest.mark.parametrize(("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)])
def test_the_python_is_judged(version: tuple[int, int], fits: bool) -> None:
    assert (machine.python_problem(version) == "") is fits


def test_platforms_without_wheels_are_named() -> None:
    assert machine.platform_problem("Linux", "x86_64") == ""
    assert "Darwin on arm64" in machine.platform_problem("Darwin", "arm64")


@pytest.mark.parametrize(("driver", "fits"), [("570.86.15", False), ("580.65.06", True), ("595.1", True)])
def test_a_driver_that_is_too_old_for_the_cuda_build_is_named(driver: str, fits: bool) -> None:
    assert (machine.driver_problem([f"NVIDIA H200, {driver}"]) == "") is fits


def test_gpus_are_what_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.find_gpus() == []
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 580.65.06'\n")
    smi.chmod(0o755)
    assert machine.find_gpus() == ["NVIDIA GeForce RTX 4090, 580.65.06"]
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed: no driver'\nexit 9\n")
    assert machine.find_gpus() == []


def test_a_compiler_without_headers_does_not_count(tmp_path: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'stdlib.h: no such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    found = machine.find_compiler((str(broken),), ".c")
    assert (found.version, found.error) == ("", "stdlib.h: no such file")
    assert machine.find_compiler(("no-such-compiler",), ".c") == machine.Compiler()


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("mine")
    monkeypatch.setattr(machine, "c_compiler", machine.Compiler)
    monkeypatch.setattr(machine, "free_gb", lambda folder: 1.5)
    with pytest.raises(build.SetupError) as caught:
        build.bring_up_to_date(ROOT, tmp_path, device="cpu", torch_index="")
    message = str(caught.value)
    assert "no virtual environment: it is left alone" in message
    assert "a C compiler" in message and "apt install gcc" in message
    assert "1.5 GB free" in message
    assert (tmp_path / "precious").read_text() == "mine"


def test_pips_warnings_are_left_out_and_its_errors_kept() -> None:
    text = "WARNING: Location 'file:///x' is ignored\nERROR: No matching distribution found for torch\n  more\n"
    assert complaints(text) == "ERROR: No matching distribution found for torch\n  more"
    assert complaints("WARNING: only this\n") == "WARNING: only this"
    lost = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError': /simple/torch/"
    assert complaints(f"{lost}\n{lost}\n{text}").splitlines()[0] == lost


def test_what_pip_cannot_find_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(PipError, match="No matching distribution found for largeforge-does-not-exist"):
        install(tmp_path / "venv", ["--no-index", "largeforge-does-not-exist==1"])


def test_an_environment_that_is_up_to_date_is_left_alone_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "venv"
    venv.create(made, with_pip=False)
    stamp.write(made, stamp.wanted(ROOT, made, device="cpu", python=stamp.python_of(made)))
    monkeypatch.setattr(build, "install", lambda *_, **__: pytest.fail("nothing is to be installed"))
    build.bring_up_to_date(ROOT, made, device="cpu", torch_index="")
    assert "up to date" in capsys.readouterr().err


def test_setup_says_which_python_is_needed(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.2' && exit 0\nexit 1\n")
    old.chmod(0o755)
    environ = {"PATH": "/usr/bin:/bin", "LARGEFORGE_PYTHON": str(old)}
    ended = subprocess.run([str(ROOT / "scripts" / "setup")], env=environ, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Python 3.11 to 3.14 is needed" in ended.stderr and "Python 3.9.2" in ended.stderr


def test_setup_explains_itself() -> None:
    environ = {"PATH": "/usr/bin:/bin", "LARGEFORGE_PYTHON": sys.executable}
    ended = subprocess.run([str(ROOT / "scripts" / "setup"), "--help"], env=environ, capture_output=True, text=True)
    assert ended.returncode == 0
    assert all(option in ended.stdout for option in ("--venv", "--device", "--torch-index"))
