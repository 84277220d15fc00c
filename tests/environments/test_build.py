"""Environments are built by the real pip, from a wheel that is made here."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from largeforge.environments import spec
from largeforge.environments.build import ensure
from largeforge.environments.spec import Base, Spec
from largeforge.errors import BuildError, RecipeError
from largeforge.recipe.environment_checks import shared

WANTED = Spec("probe", ("idna==99.0", "lf-probe==1.0"))
"""`idna` hides the package of that name that the running environment has."""


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that pip takes packages from, and a cache of environments of this test's own."""
    _wheel(tmp_path / "wheels", "idna", "99.0", "VERSION = 'ours'")
    _wheel(tmp_path / "wheels", "lf_probe", "1.0", "import idna", "Requires-Dist: idna>=99", "Requires-Dist: pydantic")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def test_pinned_packages_come_first_and_the_rest_is_shared(wheels: Path) -> None:
    told: list[str] = []
    found = ensure(WANTED, told.append)
    code = "import json, idna, lf_probe, pydantic, largeforge; print(json.dumps([idna.VERSION, pydantic.__version__]))"
    said = subprocess.run([found.python, "-c", code], capture_output=True, text=True, check=True).stdout
    import pydantic

    assert json.loads(said) == ["ours", pydantic.__version__]
    assert found.packages["idna"] == "99.0"
    assert found.packages["pydantic"] == pydantic.__version__
    assert any("2 of 2" in line for line in told)
    assert ensure(WANTED, pytest.fail) == found  # found again, nothing is built
    (found.folder / "environment.json").unlink()  # as after a kill between two steps
    assert ensure(WANTED, told.append).packages == found.packages


def test_two_runs_build_one_environment(wheels: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "environment"
    folder.mkdir(parents=True)
    lines = "".join(f"  - {line}\n" for line in WANTED.requirements)
    (folder / "probe.yaml").write_text(f"name: probe\nrequirements:\n{lines}")
    command = [sys.executable, "-m", "largeforge", "environments"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen([*command, "build", "probe"], cwd=tmp_path, **pipes) for _ in range(2)]
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum("is ready" in errors for _, errors in said) == 1
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "built" in next(line for line in listed.splitlines() if line.startswith("probe"))
    removed = subprocess.run([*command, "remove", "probe"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "removed probe" in removed.stdout
    assert [
        path.name for path in (tmp_path / "cache/largeforge/environments").iterdir() if path.suffix != ".lock"
    ] == []


def test_what_does_not_fit_is_refused_and_nothing_is_left(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"lf-probe 1\.0 needs idna>=99; 3\.\d+ is there"):
        ensure(Spec("probe", ("lf-probe==1.0",)), lambda text: None)
    assert not [path for path in (tmp_path / "cache/largeforge/environments").iterdir() if path.name[0] != "."]


def test_what_pip_says_is_told(wheels: Path) -> None:
    with pytest.raises(BuildError, match=r"No matching distribution found for lf-gone==1\.0"):
        ensure(Spec("gone", ("lf-gone==1.0",)), lambda text: None)


def test_a_build_of_torch_is_never_fetched() -> None:
    assert shared(["Torch==2.13.0", "nvidia_cublas==13.1", "nvidia-ml-py==13"]) == [
        "Torch==2.13.0",
        "nvidia_cublas==13.1",
    ]
    with pytest.raises(BuildError, match=r"torch==1\.0 must come from the running environment"):
        ensure(Spec("x", ("torch==1.0",)), lambda text: None)


def test_the_shipped_environments_share_torch() -> None:
    specs = spec.known()
    assert set(specs) == {"autoawq", "llm_compressor"}
    assert not [name for wanted in specs.values() for name in shared(wanted.requirements)]


def test_other_pins_or_another_interpreter_make_another_environment() -> None:
    base = Base("/usr/bin/python", "/usr", "CPython 3.11.2", "linux-x86_64", ())
    one = Spec("a", ("x==1", "y==2"))
    assert one.key(base) == Spec("b", ("y==2", "x==1")).key(base)
    assert one.key(base) != Spec("a", ("x==1", "y==3")).key(base)
    assert one.key(base) != one.key(Base("/usr/bin/python", "/usr", "CPython 3.12.1", "linux-x86_64", ()))


@pytest.mark.parametrize("line", ["--index-url=http://evil", "torch", "x>=1", "x==1 ; y", "git+https://h/x@1", "-r==1"])
def test_only_a_package_with_one_version_is_a_requirement(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "environment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(json.dumps({"name": "mine", "requirements": [line]}))
    with pytest.raises(RecipeError, match=r"conf/environment/mine\.yaml: requirements"):
        spec.named("mine")


def _wheel(folder: Path, name: str, version: str, code: str, *metadata: str) -> None:
    """Write a wheel of one module."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": head + "".join(f"{line}\n" for line in metadata),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
