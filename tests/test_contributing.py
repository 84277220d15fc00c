"""CONTRIBUTING.md is true: a method is one file and one YAML, and then it trains."""

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
    """A copy of LargeForge with the two files that CONTRIBUTING.md shows."""
    for name in ("largeforge", "conf", "recipes", "hosts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = re.findall(
        r"`((?:largeforge|conf)/[\w/.]+)`[^\n]*\n(?:[^`\n]*\n)*?\n```(?:python|yaml)\n(.*?)```", text, re.S
    )
    assert [name for name, _ in shown] == ["largeforge/methods/dft.py", "conf/method/dft.yaml"]
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


@pytest.mark.e2e
def test_the_new_method_trains(copy: Path) -> None:
    result = largeforge(copy, "+recipe=small", "method=dft", "~gates")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = json.loads(next(copy.glob("runs/small/*/evaluate/manifest.json")).read_text())
    assert manifest["metrics"]["vs_base.loss"] < -1
