"""What is kept is believed only while nothing has changed, and never when it is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from largeforge import cache
from largeforge.artifacts import file_sha256


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in a world where every file was settled long ago unless a test says otherwise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.time, "time", lambda: 2.0**33)
    return tmp_path / "cache" / "largeforge"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("one\n")
    return path


def entries(home: Path) -> list[Path]:
    return sorted(home.rglob("*.json"))


def test_what_is_kept_comes_back(home: Path) -> None:
    assert cache.lookup("kind", {"a": 1}) is None
    cache.keep("kind", {"a": 1}, [1, "two"])
    assert cache.lookup("kind", {"a": 1}) == [1, "two"]
    assert cache.lookup("kind", {"a": 2}) is None
    assert cache.lookup("other", {"a": 1}) is None
    assert entries(home)[0].is_relative_to(home / "kind")


@pytest.mark.parametrize("damage", ["", "{", "null", "[]", '{"value": 1}', '{"value": 1, "seal": "x"}', "\x00" * 40])
def test_a_broken_entry_counts_as_absent_and_is_replaced(home: Path, damage: str) -> None:
    cache.keep("kind", "key", 1)
    entries(home)[0].write_text(damage)
    assert cache.lookup("kind", "key") is None
    cache.keep("kind", "key", 2)
    assert cache.lookup("kind", "key") == 2


def test_a_changed_value_in_an_entry_is_noticed(home: Path) -> None:
    cache.keep("kind", "key", "abcdef")
    path = entries(home)[0]
    path.write_text(path.read_text().replace("abcdef", "abcdeX"))
    assert cache.lookup("kind", "key") is None


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.keep("kind", "key", 1)
    assert cache.lookup("kind", "key") is None
    assert cache.cached_sha256(data) == file_sha256(data)


def test_a_relative_cache_home_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    cache.keep("kind", "key", 1)
    assert not (tmp_path / "here").exists()


def test_a_file_is_hashed_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.cached_sha256(data)
    assert first == file_sha256(data)
    monkeypatch.setattr(cache, "file_sha256", lambda _path: pytest.fail("hashed again"))
    assert cache.cached_sha256(data) == first


def test_other_content_of_the_same_size_and_time_is_hashed_again(data: Path) -> None:
    found = data.stat()
    first = cache.cached_sha256(data)
    data.write_text("two\n")
    os.utime(data, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert cache.cached_sha256(data) == file_sha256(data) != first


def test_a_file_put_in_its_place_is_hashed_again(data: Path, tmp_path: Path) -> None:
    first = cache.cached_sha256(data)
    other = tmp_path / "other"
    other.write_text("two\n")
    os.utime(other, ns=(data.stat().st_atime_ns, data.stat().st_mtime_ns))
    other.replace(data)
    assert cache.cached_sha256(data) != first


def test_a_file_that_changed_just_now_is_not_believed(data: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.time, "time", lambda: data.stat().st_mtime + 1)
    assert cache.cached_sha256(data) == file_sha256(data)
    assert entries(home) == []


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(
    data: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_late(path: Path) -> str:
        found = file_sha256(path)
        path.write_text("changed meanwhile\n")
        return found

    monkeypatch.setattr(cache, "file_sha256", hash_late)
    cache.cached_sha256(data)
    assert entries(home) == []


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.cached_sha256(tmp_path / "none")
