"""A sweep is complete without MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.recipe.schema import Registry
from largeforge.sweep import tracking
from largeforge.sweep.folder import About, Folder

if TYPE_CHECKING:
    import pytest


def test_a_database_that_cannot_be_made_is_a_word_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = Folder(tmp_path / "sweep")
    folder.describe(About("x", ("+recipe=x",), (), "loss", "minimize", 1, "abc"))
    told = tracking.record(folder, Registry(uri=f"sqlite:///{tmp_path}/file/mlflow.db"))
    assert "file" in told
    assert "Traceback" not in told


def test_without_mlflow_the_word_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert "largeforge[registry]" in tracking.record(Folder(tmp_path), Registry())
