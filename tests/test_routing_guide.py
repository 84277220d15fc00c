"""The commands and recipes of docs/routing.md can be planned, its rows are read, and it names every router."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from largeforge.gateway.examples import example
from largeforge.recipe import extensions
from tests.guides import commands, page, planned, planned_recipe, recipes

GUIDE = page("routing")
COMMANDS, RECIPES = commands(GUIDE), recipes(GUIDE)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("general", "mapper", "support", "more", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "Hello", "expert": "general"}\n')
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    planned(command, capsys)


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: yaml.safe_load(text)["name"])
def test_a_recipe_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    planned_recipe(text, reader, capsys)


def test_rows_are_read_as_they_are_shown() -> None:
    (block,) = (text for text in re.findall(r"```\n(\{.*?)```", GUIDE, re.S))
    rows = [example(json.loads(line)) for line in block.splitlines()]
    assert [expert for _, expert in rows] == ["support", "mapper", "support"]
    assert rows[2][0].headers == [(b"x-plan", b"gold")]


def test_every_router_is_listed() -> None:
    table = GUIDE.partition("## Routers")[2].partition("A router may")[0]
    assert all(f"| `{name}` |" in table for name in extensions.names("router"))
