"""The commands and recipes of docs/routing.md can be planned, its rows are read, and it names every router."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from largeforge.cli import main
from largeforge.gateway.examples import example
from largeforge.recipe import extensions

GUIDE = (Path(__file__).parents[1] / "docs" / "routing.md").read_text()
COMMANDS = re.findall(r"^python -m largeforge (\+recipe=\S+)", GUIDE, re.M)
RECIPES = [text for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.S) if text.startswith("# @package")]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("general", "mapper", "support", "more", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "Hello", "expert": "general"}\n')
    (tmp_path / "recipes").mkdir()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([*shlex.split(command), "mode=plan"]) == 0, capsys.readouterr()


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: yaml.safe_load(text)["name"])
def test_a_recipe_can_be_planned(reader: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    name = yaml.safe_load(text)["name"]
    (reader / "recipes" / f"{name}.yaml").write_text(text)
    assert main([f"+recipe={name}", "mode=plan"]) == 0, capsys.readouterr()


def test_rows_are_read_as_they_are_shown() -> None:
    (block,) = (text for text in re.findall(r"```\n(\{.*?)```", GUIDE, re.S))
    rows = [example(json.loads(line)) for line in block.splitlines()]
    assert [expert for _, expert in rows] == ["support", "mapper", "support"]
    assert rows[2][0].headers == [(b"x-plan", b"gold")]


def test_every_router_is_listed() -> None:
    table = GUIDE.partition("## Routers")[2].partition("A router may")[0]
    assert all(f"| `{name}` |" in table for name in extensions.names("router"))
