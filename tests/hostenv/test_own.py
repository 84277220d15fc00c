"""LargeForge's own wheel: complete, the same bytes each time, and made from an installation as well."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from largeforge.hostenv import own
from largeforge.hostenv.pip import complaints


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_checkout_and_what_was_installed_from_it_are_the_same_content(cache: Path, tmp_path: Path) -> None:
    first, path = own.wheel()
    assert own.wheel() == (first, path)
    with zipfile.ZipFile(path) as archive:
        assert {"largeforge/shipped/requirements/gateway.txt", "largeforge/shipped/conf/config.yaml"} <= set(
            archive.namelist()
        )
    path.unlink()
    assert own.wheel()[0].sha256 == first.sha256
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(site),
    ]
    subprocess.run([*install, str(path)], check=True)
    code = "from largeforge.hostenv import own; w, p = own.wheel(); print(own._is_checkout(), w.content, p)"
    said = [
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"],
            capture_output=True, text=True, check=True, cwd=tmp_path, env={"XDG_CACHE_HOME": str(tmp_path / name)},
        ).stdout.split()
        for name in ("one", "two")
    ]  # fmt: skip
    assert said[0][:2] == said[1][:2] == ["False", first.content]
    again = tmp_path / "again"
    subprocess.run([*install[:-1], str(again), said[0][2]], check=True)
    assert (again / "largeforge" / "shipped" / "recipes" / "quickstart.yaml").is_file()
    assert (again / "bin" / "largeforge").is_file()


def test_another_line_of_code_is_another_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own.environment("gateway", "cpu")
    wheel, path = own.wheel()
    changed = path.with_name("changed.whl")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"largeforge/cli.py,sha256=", b"largeforge/cli.py,sha256=x"))
    monkeypatch.setattr(own, "wheel", lambda: (dataclasses.replace(wheel, content=own._content(changed)), changed))
    assert own.environment("gateway", "cpu").key != before.key


def test_passwords_are_no_part_of_what_pip_complains_of() -> None:
    text = "WARNING: Location is ignored\nERROR: 401 for url: https://me:hunter2@example.org/simple/x/\n"
    assert complaints(text) == "ERROR: 401 for url: https://example.org/simple/x/"
