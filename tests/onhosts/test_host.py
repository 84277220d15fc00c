"""The program for hosts, brought to this machine and asked here."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import largeforge.onhosts.remote
from largeforge.deploy import remote_python
from largeforge.deploy.connection import Reach
from largeforge.deploy.remote import unpack
from largeforge.onhosts.host import OnHost
from largeforge.recipe.sections.hosts import Host, Paths

NAMES = {path.name for path in Path(largeforge.onhosts.remote.__file__).parent.glob("[a-z]*.py")}


@pytest.fixture
def host(tmp_path: Path) -> OnHost:
    """This machine, with a state folder that is not there yet."""
    return OnHost(Reach("here", Host(address="local", paths=Paths(state=str(tmp_path / "state"))), tmp_path / "config"))


def test_several_controllers_bring_the_program_at_once_and_it_answers(host: OnHost) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: host.install(), range(3)))
    folder = Path(host.programs)
    assert list(folder.parent.iterdir()) == [folder], "nothing that was made aside is left"
    assert {path.name for path in folder.iterdir()} == NAMES
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir()), "units of any account run it"
    said = host.look("none")
    assert (said["job"], said["inputs"], said["cores"]) == (None, [], len(os.sched_getaffinity(0)))


def test_who_comes_second_leaves_what_the_first_has_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "agent/key", os.rename

    def overtaken(aside: str, target: str) -> None:
        shutil.copytree(aside, target)
        (folder / "job.py").write_text("the first")
        rename(aside, target)

    monkeypatch.setattr(os, "rename", overtaken)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"job.py": "the second"})))
    assert unpack.main(str(folder)) == 0
    assert (folder / "job.py").read_text() == "the first"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_connection_that_breaks_on_the_way_leaves_no_part_of_the_program(tmp_path: Path) -> None:
    text = json.dumps({"job.py": "pass", "talk.py": "pass"})
    argv = remote_python.argv("unpack", str(tmp_path / "agent/key"))
    assert subprocess.run(argv, input=text[:-10], text=True, capture_output=True).returncode
    assert list(tmp_path.iterdir()) == []


def test_no_file_of_the_program_hides_a_module_of_python() -> None:
    assert not {name.removesuffix(".py") for name in NAMES} & sys.stdlib_module_names
