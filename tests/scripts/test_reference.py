"""The generated page says of every field what the models say."""

from __future__ import annotations

from pathlib import Path

from largeforge.recipe.schema import Recipe
from scripts.reference.configuration import page, summary

ROOT = Path(__file__).resolve().parents[2]


def test_every_field_and_every_choice_is_on_the_page() -> None:
    text = page(ROOT)
    assert all(f"| `{name}` |" in text for name in Recipe.model_fields)
    assert all(f"| `{path.stem}` |" in text for path in (ROOT / "conf").rglob("*/*.yaml"))


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
