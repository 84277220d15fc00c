"""What the README tells a user to type is accepted; the end-to-end tier runs it for real."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def shown() -> list[str]:
    """Return the `python -m largeforge` commands of the README and of the headers of all recipes."""
    pages = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*.yaml"))]
    text = "\n".join(path.read_text().replace("\\\n", " ") for path in pages)
    return sorted({" ".join(line.split()) for line in re.findall(r"^(?:#   )?(python -m largeforge.*)$", text, re.M)})


@pytest.mark.parametrize("command", shown())
def test_a_command_that_is_shown_can_be_planned(command: str, tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 3)
    (tmp_path / "preferences.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3)
    words = [sys.executable, *shlex.split(command)[1:]]
    if len(words) > 3 and "mode=plan" not in words:
        words.append("mode=plan")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "to do" in result.stdout or "+recipe=NAME" in result.stdout


def test_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"`((?:docs|scripts|recipes|conf|largeforge)/[\w./]*\w)`", text)
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists() and name != "recipes/mine.yaml"] == []
