"""docs/boxes.md: its inventory is one, its recipe plans with it, and the commands that it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from largeforge.recipe import folders
from largeforge.recipe.sections.hosts import Hosts
from tests import guides

if TYPE_CHECKING:
    import pytest

TEXT = guides.page("boxes")


def test_its_inventory_trains_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (inventory,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    assert Hosts.model_validate(yaml.safe_load(inventory)).hosts["bellows"].num_gpus == 2
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts/lab.yaml").write_text(inventory)
    (tmp_path / "my.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 3)
    one, several = guides.commands(TEXT)
    assert "L40S" in guides.planned(one, capsys)
    assert "4 processes" in " ".join(guides.planned(several, capsys).split())


def test_the_commands_that_it_names_are_there() -> None:
    named = set(re.findall(r"python -m largeforge ([a-z]+)", TEXT)) | {"cancel"}
    assert named <= set(folders.commands()) and {"attach", "queue", "hosts"} <= named
