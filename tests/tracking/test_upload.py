"""Events reach a tracker once, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.errors import TrackingError
from largeforge.recipe import extensions
from largeforge.recipe.tracking import File, Point, Record
from largeforge.tracking import upload
from tests.fakes import tracked, trained


class Server:
    """Keeps what it is given; refuses while it is down."""

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self.is_down = False
        self.given: list[Record] = []
        self.files: list[File] = []
        self.to = "here"

    def write(self, records: list[Record]) -> None:
        if self.is_down:
            raise TrackingError("no answer")
        self.given += records

    def close(self, files: list[File]) -> None:
        if self.is_down:
            raise TrackingError("no answer")
        self.files += files

    @property
    def steps(self) -> list[int]:
        return [record.step for record in self.given if isinstance(record, Point) and "train/loss" in record.values]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    module = SimpleNamespace(connect=lambda *_: server, destination=lambda *_: server.to)
    monkeypatch.setattr(extensions, "load", lambda *_: module)
    return server


def sitting(folder: Path, *, close: bool = True) -> None:
    config: Any = SimpleNamespace(name="fake")
    sending = upload.Upload(folder, config, {})
    while sending.advance():
        pass
    if close:
        sending.close()


def test_all_is_sent_once(tmp_path: Path, server: Server) -> None:
    folder = tracked.run_dir(tmp_path, *tracked.whole())
    sitting(folder)
    assert server.steps == list(range(10, 501, 10))
    assert [file.path.name for file in server.files] == ["report.html", "README.md"]
    before = len(server.given)
    sitting(folder)
    assert len(server.given) == before


def test_a_later_sitting_sends_what_came_since(tmp_path: Path, server: Server) -> None:
    whole = trained.training()
    folder = tracked.run_dir(tmp_path, *whole[:40])
    sitting(folder)
    first = server.steps
    tracked.write(folder, *whole[40:])
    sitting(folder)
    assert server.steps == list(range(10, 501, 10))
    assert 0 < len(first) < 50


def test_half_a_line_waits_for_its_end(tmp_path: Path, server: Server) -> None:
    folder = tracked.run_dir(tmp_path, *trained.training(until=20))
    text = (folder / "events.jsonl").read_text()
    (folder / "events.jsonl").write_text(text[:-20])
    sitting(folder)
    assert server.steps == [10]
    (folder / "events.jsonl").write_text(text)
    sitting(folder)
    assert server.steps == [10, 20]


def test_a_server_that_comes_back_gets_all(tmp_path: Path, server: Server) -> None:
    folder = tracked.run_dir(tmp_path, *trained.training(until=50))
    server.is_down = True
    with pytest.raises(TrackingError, match="no answer"):
        sitting(folder)
    server.is_down = False
    sitting(folder)
    assert server.steps == [10, 20, 30, 40, 50]


def test_what_is_safe_only_at_the_end_is_sent_again_until_then(tmp_path: Path, server: Server) -> None:
    server.durable = False
    folder = tracked.run_dir(tmp_path, *trained.training(until=20))
    sitting(folder, close=False)  # and the process was killed
    sitting(folder)
    assert server.steps == [10, 20, 10, 20]
    sitting(folder)
    assert server.steps == [10, 20, 10, 20]


def test_another_target_gets_the_whole_run(tmp_path: Path, server: Server) -> None:
    folder = tracked.run_dir(tmp_path, *trained.training(until=20))
    sitting(folder)
    server.to = "elsewhere"
    sitting(folder)
    server.to = "here"
    sitting(folder)
    assert server.steps == [10, 20, 10, 20]


def test_lines_longer_than_a_read_are_whole(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_MAX_BYTES", 100)
    folder = tracked.run_dir(tmp_path, *tracked.whole())
    sitting(folder)
    assert server.steps == list(range(10, 501, 10))
