"""The commands and recipes of docs/evaluation.md can be planned, and it names every evaluator and metric."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from largeforge.recipe import extensions
from largeforge.stages.own_rows import read_own_rows
from tests.guides import commands, page, planned, planned_recipe, recipes

GUIDE = page("evaluation")
COMMANDS, RECIPES = commands(GUIDE), recipes(GUIDE)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs = "".join(json.dumps({"prompt": f"Question {n}?", "response": f"Answer {n}."}) + "\n" for n in range(9))
    for name in ("my.jsonl", "old.jsonl", "unsafe.jsonl", "harmless.jsonl"):
        (tmp_path / name).write_text(pairs)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    planned(command, capsys)


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: yaml.safe_load(text)["name"])
def test_a_recipe_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert "gate" in planned_recipe(text, reader, capsys)


def test_rows_are_read_as_they_are_shown(tmp_path: Path) -> None:
    (block,) = (text for text in re.findall(r"```\n(\{.*?)```", GUIDE, re.S))
    (tmp_path / "rows.jsonl").write_text(block)
    rows = read_own_rows(tmp_path / "rows.jsonl")
    assert [row["source"] for row in rows] == [f"rows.jsonl:{number}" for number in range(1, 5)]
    assert rows[3]["prompt"] == [{"role": "user", "content": "Capital of Italy?"}]
    assert (rows[0]["answer"], rows[3]["answer"]) == ("", "B")


def test_every_evaluator_and_its_metrics_are_listed() -> None:
    table = GUIDE.partition("## What can be measured")[2].partition("Settings of each")[0]
    for name in extensions.names("evaluation"):
        assert f"`{name}`" in table
        assert all(metric in table for metric in extensions.load("evaluation", name).METRICS)
