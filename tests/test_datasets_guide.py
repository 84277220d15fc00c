"""The commands of docs/datasets.md can be planned, its recipe composes, its rows are of the forms that it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from largeforge.cli import main
from largeforge.data import formats

GUIDE = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
COMMANDS = re.findall(r"^python -m largeforge (\+recipe=.*)$", GUIDE, re.M)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "parts/more").mkdir(parents=True)
    pairs = "".join(json.dumps({"prompt": f"Question {n}?", "response": f"Answer {n}."}) + "\n" for n in range(9))
    for name in ("my.jsonl", "chats.jsonl", "parts/more/a.jsonl"):
        (tmp_path / name).write_text(pairs)
    (tmp_path / "more.csv").write_text("prompt,response\nHi,Hello\n")
    (tmp_path / "table.csv").write_text("question,reply\nHi,Hello\n")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(shlex.split(command)) == 0
    assert "warning: dataset" not in capsys.readouterr().out


def test_the_recipe_of_a_mixture_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"```yaml\n(# @package _global_.*?)```", GUIDE, re.S)
    (reader / "recipes").mkdir()
    (reader / "recipes" / "mixed.yaml").write_text(text)
    (reader / "parts/more/a.jsonl").write_text('{"question": "Hi", "reply": "Hello"}\n')
    assert main(["+recipe=mixed", "mode=plan"]) == 0
    out = capsys.readouterr().out
    assert "shop, tables, chats" in out
    assert "warning: dataset" not in out


def test_every_form_has_a_row_that_is_recognised() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\{.*?\})`[;,]? ", GUIDE, re.M)
    assert [form for form, _ in rows] == list(formats.FORMS)
    for form, text in rows:
        assert formats.recognise([json.loads(text)], formats.KINDS[form][0]) == form
