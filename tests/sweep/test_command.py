"""`python -m largeforge -m … mode=plan` and `leaderboard`, by what they print and how they exit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_training import SMALL, rows
from tests.in_process import largeforge


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.yaml").write_text(SMALL)
    (tmp_path / "words.jsonl").write_text(rows(20))
    return tmp_path


def test_every_trial_is_planned_and_wrong_ones_are_named_once(own: Path) -> None:
    words = ["-m", "+recipe=small", "method.max_steps=11,many,22", "seed=range(0,2)", "sweep.jobs=2"]
    ended = largeforge(*words, "mode=plan", cwd=own)
    assert ended.returncode == 2
    assert "small: 6 trials, to minimize vs_base.loss; 2 at a time" in ended.stdout
    assert ended.stdout.count("to run") == 4
    assert "2 of 6 trials are invalid and will not run" in ended.stderr
    assert "#002, #003: command line: method.max_steps = 'many': should be a valid integer" in ended.stderr
    assert "Run it: python -m largeforge -m +recipe=small method.max_steps=11,many,22" in ended.stdout
    assert not (own / "runs").exists()


def test_a_sweep_of_wrong_values_alone_is_a_wrong_command_line(own: Path) -> None:
    ended = largeforge("-m", "+recipe=small", "method.max_steps=few,many", cwd=own)
    assert ended.returncode == 2
    assert "none of the trials is valid" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (own / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep.objective=los"], "sweep.objective = 'los': no trial measures it"),
        (["method.learning_rate=interval(1e-4,1e-2)"], "choose some with sweep=optuna"),
        (["sweep=optuma"], "Did you mean 'optuna'?"),
        (["sweep.jobs=many"], "sweep.jobs"),
    ],
)
def test_what_is_wrong_with_the_sweep_itself_is_one_message(own: Path, words: list[str], message: str) -> None:
    ended = largeforge("-m", "+recipe=small", "seed=1,2", *words, "mode=plan", cwd=own)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_optuna_checks_every_value_before_it_begins(own: Path) -> None:
    words = ["-m", "+recipe=small", "sweep=optuna", "method.learning_rate=tag(log,interval(1e-4,1e-1))"]
    ended = largeforge(*words, "method.lr_scheduler_type=linear,cosinus", "mode=plan", cwd=own)
    assert ended.returncode == 2
    assert "small: 20 trials chosen by Optuna (tpe)" in ended.stdout
    assert "cosinus" in ended.stderr


def test_leaderboard_without_a_sweep_says_how_to_start_one(own: Path) -> None:
    ended = largeforge("leaderboard", cwd=own)
    assert ended.returncode == 1
    assert "python -m largeforge -m +recipe=NAME key=1,2" in ended.stderr
