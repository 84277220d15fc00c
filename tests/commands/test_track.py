"""Sending a run later: what is wrong with the words is one message."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge import cli
from largeforge.errors import TrackingError
from largeforge.trackers import mlflow
from tests.fakes import tracked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tracked.run_dir(tmp_path / "runs", *tracked.whole())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "was run without a tracker; name one, such as tracking=mlflow"),
        (["tracking=mlfow"], "Did you mean 'mlflow'?"),
        (["tracking=mlflow", "tracking.mlflow.urii=x"], "Did you mean 'uri'?"),
        (["one", "two", "tracking=mlflow"], "one run at a time"),
        (["registry:support@champion", "tracking=mlflow"], "is a model"),
    ],
)
def test_a_mistake_is_one_message(folder: Path, capsys: Any, words: list[str], message: str) -> None:
    assert cli.main(["track", *words]) == 2
    assert message in capsys.readouterr().err


def test_each_tracker_is_told_of(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def connect(config: Any, *_: Any) -> Any:
        def write(records: list[Any]) -> None:
            if config.uri.endswith("down"):
                raise TrackingError("no answer")
            given.extend(records)

        return SimpleNamespace(durable=True, write=write, close=lambda files: given.extend(files))

    monkeypatch.setattr(mlflow, "connect", connect)
    assert cli.main(["track", "tracking=mlflow", "tracking.mlflow.uri=http://ann:hidden@up"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"mlflow: runs/sft_qwen7b/{folder.name} is in http://up")
    assert "hidden" not in told.out + told.err
    assert len(given) > 60
    assert cli.main(["track", "tracking=mlflow", "tracking.mlflow.uri=http://down"]) == 1
    assert capsys.readouterr().err == "mlflow: no answer\n"
