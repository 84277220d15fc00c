"""The file system of the test hosts: built once, whole or not at all, whoever is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hosts import build_rootfs, requirements, rootfs
from tests.hosts.machines import ROOT

pytestmark = pytest.mark.skipif(bool(requirements.lacking()), reason=requirements.lacking())

BUILDER = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
with open("{log}", "a") as log:
    log.write("begun ")
(folder / "first").touch()
time.sleep({pause})
(folder / "last").touch()
"""

PROVIDE = """
import sys
from tests.hosts import build_rootfs, rootfs
build_rootfs.__file__ = sys.argv[1]
print(rootfs.provide())
"""


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that builds a file system of two files, slowly."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "builder.py"
    path.write_text(BUILDER.format(log=tmp_path / "log", pause=0.3))
    return path


def _provide(builder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROVIDE, str(builder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _await(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.is_file():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_two_at_once_build_once(builder: Path, tmp_path: Path) -> None:
    outputs = [process.communicate()[0] for process in (_provide(builder), _provide(builder))]
    assert len(set(outputs)) == 1
    assert (Path(outputs[0].strip()) / "last").is_file()
    assert (tmp_path / "log").read_text() == "begun "


def test_what_was_killed_half_way_is_begun_anew(builder: Path, tmp_path: Path) -> None:
    builder.write_text(BUILDER.format(log=tmp_path / "log", pause='60 if len(open("{log}").read()) < 10 else 0')
                       .replace("{log}", str(tmp_path / "log")))  # fmt: skip
    first = _provide(builder)
    _await(tmp_path / "log")
    first.kill()
    first.communicate()
    assert not [path for path in (tmp_path / "cache").glob("*/rootfs-*") if path.is_dir() and not path.suffix]
    output, _ = _provide(builder).communicate(timeout=30)
    assert (Path(output.strip()) / "last").is_file()
    assert (tmp_path / "log").read_text() == "begun begun "
    assert str(tmp_path) not in subprocess.run(["pgrep", "-fa", "builder.py"], capture_output=True, text=True).stdout


def test_another_recipe_is_another_file_system(builder: Path) -> None:
    outputs = [_provide(builder).communicate()[0]]
    builder.write_text(f"{builder.read_text()}# changed\n")
    outputs.append(_provide(builder).communicate()[0])
    assert outputs[0] != outputs[1]
    assert all((Path(output.strip()) / "last").is_file() for output in outputs)


def test_a_failed_build_says_why(builder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.write_text("import sys\nsys.exit('E: Failed getting release file http://debian.example')")
    monkeypatch.setattr(build_rootfs, "__file__", str(builder))
    with pytest.raises(rootfs.NotBuilt, match="Failed getting release file"):
        rootfs.provide()


def test_it_is_said_what_is_in_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert requirements.lacking() == ""
    monkeypatch.setattr(requirements, "KEYRING", tmp_path / "none")
    assert "test hosts need Debian" in requirements.lacking()
    monkeypatch.setattr("shutil.which", lambda command, **_: None if command == "rsync" else command)
    assert "packages of the operating system: rsync (" in requirements.lacking()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "test hosts need root" in requirements.lacking()
