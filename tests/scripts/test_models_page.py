"""The page of models says what the library holds."""

from __future__ import annotations

from pathlib import Path

import yaml

from largeforge.recipe.schema import Model
from scripts.reference.models import page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_one_that_would_be_written() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == page(ROOT), "run scripts/generate_docs"


def test_a_row_has_parameters_memory_and_licence() -> None:
    row = next(line for line in page(ROOT).splitlines() if line.startswith("| `gpt_oss_20b`"))
    assert all(cell in row for cell in ("20.91 B", "3.61 B", "39.0 GiB", "12.8 GiB", "131072", "Apache-2.0"))


def test_the_example_of_a_new_model_is_one() -> None:
    example = page(ROOT).partition("```yaml\n")[2].partition("```")[0]
    assert Model.model_validate(yaml.safe_load(example)).architecture is not None
