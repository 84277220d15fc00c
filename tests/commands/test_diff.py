"""`largeforge diff` as a user calls it: exit codes like diff's, tables, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from largeforge import artifacts
from largeforge.cli import main
from largeforge.recipe.lock import digest_of
from tests.fakes.recorded import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def test_a_run_and_its_recipe_are_the_same_until_the_recipe_changes(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.record()
    assert main(["diff", "latest:small", "small"]) == 0
    assert "The same lock" in capsys.readouterr().out
    assert main(["diff", "latest:small", "small seed=7"]) == 1
    assert "seed  42 → 7" in capsys.readouterr().out


def test_json_has_what_the_tables_have(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first = desk.record(loss=2.0)
    second = desk.record("method.max_steps=7", weights=b"other", loss=1.0)
    assert main(["diff", str(first), str(second), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["same_results"]) == (False, False)
    assert found["differences"][0]["key"] == "recipe.method.max_steps"
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert stages["train"]["weights_equal"] is False
    assert stages["evaluate"]["metrics"]["loss"] == {"a": 2.0, "b": 1.0, "delta": -1.0, "percent": -50.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smal", "small"], "nor is there such a recipe. Did you mean 'small'?"),
        (["small", "small sed=1"], "unknown key"),
        (["small", "registry:nothing"], "no model 'nothing' is registered"),
    ],
)
def test_what_cannot_be_compared_is_exit_code_2(
    desk: Desk, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["diff", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_lock_from_elsewhere_cannot_steer_the_terminal(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    lock = desk.plan().lock
    lock["recipe"]["description"] = "\x1b[2J [red]x"
    artifacts.write_json(desk.path / "theirs.json", {**lock, "digest": digest_of(lock)})
    assert main(["diff", "small", "theirs.json"]) == 1
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "[red]x" in out


def test_comparing_recipes_and_runs_imports_nothing_heavy(desk: Desk) -> None:
    desk.record()
    program = (
        "import sys\nfrom largeforge.cli import main\nmain(['diff', 'latest:small', 'small seed=7'])\n"
        "print([name for name in ('torch', 'mlflow', 'transformers', 'numpy') if name in sys.modules])"
    )
    path = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert ended.stdout.splitlines()[-1] == "[]"
