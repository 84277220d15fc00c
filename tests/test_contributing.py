"""CONTRIBUTING.md is true: a method or a reward is one file and one YAML, and then it trains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_training import SMALL, rows

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of LargeForge with the files that CONTRIBUTING.md shows."""
    for name in ("largeforge", "conf", "recipes", "hosts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = re.findall(
        r"`((?:largeforge|conf)/[\w/.]+)`[^\n]*\n(?:[^`\n]*\n)*?\n```(?:python|yaml)\n(.*?)```", text, re.S
    )
    assert [name for name, _ in shown] == [
        "largeforge/methods/dft.py", "conf/method/dft.yaml", "largeforge/rewards/one_line.py",
        "conf/reward/one_line.yaml",
    ]  # fmt: skip
    for name, content in shown:
        (tmp_path / name).write_text(content)
    (tmp_path / "recipes" / "small.yaml").write_text(SMALL)
    (tmp_path / "words.jsonl").write_text(rows())
    return tmp_path


def largeforge(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "largeforge", *words]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)


def test_the_new_method_is_planned_and_its_settings_are_checked(copy: Path) -> None:
    planned = largeforge(copy, "+recipe=small", "method=dft", "mode=plan")
    assert "dft of tiny_general" in planned.stdout, planned.stderr
    typo = largeforge(copy, "+recipe=small", "method=dft", "method.learning_rat=1", "mode=plan")
    assert typo.returncode == 2
    assert "Did you mean 'learning_rate'?" in typo.stderr


def test_the_new_reward_is_planned_and_its_settings_are_checked(copy: Path) -> None:
    words = ["+recipe=small", "method=grpo", "+reward@method.rewards=[one_line]", "~evaluation", "~gates", "mode=plan"]
    planned = largeforge(copy, *words)
    assert planned.returncode == 0, planned.stderr
    assert "one_line" in planned.stdout
    typo = largeforge(copy, *words, "+method.rewards.one_line.stripp=true")
    assert typo.returncode == 2
    assert "Did you mean 'strip'?" in typo.stderr
    program = (
        "from largeforge.recipe import extensions, rewards; from tests.rewards.test_rewards import batch; "
        "config = extensions.load('reward', 'one_line').Config(); "
        "print(rewards.scores('one_line', config, batch('Yes.', 'Yes.\\nNo.')))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}"}
    scored = subprocess.run([sys.executable, "-c", program], cwd=copy, env=environment, capture_output=True, text=True)
    assert scored.stdout.strip() == "[1.0, 0.0]", scored.stderr


@pytest.mark.e2e
def test_the_new_method_trains(copy: Path) -> None:
    result = largeforge(copy, "+recipe=small", "method=dft", "~gates")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = json.loads(next(copy.glob("runs/small/*/evaluate/manifest.json")).read_text())
    assert manifest["metrics"]["vs_base.loss"] < -1
