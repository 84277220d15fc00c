"""A working directory with recipes of its own, and the problems that a recipe has."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

TRAINS = """\
# @package _global_
# One job.
defaults:
  - /model: qwen2_5_7b_instruct
  - /dataset: jsonl
  - /method: sft
  - /adapter: lora
  - /evaluation: loss
  - override /hardware: rtx_4090
  - _self_
name: mine
dataset:
  path: rows.jsonl
"""

SERVES = """\
# @package _global_
# One expert.
defaults:
  - /topology: single
  - /router: keyword
  - _self_
name: mine
topology:
  experts:
    general:
      model: path:/models/a
"""


class Folder:
    """A working directory; `write` a recipe, then look at its `problems` or its `recipe`."""

    trains, serves = TRAINS, SERVES

    def __init__(self, path):
        self.path = path

    def write(self, text, name="mine", folder="recipes"):
        file = self.path / folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            file.write_bytes(text)
        else:
            file.write_text(text, encoding="utf-8")
        return file

    def composed(self, *overrides, name="mine"):
        return compose([f"+recipe={name}", *overrides])

    def recipe(self, *overrides, name="mine"):
        return validate(self.composed(*overrides, name=name))

    def problems(self, *overrides, name="mine"):
        with pytest.raises(RecipeError) as caught:
            self.recipe(*overrides, name=name)
        return caught.value.problems


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)
