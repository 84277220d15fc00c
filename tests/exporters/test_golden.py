"""Exports as files: one folder for each recipe and form. `UPDATE_GOLDEN=1 pytest tests/exporters/test_golden.py` writes
them anew. LargeForge's own version, which stands in the name of the gateway's image, is left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import largeforge
from tests.exporters.exports import export

FOLDER = Path(__file__).parent / "golden"
RECIPES = ("serve_gpt_oss_20b", "serve_gpt_oss_120b")


@pytest.mark.parametrize("kind", ["kubernetes", "compose"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_export(recipe: str, kind: str) -> None:
    files = {
        name: text.replace(largeforge.__version__, "VERSION")
        for name, text in export(f"+recipe={recipe}", f"export={kind}").files.items()
    }
    folder = FOLDER / recipe / kind
    if os.environ.get("UPDATE_GOLDEN"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    assert files == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
