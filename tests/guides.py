"""The commands and recipes that a page of docs/ shows, tried as a reader would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from largeforge.cli import main

if TYPE_CHECKING:
    import pytest


def page(name: str) -> str:
    """Return the text of a page."""
    return (Path(__file__).parents[1] / "docs" / f"{name}.md").read_text()


def commands(text: str) -> list[str]:
    """Return what follows `python -m largeforge` on a page, of commands that run a recipe."""
    return re.findall(r"^python -m largeforge (\+recipe=.*)$", text.replace("\\\n", ""), re.M)


def recipes(text: str) -> list[str]:
    """Return the whole recipes of a page."""
    return [found for found in re.findall(r"```yaml\n(.*?)```", text, re.S) if found.startswith("# @package")]


def planned(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Plan a command, which must succeed; return what is printed."""
    assert main([*shlex.split(command, comments=True), "mode=plan"]) == 0, capsys.readouterr()
    return capsys.readouterr().out


def planned_recipe(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Plan a recipe of a page from a working directory."""
    name = yaml.safe_load(text)["name"]
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / f"{name}.yaml").write_text(text)
    return planned(f"+recipe={name}", capsys)
