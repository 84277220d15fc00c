"""Bundles are made by the real pip, out of small wheels that stand for the packages of a role."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from largeforge.errors import BuildError
from largeforge.hostenv import bundle, manifest, own, pins
from largeforge.hostenv.spec import Wheel
from largeforge.hostenv.target import Target, target
from tests.hostenv import wheels
from tests.in_process import largeforge

LISTS = {
    "gateway": "lf_one==1.0\nlf_two==2.0\n",
    "cpu": '-r gateway.txt\nlf_three==3.0\nlf_arm==4.0 ; platform_machine == "aarch64"\nlf_torch==5.0+cpu\n',
    "installer": "lf_pip==9.0\n",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds packages, instead of an index; lists that name them, and a small wheel for LargeForge itself."""
    shelf = tmp_path / "shelf"
    for name, version in (("one", "1.0"), ("two", "2.0"), ("three", "3.0"), ("pip", "9.0")):
        wheels.write(shelf, f"lf_{name}", version)
    wheels.write(shelf, "lf_arm", "4.0", tag="cp312-cp312-manylinux_2_28_aarch64")
    wheels.write(tmp_path / "torch", "lf_torch", "5.0+cpu")
    for name, text in LISTS.items():
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / f"{name}.txt").write_text(text)
    path = wheels.write(tmp_path / "own", "largeforge", "0.1.0")
    mine = Wheel("largeforge", "0.1.0", path.name, wheels.sha256(path), path.stat().st_size)
    monkeypatch.setattr(pins, "folder", lambda: tmp_path / "lists")
    monkeypatch.setattr(own, "wheel", lambda: (mine, path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{shelf} {tmp_path / 'torch'}")
    return shelf


def wanted(*roles: str, machine: Target | None = None) -> bundle.Wanted:
    return bundle.Wanted(roles, "cpu", machine or target(), torch_index="")


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in (folder / "wheels").glob("*.whl"))


def test_a_bundle_holds_what_its_roles_need_and_says_so(shelf: Path, tmp_path: Path) -> None:
    made = bundle.make(wanted("gateway", "serve"), tmp_path / "b", lambda text: None)
    found = manifest.read(tmp_path / "b")
    assert found == made
    assert names(tmp_path / "b") == ["largeforge", "lf_one", "lf_pip", "lf_three", "lf_torch", "lf_two"]
    assert [wheel.name for wheel in found.needed("gateway")] == ["lf-one", "lf-two", "largeforge"]
    assert found.environment("gateway").key != found.environment("serve").key
    listed = {wheel["name"]: wheel["roles"] for wheel in json.loads((tmp_path / "b/bundle.json").read_text())["wheels"]}
    assert (listed["lf-one"], listed["lf-three"], listed["lf-pip"]) == (["gateway", "serve"], ["serve"], [])
    assert found.problems(tmp_path / "b") == []
    with pytest.raises(BuildError, match="the bundle is for gateway, serve: make one with --role train"):
        found.environment("train")


def test_what_is_there_is_not_fetched_again(shelf: Path, tmp_path: Path) -> None:
    bundle.make(wanted("gateway"), tmp_path / "b", lambda text: None)
    for path in shelf.glob("lf_one*"):
        path.unlink()  # pip could not have it again
    (damaged,) = (tmp_path / "b" / "wheels").glob("lf_two*")
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    said: list[str] = []
    found = bundle.make(wanted("gateway", "serve"), tmp_path / "b", said.append)
    assert said[0] == "5 packages for gateway, serve, 2 are there"
    assert found.problems(tmp_path / "b") == []


def test_what_arrived_before_a_failure_is_kept(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_TOGETHER", 1)
    (gone,) = shelf.glob("lf_two*")
    away = gone.rename(tmp_path / gone.name)
    with pytest.raises(BuildError, match=r"(?s)lf_two==2\.0.*No matching distribution found for lf_two==2\.0"):
        bundle.make(wanted("gateway"), tmp_path / "b", lambda text: None)
    with pytest.raises(BuildError, match="no finished bundle"):
        manifest.read(tmp_path / "b")
    away.rename(gone)
    said: list[str] = []
    bundle.make(wanted("gateway"), tmp_path / "b", said.append)
    assert said[0] == "3 packages for gateway, 1 are there"
    assert not (tmp_path / "b" / ".fetching").exists()


def test_a_package_that_cannot_be_had_does_not_hide_another(shelf: Path, tmp_path: Path) -> None:
    for path in [*shelf.glob("lf_one*"), *shelf.glob("lf_pip*")]:
        path.unlink()
    with pytest.raises(BuildError) as caught:
        bundle.make(wanted("gateway"), tmp_path / "b", lambda text: None)
    assert "lf_one==1.0" in str(caught.value) and "lf_pip==9.0" in str(caught.value)
    assert "lf_two" not in str(caught.value)


def test_local_builds_come_from_the_index_that_has_them(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "none").as_uri())
    page = tmp_path / "index" / "lf-torch" / "index.html"
    page.parent.mkdir(parents=True)
    (file,) = (tmp_path / "torch").glob("*.whl")
    page.write_text(f'<a href="{file.as_uri()}">{file.name}</a>')
    having = bundle.Wanted(("serve",), "cpu", target(), torch_index=(tmp_path / "index").as_uri())
    assert "lf_torch" in str(bundle.make(having, tmp_path / "b", lambda text: None).wheels)


def test_wheels_of_another_machine_are_what_fits_there(shelf: Path, tmp_path: Path) -> None:
    arm = Target("3.12", "aarch64", 34)
    found = bundle.make(wanted("serve", machine=arm), tmp_path / "b", lambda text: None)
    assert "lf_arm-4.0-cp312-cp312-manylinux_2_28_aarch64.whl" in [wheel.file for wheel in found.needed("serve")]


def test_a_source_with_nothing_to_compile_is_built_here_for_another_machine(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_TOGETHER", 1)
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    next(shelf.glob("lf_two*")).unlink()
    source = {"setup.py": "import setuptools; setuptools.setup(name='lf_two', version='2.0', py_modules=['lf_two'])"}
    wheels.source(shelf / "lf_two-2.0.tar.gz", {**source, "lf_two.py": "", "PKG-INFO": "Name: lf_two\nVersion: 2.0\n"})
    found = bundle.make(wanted("gateway", machine=Target("3.12", "aarch64", 34)), tmp_path / "b", lambda text: None)
    assert "lf_two-2.0-py3-none-any.whl" in [wheel.file for wheel in found.needed("gateway")]


def test_another_machine_gets_no_file_of_the_first(shelf: Path, tmp_path: Path) -> None:
    bundle.make(wanted("gateway"), tmp_path / "b", lambda text: None)
    said: list[str] = []
    found = bundle.make(wanted("gateway", machine=Target("3.12", "aarch64", 34)), tmp_path / "b", said.append)
    assert said[0] == "3 packages for gateway, 0 are there"
    assert found.problems(tmp_path / "b") == []


def test_what_is_no_longer_needed_goes(shelf: Path, tmp_path: Path) -> None:
    bundle.make(wanted("serve"), tmp_path / "b", lambda text: None)
    said: list[str] = []
    bundle.make(wanted("gateway"), tmp_path / "b", said.append)
    assert names(tmp_path / "b") == ["largeforge", "lf_one", "lf_pip", "lf_two"]
    assert "removed lf_three-3.0-py3-none-any.whl, which is no longer needed" in said


def test_check_names_what_is_missing_and_what_is_damaged(shelf: Path, tmp_path: Path) -> None:
    made = largeforge("bundle", "--role", "gateway", "--output", str(tmp_path / "b"))
    assert (made.returncode, "4 wheels" in made.stdout) == (0, True), made.stderr
    whole = largeforge("bundle", "--check", str(tmp_path / "b"))
    assert whole.returncode == 0 and "gateway: 3 packages, environment " in whole.stdout
    (one,) = (tmp_path / "b" / "wheels").glob("lf_one*")
    one.unlink()
    (two,) = (tmp_path / "b" / "wheels").glob("lf_two*")
    two.write_bytes(b"x" * two.stat().st_size)
    checked = largeforge("bundle", "--check", str(tmp_path / "b"))
    assert checked.returncode == 1
    assert f"{one.name} is missing" in checked.stderr
    assert f"{two.name} is damaged: its sha256 is another" in checked.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "b"], "say what the hosts are for"),
        (["--role", "gateway"], "say where the bundle goes"),
        (["--role", "gateway", "--output", "b", "--python", "3.9"], "LargeForge runs on 3.11"),
        (["--role", "gateway", "--output", "b", "--platform", "win32"], "not a platform such as"),
        (["+recipe=nothing", "--output", "b"], "nothing"),
    ],
)
def test_a_wrong_command_line_is_one_message(words: list[str], said: str, tmp_path: Path) -> None:
    ended = largeforge("bundle", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr


def test_the_roles_of_a_recipe_are_what_it_does(shelf: Path, tmp_path: Path) -> None:
    ended = largeforge("bundle", "+recipe=serve_quickstart", "hardware=cpu", "--output", "b", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("cpu: gateway, serve")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 7}', '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(BuildError, match=r"bundle\.json"):
        manifest.read(tmp_path)
