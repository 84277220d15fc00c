"""The generated page says of every field what the models say."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Literal

from largeforge.recipe import folders, sources
from largeforge.recipe.base import Extension, Strict
from largeforge.recipe.schema import Recipe
from scripts.reference import commands
from scripts.reference.configuration import all_models, first_line, page, summary, undocumented

ROOT = Path(__file__).resolve().parents[2]


def test_every_field_and_every_choice_is_on_the_page() -> None:
    text = page(ROOT)
    for model in all_models():
        assert first_line(model) in text or issubclass(model, Extension | Recipe), model
        for name, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            rows = [row for row in text.splitlines() if row.startswith(f"| `{name}` |") and meaning in row]
            assert rows or (name == "name" and issubclass(model, Extension)), (model, name)
    for group in sources.groups():
        assert f"### `{group}`" in text
        assert all(f"| `{name}` |" in text for name in sources.choices(group))


def test_a_field_without_a_docstring_is_found() -> None:
    class Inner(Strict):
        """Inside."""

        depth: int = 0

    class Config(Extension):
        """Settings."""

        name: Literal["a"] = "a"
        clear: int = 0
        """What it means."""
        vague: int = 0

    assert undocumented([Config, Inner]) == [f"{__name__}.Config.vague", f"{__name__}.Inner.depth"]
    assert undocumented(all_models()) == []


def test_every_command_and_option_is_on_the_page() -> None:
    text = commands.page()
    for name in folders.commands():
        command = import_module(f"largeforge.commands.{name.replace('-', '_')}")
        parser = argparse.ArgumentParser(add_help=False)
        command.add_arguments(parser)
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert command.__doc__.partition("\n")[0] in section
        parsers = [parser]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                assert all(f"### {name} {choice}\n" in section for choice in action.choices)
                parsers += action.choices.values()
        for action in (action for each in parsers for action in each._actions):
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
                assert all(option in section for option in action.option_strings)
                assert action.help, f"{name}: {action.dest} has no help"
                assert action.help in section


def test_a_field_has_its_type_range_default_and_meaning() -> None:
    text = page(ROOT)
    assert "| `learning_rate` | number, > 0 | `2e-05` | Peak learning rate. |" in text
    assert "| `mode` | `run` or `plan` | `run` | `plan` prints what would be done and stops. |" in text
    assert "| `experts` | name → [Expert](#expert), not empty | required |" in text


def test_the_summary_of_a_file_is_the_first_sentence_of_its_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# @package _global_\n# Rows of config.json,\n# on two lines. More.\n#\n# Other.\nname: a\n")
    assert summary(path) == "Rows of config.json, on two lines."
    path.write_text("name: a\n")
    assert summary(path) == ""
