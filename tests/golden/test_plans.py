"""Plans as data: one file per case, one runner. `UPDATE_GOLDEN=1 pytest tests/golden` writes them anew.

A file holds the words of a command line and the plan without what differs between machines:
the hardware is given on the command line; fingerprints and the digest are left out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.lock import portable
from largeforge.recipe.sources import choices
from largeforge.recipe.validate import validate

FOLDER = Path(__file__).parent / "plans"
CASES = sorted(FOLDER.glob("*.json"))


def planned(words):
    composition = compose(words)
    plan = make_plan(validate(composition), recipe_folder=composition.recipe_folder).as_dict()
    del plan["digest"]
    for stage in plan["stages"]:
        del stage["fingerprint"]
        if stage["kind"] == "register":
            del stage["config"]["recipe_digest"]
    return json.loads(json.dumps(portable(plan, composition.recipe_folder)))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plan(path, monkeypatch):
    monkeypatch.chdir(shipped_root())
    words = json.loads(path.read_text(encoding="utf-8"))["command"]
    found = planned(words)
    if os.environ.get("UPDATE_GOLDEN"):
        text = json.dumps({"command": words, "plan": found}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))["plan"]


def test_every_shipped_recipe_has_a_plan():
    commands = [json.loads(path.read_text(encoding="utf-8"))["command"] for path in CASES]
    planned_recipes = {word.removeprefix("+recipe=") for words in commands for word in words}
    assert set(choices("recipe")) <= planned_recipes
