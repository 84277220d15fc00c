"""Entries are put into settings.json without touching what a user has there."""

from __future__ import annotations

import json

import pytest

from largeforge.scaffold.vscode import with_schemas

WANTED = {"./schemas/recipe.schema.json": "recipes/**/*.yaml", "./schemas/model.schema.json": "conf/model/**/*.yaml"}


@pytest.mark.parametrize("text", ["", "{}", "{\n}\n", '\ufeff{ "a": 1 }', '{\r\n\t"a": {"yaml.schemas": 3}\r\n}\r\n'])
def test_the_entries_are_there_and_nothing_is_lost(text: str) -> None:
    found = with_schemas(text, WANTED)
    data = json.loads(found.lstrip("\ufeff"))
    assert data.pop("yaml.schemas") == WANTED
    assert data == (json.loads(text.lstrip("\ufeff")) if text else {})


def test_comments_and_trailing_commas_stay() -> None:
    text = '{\n  // "yaml.schemas": {}\n  "editor.tabSize": 2, /* { */\n  "files.exclude": {"a//b": true,},\n}\n'
    found = with_schemas(text, WANTED)
    for line in text.splitlines():
        assert line in found.splitlines()
    assert found.count('"./schemas/recipe.schema.json": "recipes/**/*.yaml"') == 1


def test_entries_of_the_user_win_and_a_second_time_changes_nothing() -> None:
    text = '{"yaml.schemas": {"https://a/b.json": "x.yaml", "./schemas/recipe.schema.json": ["mine/*.yaml"]}}'
    found = with_schemas(text, WANTED)
    assert json.loads(found)["yaml.schemas"] == {
        "https://a/b.json": "x.yaml",
        "./schemas/recipe.schema.json": ["mine/*.yaml"],
        "./schemas/model.schema.json": "conf/model/**/*.yaml",
    }
    assert with_schemas(found, WANTED) == found


@pytest.mark.parametrize("text", ["[]", "{", '{"yaml.schemas": 3}', "{'a': 1}", '{"yaml.schemas": [}]', "not json"])
def test_a_file_that_cannot_be_added_to_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|closing"):
        with_schemas(text, WANTED)
