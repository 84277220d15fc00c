"""Remote data is asked for its version, copied once, and read from the copy when nobody answers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from largeforge.errors import DataError
from largeforge.files import cached, content, remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store, and a cache of its own; every answer is asked for anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FRESH_S", 0)
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def put(store: Any, **files: str) -> None:
    for name, text in files.items():
        store.pipe_file(f"/b/{name.replace('__', '/')}.jsonl", text.encode())


def texts(url: str) -> dict[str, str]:
    files, _ = cached.fetch(url, pause=lambda _: None)
    return {file.label: file.path.read_text() for file in files}


def test_a_file_a_folder_and_a_pattern(store: Any) -> None:
    put(store, x="1", sub__y="2")
    store.pipe_file("/b/README.md", b"no rows")
    assert texts("memory://b/x.jsonl") == {"b/x.jsonl": "1"}
    assert texts("memory://b") == texts("memory://b/**") == {"b/sub/y.jsonl": "2", "b/x.jsonl": "1"}
    assert texts("memory://b/*.jsonl") == {"b/x.jsonl": "1"}
    assert texts("memory://b/README.md") == {"b/README.md": "no rows"}


def test_a_file_is_copied_once_until_it_changes(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, x="1")
    opened: list[str] = []
    plain = type(store).open

    def noted(self: Any, path: str, mode: str = "rb", **keys: Any) -> Any:
        opened.extend([path] if mode == "rb" else [])
        return plain(self, path, mode, **keys)

    monkeypatch.setattr(type(store), "open", noted)
    assert texts("memory://b/x.jsonl") == texts("memory://b/x.jsonl") == texts("memory://b")
    first = content.identities(["memory://b"])
    assert len(opened) == 1
    put(store, x="2")
    assert texts("memory://b") == {"b/x.jsonl": "2"}
    assert len(opened) == 2
    assert content.identities(["memory://b"]) != first


def test_nothing_is_downloaded_to_know_what_is_there(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, x="1234")
    monkeypatch.setattr(type(store), "open", lambda *_, **__: pytest.fail("downloaded"))
    assert content.local_files("memory://b") is None
    assert content.size_bytes("memory://b") == 4
    assert content.identities(["memory://b"]).keys() == {"memory://b"}


def test_what_is_here_is_used_when_the_store_is_gone(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, x="1")
    known = content.identities(["memory://b"])
    assert texts("memory://b") == {"b/x.jsonl": "1"}

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(type(store), "info", gone)
    files, version = cached.fetch("memory://b")
    assert [file.path.read_text() for file in files] == ["1"]
    assert version.fault == "memory://b cannot be reached: no route to host"
    assert content.identities(["memory://b"]) == known
    with pytest.raises(remote.Unreachable, match="memory://other cannot be reached: no route to host"):
        cached.fetch("memory://other")


def test_a_broken_connection_is_tried_again(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, x="1" * 100)
    plain, pauses = type(store).open, []

    def flaky(self: Any, path: str, *rest: Any, **keys: Any) -> Any:
        if len(pauses) < 2:
            raise ConnectionResetError("reset by peer")
        return plain(self, path, *rest, **keys)

    monkeypatch.setattr(type(store), "open", flaky)
    files, _ = cached.fetch("memory://b", pause=pauses.append)
    assert files[0].path.read_text() == "1" * 100
    assert pauses == [2.0, 4.0]


def test_a_copy_that_is_cut_off_is_none(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, x="1" * 100)
    plain = type(store).open

    def short(self: Any, path: str, *rest: Any, **keys: Any) -> Any:
        file = plain(self, path, *rest, **keys)
        file.read(50)
        return file

    monkeypatch.setattr(type(store), "open", short)
    with pytest.raises(remote.Unreachable, match=r"memory://b/x\.jsonl: 50 of 100 bytes arrived"):
        cached.fetch("memory://b", pause=lambda _: None)
    monkeypatch.undo()


def test_progress_is_in_bytes_of_all_files(store: Any) -> None:
    put(store, x="1" * 10, y="2" * 20)
    told: list[tuple[int, int]] = []
    cached.fetch("memory://b", progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 30), (30, 30)]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://b/none.jsonl", "memory://b/none.jsonl does not exist"),
        ("memory://b/*.csv", "no file matches memory://b/*.csv"),
        ("memory://b/empty", "memory://b/empty has no data files (.jsonl,"),
        ("mmory://b", "mmory:// is nothing that fsspec can read. Did you mean memory://?"),
        ("adl://b/x", "adl://b/x: "),
        (f"hf://datasets/a/b@{'0' * 40}?what=x", "'what' is unknown; there are config and split"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    store: Any, url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, x="1")
    store.pipe_file("/b/empty/notes.txt", b"")
    with pytest.raises(DataError) as caught:
        cached.fetch(url)
    assert words in str(caught.value)


def test_passwords_of_a_library_are_not_told(store: Any) -> None:
    error = remote.explained("s3://b", OSError("no answer of https://key:secret@host/b"))
    assert "secret" not in str(error)


def test_a_dataset_without_its_prefix_is_suspected() -> None:
    error = remote.explained("hf://acme/rows", FileNotFoundError("acme/rows (repository not found)"))
    assert str(error).endswith("Did you mean hf://datasets/acme/rows?")


def test_a_server_that_does_not_answer_is_not_a_missing_file() -> None:
    error = FileNotFoundError("https://example.com/x.jsonl")
    assert "does not exist" in str(remote.explained("https://example.com/x.jsonl", error))
    error.__cause__ = ConnectionRefusedError("connection refused")
    assert isinstance(remote.explained("https://example.com/x.jsonl", error), remote.Unreachable)


def test_planning_without_remote_data_imports_none_of_it() -> None:
    code = "import sys, largeforge.files.content; assert not {'fsspec', 'pyarrow', 'datasets'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
