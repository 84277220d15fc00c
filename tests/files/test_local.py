"""Folders and patterns mean the files that one would expect, in a fixed order."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from largeforge.errors import DataError
from largeforge.files import content
from largeforge.files.local import expand

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("b.jsonl", "a.csv", "sub/c.parquet", "sub/deep/a.jsonl.gz", "README.md", ".hidden.jsonl", "_tmp/x.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "data"


def names(folder: Path, path: str) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in expand(path)]


def test_a_folder_is_all_of_its_data_files(folder: Path) -> None:
    assert names(folder, str(folder)) == ["a.csv", "b.jsonl", "sub/c.parquet", "sub/deep/a.jsonl.gz"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["b.jsonl"]),
        ("*", ["a.csv", "b.jsonl"]),
        ("**", ["a.csv", "b.jsonl", "sub/c.parquet", "sub/deep/a.jsonl.gz"]),
        ("**/*.gz", ["sub/deep/a.jsonl.gz"]),
        ("[ab].*", ["a.csv", "b.jsonl"]),
        ("README*", ["README.md"]),
    ],
)
def test_patterns(folder: Path, pattern: str, found: list[str]) -> None:
    assert names(folder, f"{folder}/{pattern}") == found


def test_a_file_whose_name_has_wildcards_is_that_file(folder: Path) -> None:
    (folder / "a[1].jsonl").touch()
    assert names(folder, f"{folder}/a[1].jsonl") == ["a[1].jsonl"]


def test_a_file_is_itself_whatever_it_is_called(folder: Path) -> None:
    assert names(folder, f"{folder}/README.md") == ["README.md"]
    assert names(folder, f"{folder}/none.jsonl") == ["none.jsonl"]


def test_nothing_to_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is a folder without data files \(\.jsonl, "):
        expand(str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"no file matches .*/\*\.xml"):
        expand(f"{folder}/*.xml")


def test_what_identifies_data_changes_with_names_and_contents(folder: Path) -> None:
    def identity(path: str) -> str:
        return content.identities([path])[path]

    assert identity(f"{folder}/b.jsonl") == sha256(b"b.jsonl").hexdigest()
    before = identity(str(folder))
    assert identity(f"{folder}/**") == before
    (folder / "README.md").write_text("other")
    assert identity(str(folder)) == before
    (folder / "a.csv").write_text("other")
    changed = identity(str(folder))
    (folder / "a.csv").rename(folder / "z.csv")
    assert len({before, changed, identity(str(folder))}) == 3
    assert content.identities([f"{folder}/none.jsonl", f"{folder}/*.none"]) == {}


def test_files_of_several_paths_are_told_apart(folder: Path) -> None:
    (folder / "sub" / "b.jsonl").touch()
    found = content.local_files([f"{folder}/b.jsonl", f"{folder}/sub"])
    assert found is not None
    assert [file.label for file in found] == ["data/b.jsonl", "sub/b.jsonl", "c.parquet", "a.jsonl.gz"]
